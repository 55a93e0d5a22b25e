package stream

import (
	"math/bits"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Bounds of reassembly. A peer that begins messages and never ends them costs
// a session inboxBytes of buffers, for partialLife.
const (
	// partialLife is how long a message may lack a fragment: while the sender
	// sends it again, and a second on the way.
	partialLife = messageLife + time.Second
	inboxBytes  = 1 << 20
	inboxCount  = 256
	// partialPieces bounds the gaps of a message. One of the greatest size in
	// full packets, every second one missing, has 33; only a peer that cuts its
	// fragments small on purpose has more.
	partialPieces = 128
	// inboxWindow is how far apart in number two messages may be of which the
	// later comes first: twice what an outbox holds.
	inboxWindow = 2 * outboxCount
)

// inbox is the messages of the peer that are being put together.
type inbox struct {
	top      uint64                   // numbers from here on were not seen
	done     [inboxWindow / 64]uint64 // of [top-inboxWindow, top): delivered or given up
	partials []*partial               // in order of their first fragment
	bytes    int                      // of all buffers
	spare    []*partial
}

// partial is one message being put together.
type partial struct {
	number, flow uint64
	since        machine.Time
	b            []byte
	have         spans
	size         int // -1: the end was not seen
}

// spareBuffers bounds the buffers kept for the next messages.
const spareBuffers = 8

// wanted reports whether a message was neither delivered nor given up, and
// moves the window up to its number.
func (in *inbox) wanted(number uint64) bool {
	if number >= in.top {
		if number-in.top >= inboxWindow {
			clear(in.done[:])
			in.top = number + 1
		}
		for ; in.top <= number; in.top++ {
			in.done[in.top/64%(inboxWindow/64)] &^= 1 << (in.top % 64)
		}
		return true
	}
	return in.top-number <= inboxWindow && in.done[number/64%(inboxWindow/64)]>>(number%64)&1 == 0
}

func (in *inbox) setDone(number uint64) {
	if in.top-number <= inboxWindow {
		in.done[number/64%(inboxWindow/64)] |= 1 << (number % 64)
	}
}

func (in *inbox) find(number uint64) *partial {
	for i := len(in.partials) - 1; i >= 0; i-- {
		if p := in.partials[i]; p.number == number {
			return p
		}
	}
	return nil
}

// remove is done with a partial: its number is not wanted any more.
func (in *inbox) remove(p *partial) {
	in.setDone(p.number)
	i := 0
	for in.partials[i] != p {
		i++
	}
	in.partials = append(in.partials[:i], in.partials[i+1:]...)
	if len(in.spare) < spareBuffers {
		in.spare = append(in.spare, p)
	} else {
		in.bytes -= cap(p.b)
	}
}

// openPartial begins a message.
func (s *Session) openPartial(now machine.Time, number, flow uint64) *partial {
	in := s.inbox()
	if len(in.partials) == inboxCount {
		s.giveUpPartial(in.partials[0])
	}
	var p *partial
	if n := len(in.spare); n > 0 {
		p, in.spare = in.spare[n-1], in.spare[:n-1]
	} else {
		p = &partial{}
	}
	*p = partial{number: number, flow: flow, since: now, b: p.b[:0], have: p.have[:0], size: -1}
	in.partials = append(in.partials, p)
	return p
}

func (s *Session) giveUpPartial(p *partial) {
	s.inbox().remove(p)
	s.counts[trace.FragmentError]++
}

// growPartial makes room for end bytes; older messages give way.
func (s *Session) growPartial(p *partial, end int) {
	if end <= len(p.b) {
		return
	}
	if end > cap(p.b) {
		in := s.inbox()
		size := min(max(2<<10, 1<<bits.Len(uint(end-1))), wire.MaxMessageSize)
		for in.bytes-cap(p.b)+size > inboxBytes {
			switch n := len(in.spare); {
			case n > 0:
				in.bytes -= cap(in.spare[n-1].b)
				in.spare = in.spare[:n-1]
			case in.partials[0] != p:
				s.giveUpPartial(in.partials[0])
			default:
				s.giveUpPartial(in.partials[1])
			}
		}
		old := p.b
		p.b = make([]byte, len(old), size)
		in.bytes += cap(p.b) - cap(old)
		copy(p.b, old)
	}
	p.b = p.b[:end]
}

// expirePartials gives up the messages that lack something for too long.
func (s *Session) expirePartials(now machine.Time) {
	for in := s.inbox(); in != nil && len(in.partials) > 0 && now >= in.partials[0].since.Add(partialLife); {
		s.giveUpPartial(in.partials[0])
	}
}

// expiryAt is when expirePartials has work.
func (in *inbox) expiryAt() machine.Time {
	if in == nil || len(in.partials) == 0 {
		return machine.Never
	}
	return in.partials[0].since.Add(partialLife)
}

// handleMessage takes a MESSAGE frame. It reports false if the session failed.
func (s *Session) handleMessage(now machine.Time, f *wire.MessageFrame) bool {
	st, ok := s.peerStream(now, f.Flow)
	if st == nil {
		return ok || s.failFrame(now, "message of a flow that was never opened")
	}
	if st.in.flags&inStopped != 0 {
		return true
	}
	if s.messages == nil {
		s.messages = &messages{}
	}
	in := s.inbox()
	if !in.wanted(f.Number) {
		return true
	}
	p := in.find(f.Number)
	if p == nil && f.End && f.Offset == 0 {
		in.setDone(f.Number)
		s.deliverMessage(st, f.Data)
		return true
	}
	if p == nil {
		p = s.openPartial(now, f.Number, f.Flow)
	}
	end := f.Offset + len(f.Data)
	if f.End && p.size < 0 {
		p.size = end
	}
	if p.flow != f.Flow || f.End && end != p.size || p.size >= 0 && max(end, len(p.b)) > p.size {
		return s.failFrame(now, "fragments of a message that do not agree")
	}
	s.growPartial(p, end)
	copy(p.b[f.Offset:], f.Data)
	p.have.add(uint64(f.Offset), uint64(end))
	switch {
	case p.size >= 0 && p.have[0] == (span{0, uint64(p.size)}):
		s.deliverMessage(st, p.b)
		in.remove(p)
	case len(p.have) > partialPieces:
		s.giveUpPartial(p)
	}
	return true
}

// deliverMessage puts a whole message to the datagrams of its flow.
func (s *Session) deliverMessage(st *stream, b []byte) {
	s.counts[trace.MessageReassembled]++
	s.deliverDatagram(st, b)
}

// trim gives back the memory that only busy messages need. What is done stays
// known.
func (in *inbox) trim() {
	if in != nil && len(in.partials) == 0 {
		in.partials, in.spare, in.bytes = nil, nil, 0
	}
}
