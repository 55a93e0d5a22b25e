package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// bulkBytes is what one request fetches; bulkAtOnce are open at a time, so
	// that a session never waits for the next.
	bulkBytes  = 4 << 20
	bulkAtOnce = 3
)

// saturation is SCL-006: clients use all that their access carries, together
// 1 Gbps.
func saturation(r *Run) error {
	clients := int(r.Param("clients"))
	access := int64(r.Param("access_mbps") * 1e6 / 8)
	var streams stream.Config
	if !r.Protected {
		streams.Congestion, streams.FixedRate = congestion.Fixed, uint64(access)*3/2
	}
	nodes := int(r.Param("transport_nodes"))
	w, err := r.NewNetwork(Plan{Streams: nodes * 2 / 5, Mixes: nodes - nodes*2/5, Level: wire.Fast,
		Hop:     sim.Link{Latency: 5 * time.Millisecond, Rate: 125e6},
		Gateway: func(c *gateway.Config) { c.Stream = streams },
		Client:  func(c *client.Config) { c.Stream, c.Ahead = streams, -1 }})
	if err != nil {
		return err
	}
	w.AddUsers(clients)
	for _, u := range w.Users {
		for _, g := range w.Gateways {
			w.SetAccess(u, g, sim.Link{Latency: 10 * time.Millisecond})
		}
		w.Sim.SetAccess(u.Node.Addr().Addr(), access, access)
	}
	answer := make([]byte, bulkBytes)
	for _, g := range w.Gateways {
		g.Service.Answer = func(machine.Time, []byte) []byte { return answer }
	}
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	failed := 0
	for _, u := range w.Users {
		var fetch func()
		fetch = func() {
			u.Ask("a", []byte("more"), func(now machine.Time, _ []byte, err error) {
				if err != nil {
					failed++
				}
				w.Sim.At(now, func(machine.Time) { fetch() })
			})
		}
		for range bulkAtOnce {
			fetch()
		}
	}
	period := time.Duration(float64(r.Duration("seconds", time.Second)) * r.Scale)
	settle := period * 3 / 2 // the time in which clients begin
	w.Sim.RunFor(settle)
	before, received := w.Sim.Stats(), w.usersReceived()
	c := w.counts()
	missedBefore, sentBefore := c.PacketLoss()
	w.Sim.RunFor(period)
	after := w.Sim.Stats()
	c = w.counts()
	missed, sent := c.PacketLoss()
	r.Tally("transport_packet_loss", missed-missedBefore, sent-sentBefore)
	r.Tally("network_packet_loss", after.QueueFull-before.QueueFull, after.Sent-before.Sent)
	r.Observe("transport_rate", float64(w.usersReceived()-received)*wire.DatagramSize/1e6/period.Seconds())
	r.Note("%v after %v in which clients began and %d of %d datagrams were lost; %d requests failed", period, settle, before.QueueFull, before.Sent, failed)
	return nil
}

// usersReceived is how many datagrams the users have received.
func (w *Network) usersReceived() (n uint64) {
	for _, u := range w.Users {
		n += u.Node.Stats().Received
	}
	return n
}
