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
	w, err := r.repairNetwork(stormUsers, 0)
	if err != nil {
		return err
	}
	w.Sim.SetDefaultLink(repairLink(r.Param("loss")))
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
	n := w.counts()
	r.Tally("transport_retransmission_ratio", n[trace.Retransmitted], n[trace.SessionPacketOut])
	r.Tally("repairs", n[trace.RepairOut], n[trace.SessionPacketOut])
	return nil
}

// fastLinks is the links between the two ends of a session at FAST.
const fastLinks = 5

// repairLink is a link that loses so much that a share of what a session sends at
// FAST is lost. Its queue has room for what BBR does to find the rate.
func repairLink(loss float64) sim.Link {
	return sim.Link{Latency: 8 * time.Millisecond, Rate: 4 << 20, Queue: 4 << 20 * 2 / 5,
		Loss: uint64((1 - math.Pow(1-loss, 1.0/fastLinks)) * 1e6)}
}

// repairNetwork is a network of such links, with users whose sessions have one route
// and, but in the control, error correction.
func (r *Run) repairNetwork(users int, loss float64) (*Network, error) {
	var without []uint16
	if !r.Protected {
		without = []uint16{wire.CapRepair}
	}
	w, err := r.NewNetwork(Plan{Streams: 3, Mixes: 9, Level: wire.Fast, Hop: repairLink(loss),
		Gateway: func(c *gateway.Config) { c.Stream.Without = without },
		Client: func(c *client.Config) {
			c.RoutesPerSession, c.Ahead = 1, -1
			c.Stream.Without = without
		}})
	if err != nil {
		return nil, err
	}
	w.AddUsers(users)
	return w, w.WaitReadyOrOpen(30 * time.Second)
}
