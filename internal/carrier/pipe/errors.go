package pipe

import "errors"

var errClosed = errors.New("the connection is closed")
