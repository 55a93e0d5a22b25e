//go:build !unix

package daemon

import "time"

// userTime is not known here.
func userTime() (time.Duration, bool) { return 0, false }
