package lab

import (
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
)

// described is what a node says of itself, and who signs it.
type described struct {
	node       *directory.Node
	signer     *seal.Signer
	descriptor []byte
}

// describe has a node say something else of itself from the next document on.
// Nodes are numbered in the order in which they were added: Stream nodes, then
// Mix nodes.
func (w *Network) describe(i int, change func(*directory.Node)) error {
	d := &w.nodes[i]
	change(d.node)
	d.node.Version++
	descriptor, err := directory.SignDescriptor(d.signer, "lab", d.node)
	if err != nil {
		return fmt.Errorf("describe node %d: %w", i, err)
	}
	d.descriptor = descriptor
	return nil
}

// SetCapacity has a node announce another capacity in the next document: 0 says
// that it will stop. Nodes are numbered as in ViewOf.
func (w *Network) SetCapacity(i int, capacity uint32) error {
	return w.describe(i, func(n *directory.Node) { n.Capacity = capacity })
}

// ViewOf makes a newer document of the nodes for which keep returns true (nil:
// all), in the order in which they were added: Stream nodes, then Mix nodes.
func (w *Network) ViewOf(keep func(i int) bool) (*directory.View, error) {
	return w.viewAt(directoryEpoch, directory.Params{}.Begin(directoryEpoch), keep)
}

// viewAt is ViewOf with the document of an epoch, signed at a second.
func (w *Network) viewAt(epoch uint64, wall int64, keep func(i int) bool) (*directory.View, error) {
	a, err := directory.NewAuthority(directory.AuthorityConfig{Network: "lab", Signer: w.signer, Threshold: 1, Authorities: 1, Params: w.plan.Params})
	if err != nil {
		return nil, err
	}
	for i := range w.nodes {
		if keep != nil && !keep(i) {
			continue
		}
		if _, err := a.Collect(w.nodes[i].descriptor, wall); err != nil {
			return nil, err
		}
	}
	d, err := a.Build(epoch, w.revision)
	if err != nil {
		return nil, err
	}
	w.revision++
	if err := a.Sign(d, wall); err != nil {
		return nil, err
	}
	trust := directory.Trust{Network: "lab", Authorities: [][]byte{w.signer.Public()}, Threshold: 1}
	if d, err = directory.Verify(d.Encode(), &trust, wall); err != nil {
		return nil, err
	}
	return directory.NewView(d)
}

// BoundCapacity has the authorities bound what a node may claim from the next
// document on.
func (w *Network) BoundCapacity(most uint32) {
	w.plan.Params.Named = []directory.Param{{Name: directory.ParamCapacityMax, Value: int64(most)}}
}

// directoryPoll is how often a client asks for a newer document.
const directoryPoll = 30 * time.Second

// Distribute gives every user a document at a time of its own, as a poll of the
// directory does.
func (w *Network) Distribute(v *directory.View) {
	polls := w.Sim.Rand(fmt.Sprint("polls ", w.revision))
	for _, u := range w.Users {
		w.Sim.After(time.Duration(polls.Uint64N(uint64(directoryPoll))), func(machine.Time) {
			w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, v) })
		})
	}
}
