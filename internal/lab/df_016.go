package lab

import (
	"bytes"
	"errors"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// waysLevels are the levels of parallelism of DF-016.
var waysLevels = []int{1, 2, 4, 8, 16}

// batchEvery is how long datagrams wait for others at a node: a batch is what a
// busy one finds in its socket.
const batchEvery = time.Millisecond

// parallelOpening is DF-016: frames that overtake each other on the wires are
// decrypted several at a time, at ever higher levels.
func parallelOpening(r *Run) error {
	for _, ways := range waysLevels {
		if err := openOn(r, ways); err != nil {
			return err
		}
	}
	return nil
}

// openOn is the load at one level.
func openOn(r *Run, ways int) error {
	link := sim.Link{Latency: 5 * time.Millisecond, Rate: 50e6, InOrder: true,
		Reorder: uint64(r.Param("overtaking") * 1e6), ReorderBy: 2 * time.Millisecond}
	w, err := r.NewNetwork(Plan{Streams: 3, Mixes: 6, Level: wire.Fast, Hop: link,
		Batches: sim.Batches{Every: batchEvery, Ways: ways, AsOpened: !r.Protected},
		Client:  func(c *client.Config) { c.RoutesPerSession, c.Ahead = 1, -1 }})
	if err != nil {
		return err
	}
	w.AddUsers(4)
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	transfers, ended, wrong := r.Scaled("transfers"), 0, 0
	for i := range transfers {
		body := messageBody(r, i, int(r.Param("transfer_bytes")))
		w.Users[i%len(w.Users)].Ask("a", body, func(_ machine.Time, answer []byte, err error) {
			ended++
			if err != nil || !bytes.Equal(answer, body) {
				wrong++
			}
		})
	}
	if !w.Sim.RunWhile(w.Sim.Now().Add(10*time.Minute), func() bool { return ended < transfers }) {
		return errors.New("the transfers did not end in ten minutes")
	}
	r.Tally("transfer_wrong", uint64(wrong), uint64(transfers))
	var s sim.NodeStats
	for _, nd := range w.Sim.Nodes() {
		n := nd.Stats()
		s.Received, s.Overtaken = s.Received+n.Received, s.Overtaken+n.Overtaken
		s.Opened, s.Corrections, s.HeldMost = s.Opened+n.Opened, s.Corrections+n.Corrections, max(s.HeldMost, n.HeldMost)
	}
	var counts trace.Counts
	for _, g := range w.Gateways {
		counts.Add(&g.Core().Counts)
	}
	for _, m := range w.Relays {
		counts.Add(&m.Core().Counts)
	}
	r.Tally("overtaken_on_arrival", counts[trace.LinkLate], counts[trace.LinkIn])
	r.Tally("order_error", s.Overtaken, s.Received)
	if ways > 1 {
		r.Tally("obf_reorder_corrections", s.Corrections, s.Opened)
		r.Observe("order_buffer", float64(s.HeldMost))
	}
	r.Note("%d ways: of %d frames %d were open before an earlier one, %d at most of one batch; %d were handled after a later one", ways, s.Received, s.Corrections, s.HeldMost, s.Overtaken)
	return nil
}
