package lab

import (
	"bytes"
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// stormUsers share the streams; each has one session.
const stormUsers = 2

// retransmissionStorm is DF-004: many streams at once on a network that loses
// packets, with error correction or without.
func retransmissionStorm(r *Run) error {
	// The queues have room for what BBR does to find the rate.
	link := sim.Link{Latency: 8 * time.Millisecond, Rate: 4 << 20, Queue: 4 << 20 * 2 / 5}
	var without []uint16
	if !r.Protected {
		without = []uint16{wire.CapRepair}
	}
	w, err := r.NewNetwork(Plan{Streams: 3, Mixes: 9, Level: wire.Fast, Hop: link,
		Gateway: func(c *gateway.Config) { c.Stream.Without = without },
		Client: func(c *client.Config) {
			c.RoutesPerSession, c.Ahead = 1, -1
			c.Stream.Without = without
		}})
	if err != nil {
		return err
	}
	w.AddUsers(stormUsers)
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	link.Loss = uint64((1 - math.Pow(1-r.Param("loss"), 1.0/fastLinks)) * 1e6)
	w.Sim.SetDefaultLink(link)
	streams, ended, wrong := r.Scaled("streams"), 0, 0
	for i := range streams {
		body := messageBody(r, i, int(r.Param("stream_bytes")))
		w.Users[i%stormUsers].Ask("a", body, func(_ machine.Time, answer []byte, err error) {
			ended++
			if err != nil || !bytes.Equal(answer, body) {
				wrong++
			}
		})
	}
	w.Sim.RunWhile(w.Sim.Now().Add(5*time.Minute), func() bool { return ended < streams })
	r.Tally("streams_failed", uint64(streams-ended+wrong), uint64(streams))
	var n trace.Counts
	for _, g := range w.Gateways {
		n.Add(&g.Core().Counts)
	}
	for _, u := range w.Users {
		n.Add(&u.Core().Counts)
	}
	r.Tally("transport_retransmission_ratio", n[trace.Retransmitted], n[trace.SessionPacketOut])
	r.Tally("repairs", n[trace.RepairOut], n[trace.SessionPacketOut])
	return nil
}

// fastLinks is the links between the two ends of a session at FAST.
const fastLinks = 5
