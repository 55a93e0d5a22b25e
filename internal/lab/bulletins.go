package lab

import (
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// Bulletins have the network's authority say every round how its nodes are, and
// users learn of it, each at a time of its own.
type Bulletins struct {
	// States are what is said of nodes; of others nothing is.
	States map[wire.NodeID]directory.State
	Delays []directory.Delay

	net      *Network
	board    *directory.Board
	observer *directory.Observer // of what nodes report; nil: they report nothing
}

// NewBulletins begins with the round of now, and ends when the run does.
func (w *Network) NewBulletins() (*Bulletins, error) {
	trust := directory.Trust{Network: "lab", Authorities: [][]byte{w.signer.Public()}, Threshold: 1}
	board, err := directory.NewBoard(trust)
	if err != nil {
		return nil, err
	}
	b := &Bulletins{States: map[wire.NodeID]directory.State{}, net: w, board: board}
	polls := w.Sim.Rand("bulletins")
	w.Sim.Every(w.Sim.Now(), directory.RoundLength, func(now machine.Time) bool {
		c, left := b.Round(now)
		for _, u := range w.Users {
			late := time.Duration(polls.Uint64N(uint64(bulletinPoll)))
			w.Sim.After(late, func(machine.Time) {
				w.Sim.Do(u.Node, func(now machine.Time) { u.Core().HandleConditions(now, c, left-late) })
			})
		}
		return true
	})
	return b, nil
}

// bulletinPoll is how often a client asks for bulletins.
const bulletinPoll = 5 * time.Second

// Round signs what is said now, and combines it as a client does.
func (b *Bulletins) Round(now machine.Time) (*directory.Conditions, time.Duration) {
	wall := wallAt(now)
	if b.observer != nil {
		b.report(wall)
	}
	m := &directory.Bulletin{Network: "lab", Document: b.net.View.Document().Hash(), Round: directory.RoundAt(wall), Delays: b.Delays}
	for i := range b.net.View.Len() {
		id := b.net.View.At(i).ID
		if s, ok := b.States[id]; ok {
			m.Nodes = append(m.Nodes, directory.NodeState{Node: directory.ShortOf(id), State: s})
		}
	}
	signed, err := directory.SignBulletin(b.net.signer, m)
	if err == nil {
		_, err = b.board.Accept(signed)
	}
	if err != nil {
		panic(fmt.Sprint("lab: bulletin: ", err))
	}
	return b.Known(now)
}

// Known combines what was said up to now.
func (b *Bulletins) Known(now machine.Time) (*directory.Conditions, time.Duration) {
	return b.board.Conditions(b.net.View, wallAt(now))
}

func wallAt(now machine.Time) int64 {
	return directory.Params{}.Begin(directoryEpoch) + int64(now/machine.Time(time.Second))
}

// Measure has the nodes measure the way to their neighbours from now on, one a
// second as nodes do, and report it each round; Delays are what an authority makes
// of that.
func (b *Bulletins) Measure() {
	b.observer = directory.NewObserver("lab")
	b.net.Sim.Every(b.net.Sim.Now(), time.Second, func(machine.Time) bool {
		b.net.eachNode(func(n *sim.Node, _ wire.NodeID, links *link.Endpoint) {
			b.net.Sim.Do(n, func(machine.Time) { links.Measure() })
		})
		return true
	})
}

func (b *Bulletins) report(wall int64) {
	b.net.eachNode(func(_ *sim.Node, id wire.NodeID, links *link.Endpoint) {
		r := &directory.Report{Network: "lab", Node: id, Time: wall, Delays: directory.RegionDelays(b.net.View, links.RoundTrips())}
		if err := b.observer.Hear(r, wall); err != nil {
			panic(fmt.Sprint("lab: report: ", err))
		}
	})
	b.Delays = b.observer.Bulletin(b.net.View, wall).Delays
}

// eachNode calls each with the nodes that run.
func (w *Network) eachNode(each func(n *sim.Node, id wire.NodeID, links *link.Endpoint)) {
	for _, g := range w.Gateways {
		if core := g.Core(); core != nil {
			each(g.Node, g.ID, core.Links)
		}
	}
	for _, r := range w.Relays {
		if core := r.Core(); core != nil {
			each(r.Node, r.ID, core.Links)
		}
	}
}
