package ledger

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync makes what was written durable, with as much of the file's state as is
// needed to read it.
func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
