package lab

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// failOvers is DF-035: the active route of each of 1,000 sessions is cut in the same
// instant, while they send and receive. How many frames are sent twice?
func failOvers(r *Run) error {
	var meters []*meter
	switched := 0
	sink := func(e trace.Event) {
		if e.Kind == trace.PathSwitched {
			switched++
		}
	}
	w, err := r.NewNetwork(Plan{Streams: 12, Mixes: 24, Level: wire.Fast, Hop: sim.Link{Latency: 10 * time.Millisecond, Jitter: time.Millisecond, Rate: 4 << 20, Queue: 4 << 20},
		Gateway: func(c *gateway.Config) { c.Stream.HastyFailOver, c.Stream.Sink = !r.Protected, sink },
		Client: func(c *client.Config) {
			c.RoutesPerSession, c.Ahead = 2, -1
			c.Stream.HastyFailOver, c.Stream.Sink = !r.Protected, sink
		},
		Wrap: func(m machine.Machine) machine.Machine {
			if core, ok := m.(*gateway.Gateway); ok {
				meters = append(meters, &meter{Gateway: core, came: map[netip.AddrPort]int{}})
				return meters[len(meters)-1]
			}
			return m
		}})
	if err != nil {
		return err
	}
	w.AddUsers(r.Scaled("sessions"))
	if err := w.WaitReadyOrOpen(time.Minute); err != nil {
		return err
	}
	w.Sim.RunFor(10 * time.Second) // all routes stand
	for _, m := range meters {
		clear(m.came)
	}
	before := w.tallyFailOvers()
	body := messageBody(r, 0, int(r.Param("message_bytes")))
	answered, wrong := 0, 0
	for _, u := range w.Users {
		u.Ask("a", body, func(_ machine.Time, answer []byte, err error) {
			if answered++; err != nil || !bytes.Equal(answer, body) {
				wrong++
			}
		})
	}
	w.Sim.RunFor(r.Duration("cut_after_ms", time.Millisecond))
	r.Progress("%d of %d messages answered; cutting the active route of every session", answered, len(w.Users))
	uncut := answered
	for _, u := range w.Users {
		busiest := slices.MaxFunc(w.Gateways, func(a, b *Gateway) int {
			return meters[slices.Index(w.Gateways, a)].came[u.Node.Addr()] - meters[slices.Index(w.Gateways, b)].came[u.Node.Addr()]
		})
		w.SetAccess(u, busiest, sim.Link{Loss: 1e6})
	}
	if !w.Sim.RunWhile(w.Sim.Now().Add(time.Minute), func() bool { return answered < len(w.Users) }) {
		return errors.New("not every message was answered in a minute")
	}
	w.Sim.RunFor(2 * time.Second) // acknowledgements under way
	after := w.tallyFailOvers()
	r.Tally("stream_failover_duplicate_frames", after.nothing-before.nothing, after.frames-before.frames)
	r.Tally("messages_failed", uint64(wrong), uint64(answered))
	r.Note("%d sessions, of which %d were done before the cut; %d ends left a silent path; senders came to know of %d frames that were sent twice because of it",
		len(w.Users), uncut, switched, after.twice-before.twice)
	return nil
}

// failOverTally is what all ends of sessions have counted.
type failOverTally struct{ frames, twice, nothing uint64 }

func (w *Network) tallyFailOvers() (t failOverTally) {
	add := func(all []stream.Stats, c trace.Counts) {
		for _, st := range all {
			t.frames += st.Frames
		}
		t.twice += c[trace.FailoverDuplicate]
		t.nothing += c[trace.LaneDuplicate]
	}
	for _, g := range w.Gateways {
		add(g.Core().Figures(), g.Core().Stats())
	}
	for _, u := range w.Users {
		add(u.Core().Figures(), u.Core().Stats())
	}
	return t
}

// meter is a Stream node that counts the datagrams of each neighbour.
type meter struct {
	*gateway.Gateway
	came map[netip.AddrPort]int
}

func (m *meter) Unwrap() machine.Machine { return m.Gateway }

func (m *meter) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	m.came[from]++
	m.Gateway.HandleDatagram(now, from, b)
}
