package lab

import (
	"bytes"
	"fmt"
	"time"
)

// configDuplicates is DF-030: two buses beside each other bring some changes twice,
// the second time at once or long after. A change that takes effect again may undo
// what came after it.
func configDuplicates(r *Run) error {
	gap := time.Duration(float64(time.Second) / r.Param("changes_per_second"))
	truth, err := storedChanges(r.Source("changes").Stream("sets"), r.Scaled("changes"), gap)
	if err != nil {
		return err
	}
	want := truth.state.Hash()
	for i := range int(r.Param("nodes")) {
		draw := r.Source(fmt.Sprint("node ", i)).Stream("buses")
		var all []delivery
		for j := range truth.changes {
			c := &truth.changes[j]
			first := c.At.Add(time.Duration(draw.Uint64N(uint64(r.Duration("bus_ms", time.Millisecond)))))
			all = append(all, delivery{first, c})
			if draw.Chance(uint64(r.Param("duplicate_share") * 1e6)) {
				late := time.Duration(draw.Uint64N(uint64(r.Duration("again_ms", time.Millisecond))))
				again := *c // another copy, as a bus makes it
				all = append(all, delivery{first.Add(late), &again})
			}
		}
		inOrderOfArrival(all)
		n := newConfigNode()
		for _, d := range all {
			n.take(r.Protected, d.change)
		}
		for j := range truth.changes {
			r.Trial("config_applied_twice", n.applied[truth.changes[j].Revision] != 1)
		}
		hash := n.receiver.State().Hash()
		r.Trial("config_differs", r.Protected && !bytes.Equal(hash[:], want[:]))
		r.Observe("control_duplicate_event_detected", float64(n.receiver.Duplicates))
		if extra := len(all) - len(truth.changes); r.Protected && int(n.receiver.Duplicates) != extra {
			return fmt.Errorf("node %d detected %d of %d duplicates", i, n.receiver.Duplicates, extra)
		}
	}
	r.Note("%d changes to each node over two buses; control_duplicate_event_detected is what each node left out", len(truth.changes))
	return nil
}
