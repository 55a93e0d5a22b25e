package udp

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// A socket whose reads fail failMax times in a row is read again only after
// failPause, so that a lasting trouble (no memory, an interface gone) does not
// take a whole processor.
const (
	failMax   = 16
	failPause = time.Millisecond
)

// fatal reports whether a socket that returned err is of no more use. Errors
// that tell of earlier datagrams, of one destination or of a full buffer
// belong to the weather and are not.
func fatal(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	var errno syscall.Errno
	return errors.As(err, &errno) && (errno == syscall.EBADF || errno == syscall.ENOTSOCK || errno == syscall.EFAULT)
}
