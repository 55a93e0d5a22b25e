package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// turnover is the time in which every user of before has left and another
	// has come, beatWindow for how long heartbeats are counted then.
	turnover   = 2 * time.Minute
	beatWindow = 2 * time.Minute
)

// heartbeatBalance is DF-021: one Stream node claims so much capacity that 40 %
// of the sessions, and their heartbeats, gather at it. Then the authorities bound
// what a node may claim, and sessions come and go.
func heartbeatBalance(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Mixes: int(r.Param("mix_nodes")), Level: wire.Fast, Hop: wan,
		Client: func(c *client.Config) { c.Ahead = -1 }})
	if err != nil {
		return err
	}
	usual := w.nodes[0].node.Capacity
	if err := w.SetCapacity(0, uint32(r.Param("claim")*float64(usual))); err != nil {
		return err
	}
	view, err := w.ViewOf(nil)
	if err != nil {
		return err
	}
	arrive := func(u *User) {
		w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, view) })
		u.Flow("a", func(machine.Time, func(machine.Time, []byte) error) {}) // nothing moves on it but heartbeats
	}
	for range r.Scaled("users") {
		arrive(w.AddUser())
	}
	w.Sim.RunFor(30 * time.Second)
	loads := w.beatsIn(beatWindow)
	first, all := loads[0], uint64(0)
	for _, n := range loads {
		all += n
	}
	r.Tally("busiest_share_before", first, all)
	if r.Protected {
		w.BoundCapacity(usual)
		if view, err = w.ViewOf(nil); err != nil {
			return err
		}
	}
	comes := w.Sim.Rand("turnover")
	for _, u := range w.Users {
		w.Sim.After(time.Duration(comes.Uint64N(uint64(turnover))), func(machine.Time) {
			w.Sim.Restart(u.Node)
			arrive(u)
		})
	}
	w.Sim.RunFor(turnover + 30*time.Second)
	r.Observe("stream_heartbeat_distribution", trace.Gini(w.beatsIn(beatWindow)))
	r.Note("%d sessions; the index is the Gini coefficient of the heartbeats that each Stream node received in %v, 0 where all received the same; one of ten with 40 %% makes 0.3 by itself, chance among so many sessions some 0.1", len(w.Users), beatWindow)
	return nil
}

// beatsIn lets a time pass and returns the heartbeats that each Stream node
// received in it.
func (w *Network) beatsIn(d time.Duration) []uint64 {
	loads := make([]uint64, len(w.Gateways))
	for i, g := range w.Gateways {
		loads[i] = g.Core().Counts[trace.HeartbeatIn]
	}
	w.Sim.RunFor(d)
	for i, g := range w.Gateways {
		loads[i] = g.Core().Counts[trace.HeartbeatIn] - loads[i]
	}
	return loads
}
