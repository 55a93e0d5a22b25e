package rogue

import (
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/wire"
)

// Vice is what a Relay does to what it should pass on. The zero Vice is honest.
type Vice struct {
	Tamper bool // changes every cell on its way back
	// TamperOut is the share of cells on their way out, in percent, that it changes.
	TamperOut int
	// Out, Back and Setups are the shares of cells and of frames of set-ups, in
	// percent, that it drops without a word.
	Out, Back, Setups int
	Delay             time.Duration // it keeps every cell this much longer
	Replay            bool          // it sends every cell twice
	Anew              bool          // it seals every cell on its way back twice
}

// Relay is a Mix node with a vice. It stands around the honest one (see
// lab.Plan.Wrap).
type Relay struct {
	*relay.Relay
	Vice

	dice *prng.Stream
	held machine.Timers[late]
}

type late struct {
	to    link.ID
	frame *wire.Frame
}

// NewRelay returns an honest relay that may become another.
func NewRelay(r *relay.Relay, dice *prng.Stream) *Relay { return &Relay{Relay: r, dice: dice} }

// Unwrap returns the honest relay.
func (r *Relay) Unwrap() machine.Machine { return r.Relay }

// HandleDatagram takes a datagram from a neighbour.
func (r *Relay) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	id, frame, ok := r.Links.HandleDatagram(now, from, b)
	if !ok {
		return
	}
	if r.Tamper && wire.FrameType(frame[0]) == wire.FrameBack {
		frame[wire.CellOffset+100] ^= 1
	}
	if r.Anew && wire.FrameType(frame[0]) == wire.FrameBack {
		twice := *(*[wire.LinkPayloadSize]byte)(frame)
		r.Table.HandleFrame(now, id, twice[:])
		r.Table.ForgetBack(id, wire.FrameRouteID(frame))
	}
	r.Table.HandleFrame(now, id, frame)
}

// HandleOpened takes a datagram of a batch, which nobody opened before its turn.
func (r *Relay) HandleOpened(now machine.Time, from netip.AddrPort, b []byte, _ int) {
	r.HandleDatagram(now, from, b)
}

// PollTransmit yields the next datagram.
func (r *Relay) PollTransmit(now machine.Time, b []byte) (netip.AddrPort, int, bool) {
	r.LinkEvents(now, nil)
	for {
		to, f, ok := r.Table.PollSend(now)
		if !ok {
			break
		}
		r.pass(now, to, f)
	}
	for t, due := r.held.Pop(now); due; t, due = r.held.Pop(now) {
		r.Links.Push(t.Value.to, t.Value.frame)
	}
	return r.Links.PollTransmit(now, b)
}

// NextTimer is when HandleTimer has work, or what is held is to go.
func (r *Relay) NextTimer() machine.Time { return min(r.Relay.NextTimer(), r.held.Next()) }

func (r *Relay) pass(now machine.Time, to link.ID, f *wire.Frame) {
	share, cell := 0, true
	switch wire.FrameType(f.B[0]) {
	case wire.FrameForward:
		share = r.Out
		if r.TamperOut > 0 && int(r.dice.Uint64N(100)) < r.TamperOut {
			f.B[wire.CellOffset+100] ^= 1
		}
	case wire.FrameBack:
		share = r.Back
	default:
		share, cell = r.Setups, false
	}
	switch {
	case share > 0 && int(r.dice.Uint64N(100)) < share:
		r.Pool.Put(f)
	case r.Delay > 0 && cell:
		r.held.Set(&machine.Timer[late]{Value: late{to, f}}, now.Add(r.Delay))
	case r.Replay && cell:
		twice := r.Pool.Get()
		twice.B = f.B
		r.Links.Push(to, f)
		r.Links.Push(to, twice)
	default:
		r.Links.Push(to, f)
	}
}
