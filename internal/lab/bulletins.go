package lab

import (
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// Bulletins have the network's authority say every round how its nodes are, and
// users learn of it, each at a time of its own.
type Bulletins struct {
	// States are what is said of nodes; of others nothing is.
	States map[wire.NodeID]directory.State
	Delays []directory.Delay

	net   *Network
	board *directory.Board
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
	wall := directory.Params{}.Begin(directoryEpoch) + int64(now/machine.Time(time.Second))
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
	return b.board.Conditions(b.net.View, wall)
}
