package udp

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sendWait is how long a batch waits for room in the socket's buffer
	// before what is left of it is dropped: a wire at 10 Mbit/s carries a
	// batch in less.
	sendWait = 200 * time.Millisecond
	// refusedMax is after how many refusals in a row segmentation is given up
	// for good. A single refusal may be one path's (its MTU is too small).
	refusedMax = 16
)

func (b *batch) initWrite() {
	b.out = make([]mmsghdr, sendMax)
	b.outIovs = make([]unix.Iovec, sendMax)
	b.outNames = make([]byte, sendMax*nameSize)
	b.outCtl = make([]byte, sendMax*ctlSize)
	for i := range b.out {
		h := &b.out[i].hdr
		h.Iov = &b.outIovs[i]
		h.SetIovlen(1)
		h.Name = &b.outNames[i*nameSize]
	}
	b.tryWrite = func(fd uintptr) { b.writeN, b.writeErr = sendmmsg(fd, b.part) }
	b.mayWrite = func(fd uintptr) bool {
		b.tryWrite(fd)
		return b.writeErr != unix.EAGAIN
	}
}

// flush sends runs as segmented messages while the socket does that, and the
// rest one message a datagram.
func (b *batch) flush(w *writer) error {
	runs := w.runs
	for b.gso && len(runs) > 0 {
		n := b.fillRuns(w.buf, runs)
		done, err := b.send(n, runs)
		if err != nil {
			return err
		}
		if runs = runs[done:]; done < n {
			if err := b.sendSingly(w.buf, runs[:1]); err != nil {
				return err
			}
			runs = runs[1:]
		}
	}
	if len(runs) == 0 {
		return nil
	}
	return b.sendSingly(w.buf, runs)
}

// fillRuns makes one message of each run.
func (b *batch) fillRuns(buf []byte, runs []run) int {
	for i := range runs {
		r := &runs[i]
		b.fill(i, buf[r.off:r.end], b.zones.putName(b.outNames[i*nameSize:(i+1)*nameSize], r.to, b.family), r.size, r.count)
	}
	return len(runs)
}

func (b *batch) fill(i int, p []byte, nameLen, size, count int) {
	h := &b.out[i].hdr
	b.outIovs[i].SetLen(len(p))
	b.outIovs[i].Base = nil
	if len(p) > 0 {
		b.outIovs[i].Base = &p[0]
	}
	h.Namelen = uint32(nameLen)
	if count == 1 {
		h.Control = nil
		h.SetControllen(0)
		return
	}
	ctl := b.outCtl[i*ctlSize : (i+1)*ctlSize]
	putSegment(ctl, size)
	h.Control = &ctl[0]
	h.SetControllen(len(ctl))
}

// sendSingly sends every datagram of the runs as its own message.
func (b *batch) sendSingly(buf []byte, runs []run) error {
	n := 0
	for i := range runs {
		r := &runs[i]
		for k := range r.count {
			off := r.off + k*r.size
			name := b.outNames[n*nameSize : (n+1)*nameSize]
			b.fill(n, buf[off:min(off+r.size, r.end)], b.zones.putName(name, r.to, b.family), r.size, 1)
			n++
		}
	}
	_, err := b.send(n, nil)
	return err
}

// send sends the first n messages. A message that fails is dropped and
// counted, and the rest goes on; but send stops at a message whose
// segmentation is refused, and returns its index. runs, if not nil, are the
// runs of the messages.
func (b *batch) send(n int, runs []run) (done int, err error) {
	datagrams := func(from, to int) (count uint64) {
		if runs == nil {
			return uint64(to - from)
		}
		for _, r := range runs[from:to] {
			count += uint64(r.count)
		}
		return count
	}
	for retried := false; done < n; {
		b.part = b.out[done:n]
		if err := b.raw.Control(b.tryWrite); err != nil {
			return done, net.ErrClosed
		}
		if b.writeErr == unix.EAGAIN {
			if err := b.awaitRoom(); err != nil {
				return done, err
			}
		}
		b.c.count.writes.Add(1)
		switch {
		case b.writeErr == 0:
			b.c.count.sent.Add(datagrams(done, done+b.writeN))
			done += b.writeN
			if runs != nil {
				b.refused = 0
			}
			retried = false
		case b.writeErr == unix.EAGAIN:
			b.c.count.sendDropped.Add(datagrams(done, n))
			return n, nil
		case runs != nil && runs[done].count > 1 && b.segmentRefused(b.writeErr):
			return done, nil
		case b.writeErr == unix.ECONNREFUSED && !retried:
			retried = true // the answer to an earlier datagram: this one was not tried
		case fatal(b.writeErr):
			return done, b.writeErr
		default:
			b.c.count.sendDropped.Add(datagrams(done, done+1))
			done++
			retried = false
		}
	}
	return done, nil
}

// awaitRoom sends again when the socket has room, at most sendWait later.
func (b *batch) awaitRoom() error {
	if err := b.file.SetWriteDeadline(time.Now().Add(sendWait)); err != nil {
		return net.ErrClosed
	}
	b.writeErr = unix.EAGAIN
	err := b.raw.Write(b.mayWrite)
	if err != nil && b.file.SetWriteDeadline(time.Time{}) != nil {
		return net.ErrClosed
	}
	return nil
}

// segmentRefused decides whether a segmented message failed for being
// segmented, and gives segmentation up where it has no future: EIO means that
// the network card cannot fill in the checksums.
func (b *batch) segmentRefused(errno unix.Errno) bool {
	switch errno {
	case unix.EIO, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOPROTOOPT:
		b.refused = refusedMax
	case unix.EINVAL, unix.EMSGSIZE:
		b.refused++
	default:
		return false
	}
	if b.refused >= refusedMax {
		b.gso = false
		b.c.mode.Store(uint32(Batch))
	}
	return true
}
