package udp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is the only one with unsafe, for one reason: golang.org/x/sys has
// no recvmmsg and sendmmsg, and the batch calls of golang.org/x/net allocate
// an address for every message that they read.

// mmsghdr is struct mmsghdr of recvmmsg(2): a message and the number of bytes
// that were moved. Its pointers are ordinary Go pointers into memory that
// belongs to the same batch and does not move.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// recvmmsg fills messages with what has arrived, without waiting, and returns
// how many it filled.
func recvmmsg(fd uintptr, msgs []mmsghdr) (int, unix.Errno) {
	return mmsg(unix.SYS_RECVMMSG, fd, msgs)
}

// sendmmsg sends messages until one fails and returns how many went out. It
// returns an error only if the first failed.
func sendmmsg(fd uintptr, msgs []mmsghdr) (int, unix.Errno) {
	return mmsg(unix.SYS_SENDMMSG, fd, msgs)
}

func mmsg(call, fd uintptr, msgs []mmsghdr) (int, unix.Errno) {
	for {
		n, _, errno := unix.Syscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(msgs))),
			uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}
