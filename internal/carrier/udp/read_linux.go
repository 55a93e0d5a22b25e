package udp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of one read.
const (
	// A joined run is up to 64 KiB, and eight of them are as much as one round
	// of the owner should take. Without joining a slot holds one datagram.
	slotsGRO, slotGRO     = 8, 64 << 10
	slotsPlain, slotPlain = 64, 2048
)

// arrival is one datagram in the slots.
type arrival struct {
	off, end int32
	msg      int32
}

// fromSlot remembers the sender last seen in a slot, as the kernel wrote it.
type fromSlot struct {
	name [nameSize]byte
	addr netip.AddrPort
}

func (b *batch) initRead() {
	count := slotsPlain
	b.slot = slotPlain
	if b.gro {
		count, b.slot = slotsGRO, slotGRO
	}
	b.slots = make([]byte, count*b.slot)
	b.in = make([]mmsghdr, count)
	b.inIovs = make([]unix.Iovec, count)
	b.inNames = make([]byte, count*nameSize)
	b.inCtl = make([]byte, count*ctlSize)
	b.froms = make([]fromSlot, count)
	b.got = make([]arrival, 0, count)
	for i := range b.in {
		h := &b.in[i].hdr
		b.inIovs[i].Base = &b.slots[i*b.slot]
		b.inIovs[i].SetLen(b.slot)
		h.Iov = &b.inIovs[i]
		h.SetIovlen(1)
		h.Name = &b.inNames[i*nameSize]
		h.Control = &b.inCtl[i*ctlSize]
		b.rearm(h)
	}
	b.tryRead = func(fd uintptr) { b.readN, b.readErr = recvmmsg(fd, b.in) }
	b.mayRead = func(fd uintptr) bool {
		b.tryRead(fd)
		return b.readErr != unix.EAGAIN
	}
}

// rearm sets what the kernel overwrites in a header that it fills.
func (b *batch) rearm(h *unix.Msghdr) {
	h.Namelen = nameSize
	h.Flags = 0
	if b.gro {
		h.SetControllen(ctlSize)
	}
}

// read implements Conn.Read. It answers pending wake-ups before it returns,
// so that what a waker did before Wake is seen by whatever the reader does
// next.
func (b *batch) read(wait time.Duration) (int, error) {
	if err := b.raw.Control(b.tryRead); err != nil {
		return 0, net.ErrClosed
	}
	if b.readErr != unix.EAGAIN || wait == 0 {
		b.pending.Store(false)
		return b.collect()
	}
	if wait > 0 {
		if err := b.timer.arm(wait); err != nil {
			return 0, err
		}
	}
	b.parked.Store(true)
	if b.pending.Load() {
		b.parked.Store(false)
		b.pending.Store(false)
		return 0, nil
	}
	err := b.raw.Read(b.mayRead)
	b.parked.Store(false)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Only Wake sets a deadline. One that comes late, after this line,
		// costs the next read a return in vain.
		err = b.file.SetReadDeadline(time.Time{})
		b.readN, b.readErr = 0, unix.EAGAIN
	}
	b.pending.Store(false)
	if err != nil {
		return 0, net.ErrClosed
	}
	return b.collect()
}

// wake implements Conn.Wake. Either the reader sees pending before it waits,
// or the waker sees parked and ends the wait.
func (b *batch) wake() {
	if b.pending.Swap(true) {
		return
	}
	if b.parked.CompareAndSwap(true, false) {
		_ = b.file.SetReadDeadline(longAgo) // fails only if closed, which wakes too
	}
}

var longAgo = time.Unix(1, 0)

// collect lists the datagrams of the messages that the last system call
// filled.
func (b *batch) collect() (int, error) {
	b.got = b.got[:0]
	if b.readErr != 0 {
		return 0, b.readFailed(b.readErr)
	}
	b.failed = 0
	for i := range b.in[:b.readN] {
		m := &b.in[i]
		size := 0
		if b.gro {
			size = getSegment(b.inCtl[i*ctlSize : i*ctlSize+int(m.hdr.Controllen)])
		}
		if m.hdr.Flags&unix.MSG_TRUNC != 0 {
			b.c.count.truncated.Add(1)
		} else {
			b.split(i, int(m.n), size)
		}
		if f := &b.froms[i]; m.hdr.Namelen > 0 && string(f.name[:]) != string(b.inNames[i*nameSize:(i+1)*nameSize]) {
			f.name = [nameSize]byte(b.inNames[i*nameSize:])
			f.addr = b.zones.getName(f.name[:])
		}
		b.rearm(&m.hdr)
	}
	b.c.count.reads.Add(1)
	b.c.count.received.Add(uint64(len(b.got)))
	return len(b.got), nil
}

// split lists the n bytes in slot i, as datagrams of size bytes, the last
// perhaps shorter; size 0 is one datagram.
func (b *batch) split(i, n, size int) {
	off := int32(i * b.slot)
	if size <= 0 || size >= n {
		b.got = append(b.got, arrival{off: off, end: off + int32(n), msg: int32(i)})
		return
	}
	for end := off + int32(n); off < end; off += int32(size) {
		b.got = append(b.got, arrival{off: off, end: min(off+int32(size), end), msg: int32(i)})
	}
}

func (b *batch) readFailed(errno unix.Errno) error {
	if errno == unix.EAGAIN {
		return nil
	}
	if fatal(errno) {
		return errno
	}
	b.c.count.readErrors.Add(1)
	if b.failed++; b.failed > failMax {
		time.Sleep(failPause)
	}
	return nil
}

func (b *batch) at(i int) ([]byte, netip.AddrPort) {
	a := b.got[i]
	return b.slots[a.off:a.end:a.end], b.froms[a.msg].addr
}
