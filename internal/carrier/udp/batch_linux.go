package udp

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// batch moves batches by recvmmsg and sendmmsg. Reading and waiting are in
// read_linux.go, sending in write_linux.go.
type batch struct {
	c      *Conn
	file   *os.File        // the socket
	raw    syscall.RawConn // of file
	family int             // of the socket: unix.AF_INET or AF_INET6
	zones  zones

	// Reading; owned by the reader.
	gro     bool
	slots   []byte // slotCount × slotSize
	slot    int    // size of one slot
	in      []mmsghdr
	inIovs  []unix.Iovec
	inNames []byte
	inCtl   []byte
	got     []arrival // the datagrams of the last read
	froms   []fromSlot
	readN   int
	readErr unix.Errno
	failed  int // reads in a row
	tryRead func(fd uintptr)
	mayRead func(fd uintptr) bool

	// Waiting.
	pending atomic.Bool // a wake-up that no read has answered yet
	parked  atomic.Bool // the reader waits, or is about to
	timer   *timer

	// Sending; owned by the writer.
	gso      bool
	refused  int // messages in a row whose segmentation the kernel refused
	out      []mmsghdr
	outIovs  []unix.Iovec
	outNames []byte
	outCtl   []byte
	part     []mmsghdr // what the next sendmmsg is to send
	writeN   int
	writeErr unix.Errno
	tryWrite func(fd uintptr)
	mayWrite func(fd uintptr) bool
}

// newBatch takes the socket over from sock, unless the system lacks the batch
// calls.
func newBatch(c *Conn, sock *net.UDPConn, mode Mode) (backend, error) {
	b := &batch{c: c}
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	var probed error
	if err := raw.Control(func(fd uintptr) { probed = b.probe(fd, mode) }); err != nil {
		return nil, err
	}
	if probed != nil {
		return nil, probed
	}
	// As an os.File the socket wakes its reader without an allocation, which
	// net.UDPConn makes for the error of each deadline.
	if b.file, err = asFile(raw); err != nil {
		return nil, err
	}
	if b.raw, err = b.file.SyscallConn(); err == nil {
		b.timer, err = newTimer(b.wake)
	}
	if err != nil {
		b.file.Close()
		return nil, err
	}
	sock.Close()
	if mode == Offload && !b.gso && !b.gro {
		c.mode.Store(uint32(Batch))
	}
	b.initRead()
	b.initWrite()
	return b, nil
}

func asFile(raw syscall.RawConn) (*os.File, error) {
	var file *os.File
	var err error
	controlErr := raw.Control(func(fd uintptr) {
		var own int
		if own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			file = os.NewFile(uintptr(own), "udp")
		}
	})
	return file, errors.Join(controlErr, err)
}

// probe finds out what the socket can do.
func (b *batch) probe(fd uintptr, mode Mode) (err error) {
	// Calls for no message at all tell whether the calls exist.
	if _, errno := recvmmsg(fd, nil); errno != 0 {
		return errno
	}
	if _, errno := sendmmsg(fd, nil); errno != 0 {
		return errno
	}
	if b.family, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return err
	}
	if mode == Offload {
		b.gro = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		b.gso = err == nil
	}
	return nil
}

// forceBuffers sets the kernel buffers beyond the system's limit, which only a
// privileged process may do.
func forceBuffers(sock *net.UDPConn, size int) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size)
	})
}

func (b *batch) close() error {
	err := b.file.Close()
	b.timer.close()
	return err
}

// control messages: struct cmsghdr, [length size_t][level 4][type 4], then the
// value, aligned.
const ctlHeader = unix.SizeofCmsghdr

var (
	ctlSize     = unix.CmsgSpace(4) // room for one value of up to 4 bytes
	ctlLenBytes = ctlHeader - 8     // size_t
)

// putSegment writes the control message that asks for segments of size bytes.
func putSegment(b []byte, size int) {
	clear(b)
	if ctlLenBytes == 8 {
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(2)))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(unix.CmsgLen(2)))
	}
	binary.NativeEndian.PutUint32(b[ctlLenBytes:], unix.IPPROTO_UDP)
	binary.NativeEndian.PutUint32(b[ctlLenBytes+4:], unix.UDP_SEGMENT)
	binary.NativeEndian.PutUint16(b[ctlHeader:], uint16(size))
}

// getSegment reads the segment size from the control message of a joined run,
// or 0 if there is none.
func getSegment(b []byte) int {
	if len(b) < ctlHeader+4 ||
		binary.NativeEndian.Uint32(b[ctlLenBytes:]) != unix.IPPROTO_UDP ||
		binary.NativeEndian.Uint32(b[ctlLenBytes+4:]) != unix.UDP_GRO {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(b[ctlHeader:])))
}
