//go:build unix

package daemon

import (
	"time"

	"golang.org/x/sys/unix"
)

// userTime is the processor time that this process has spent in its own code.
func userTime() (time.Duration, bool) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano()), true
}
