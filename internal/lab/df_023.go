package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// bufferMax is the places of a Mix node's buffer towards a neighbour: a train
	// of 12 frames waits in it while a link is dialled.
	bufferMax = 64
	// wayToMix is the time from the client to the first mix, within wayJitter.
	wayToMix, wayJitter = 21 * time.Millisecond, 3 * time.Millisecond
)

// droppedFrames is DF-023: Mix nodes whose buffers are full for an instant, again
// and again, drop frames of an upload; how soon does the sender know? Only what
// comes from a Stream node finds the buffer full, so that the drop is at the first
// mix, and the news passes two hops, the Stream node among them.
func droppedFrames(r *Run) error {
	var full []*exhausted
	var drops []machine.Time // that the sender does not know of
	known := func(e trace.Event) {
		if e.Kind != trace.PacketLost {
			return
		}
		if e.B == 1 {
			r.ObserveTime("told_after_sending", time.Duration(e.A))
		}
		// The drop that was when the packet, sent when the event says, reached the mix.
		at := e.At.Add(wayToMix - time.Duration(e.A))
		for i, drop := range drops {
			if off := drop.Sub(at); off > -wayJitter && off < wayJitter {
				r.ObserveTime("mix_frame_drop_detect_latency", e.At.Sub(drop))
				drops = slices.Delete(drops, i, i+1)
				return
			}
		}
	}
	w, err := r.NewNetwork(Plan{Streams: 2, Mixes: 3, Level: wire.Fast, Hop: wan,
		Mix:    func(c *hop.Config) { c.QueueMax = bufferMax },
		Client: func(c *client.Config) { c.RoutesPerSession, c.Ahead, c.Stream.Sink = 1, -1, known },
		Wrap: func(m machine.Machine) machine.Machine {
			core, ok := m.(*relay.Relay)
			if !ok {
				return m
			}
			full = append(full, &exhausted{Relay: core, silent: !r.Protected})
			return full[len(full)-1]
		}})
	if err != nil {
		return err
	}
	w.AddUsers(1)
	u := w.Users[0]
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	dropped, told := 0, uint64(0)
	for i, x := range full {
		x.mixes, x.share = w.Relays, uint64(r.Param("drop_share")*1e6)
		x.rng = w.Sim.Rand(fmt.Sprint("exhausted ", i))
		for _, g := range w.Gateways {
			if g.Core().Admitted() > 0 {
				x.entry = g.Node.Addr()
			}
		}
		x.dropped = func(now machine.Time, nacks uint64) {
			drops = append(drops, now)
			dropped++
			told += nacks
		}
	}
	want := r.Scaled("drops")
	body := make([]byte, 256<<10)
	var failed error
	var upload func(machine.Time, []byte, error)
	upload = func(_ machine.Time, _ []byte, err error) {
		if failed = err; err == nil && dropped < want {
			u.Ask("a", body, upload)
		}
	}
	w.Gateways[0].Service.Answer = func(machine.Time, []byte) []byte { return nil }
	w.Gateways[1].Service.Answer = w.Gateways[0].Service.Answer
	upload(w.Sim.Now(), nil, nil)
	if !w.Sim.RunWhile(w.Sim.Now().Add(time.Hour), func() bool { return dropped < want && failed == nil }) {
		return errors.New("the upload did not bring the drops in an hour")
	}
	for _, x := range full {
		x.share = 0
	}
	w.Sim.RunFor(10 * time.Second)
	r.Note("%d frames were dropped at the first mix, which told of %d at that instant; for %d of them no packet was taken for lost; told_after_sending is what the sender can know, and exports; measured at the sender at FAST, two hops of 10 ms away: each mix further out adds one", dropped, told, len(drops))
	return failed
}

// exhausted is a Mix node whose buffers towards other mixes are full, by frames of
// others, while a share of the datagrams from one Stream node comes.
type exhausted struct {
	*relay.Relay
	entry   netip.AddrPort
	mixes   []*Relay
	share   uint64 // in a million
	rng     *prng.Stream
	silent  bool // the control: it drops and says nothing
	dropped func(now machine.Time, nacks uint64)
}

func (x *exhausted) Unwrap() machine.Machine { return x.Relay }

func (x *exhausted) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	if x.share == 0 || from != x.entry || !x.rng.Chance(x.share) {
		x.Relay.HandleDatagram(now, from, b)
		return
	}
	if x.silent {
		x.dropped(now, 0)
		return
	}
	for id := link.ID(1); id <= 16; id++ {
		if peer, _, up := x.Links.Peer(id); up && slices.ContainsFunc(x.mixes, func(r *Relay) bool { return r.ID == peer }) {
			for x.Links.QueueLen(id) < bufferMax {
				f := x.Pool.Get()
				f.B[0] = byte(wire.FramePad)
				x.Links.Push(id, f)
			}
		}
	}
	drops, nacks := x.Counts[trace.DropCellQueue], x.Counts[trace.NackSent]
	x.Relay.HandleDatagram(now, from, b)
	if x.Counts[trace.DropCellQueue] > drops {
		x.dropped(now, x.Counts[trace.NackSent]-nacks)
	}
}
