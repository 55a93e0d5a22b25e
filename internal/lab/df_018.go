package lab

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/prng"
)

// configEpoch is when the first change of a simulated configuration is accepted.
var configEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// configTruth is what a control plane has accepted: changes in their order, and the
// hash of the state after each.
type configTruth struct {
	changes []settings.Change
	states  [][32]byte // by revision; the first is that of no change
	state   *settings.State
}

// configKeys are keys with values that may be drawn.
var configKeys = map[string][]string{
	settings.AdmissionPerMinute: {"30", "60", "120"},
	settings.CoverRateMax:       {"100", "150", "200"},
	settings.LogLevel:           {"debug", "info", "warn", "error"},
	settings.ExitPorts:          {"80,443", "1-65535", "443"},
	settings.TelemetrySampling:  {"1", "10", "100"},
}

// drawSet draws what a change sets: one key, or two.
func drawSet(draw *prng.Stream) map[string]string {
	names := slices.Sorted(maps.Keys(configKeys))
	set := map[string]string{}
	for range 1 + draw.IntN(2) {
		name := names[draw.IntN(len(names))]
		set[name] = configKeys[name][draw.IntN(len(configKeys[name]))]
	}
	return set
}

// accept gives a change its revision, unless the schema refuses it.
func (x *configTruth) accept(now time.Time, schema *settings.Schema, c settings.Change) (settings.Change, error) {
	if err := schema.Accept(&c); err != nil {
		return c, err
	}
	c.Revision, c.At = x.state.Revision()+1, now
	if err := x.state.Fold(&c); err != nil {
		return c, err
	}
	x.changes, x.states = append(x.changes, c), append(x.states, x.state.Hash())
	return c, nil
}

func newConfigTruth() *configTruth {
	s := &settings.State{}
	return &configTruth{state: s, states: [][32]byte{s.Hash()}}
}

// configID is the id of the nth change.
func configID(n int) settings.ID {
	return settings.ID{1, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// storedChanges are so many accepted changes, a gap apart.
func storedChanges(draw *prng.Stream, n int, gap time.Duration) (*configTruth, error) {
	x, schema := newConfigTruth(), settings.Network()
	for i := range n {
		at := configEpoch.Add(time.Duration(i+1) * gap).Truncate(time.Millisecond)
		c := settings.Change{ID: configID(i), Set: drawSet(draw), Actor: "lab"}
		if _, err := x.accept(at, schema, c); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// delivery is a change on its way to a node.
type delivery struct {
	at     time.Time
	change *settings.Change
}

// inOrderOfArrival sorts deliveries as they come.
func inOrderOfArrival(all []delivery) {
	slices.SortStableFunc(all, func(a, b delivery) int { return a.at.Compare(b.at) })
}

// inverted counts the deliveries that come after one of a later revision.
func inverted(all []delivery) (n int) {
	last := uint64(0)
	for _, d := range all {
		if d.change.Revision < last {
			n++
		}
		last = max(last, d.change.Revision)
	}
	return n
}

// configNode is a node that follows the configuration: by a receiver, or as changes
// come, which is the control of scenarios.
type configNode struct {
	receiver *settings.Receiver
	asItCame settings.Values
	last     uint64
	applied  map[uint64]int // how often each revision took effect
}

func newConfigNode() *configNode {
	return &configNode{receiver: settings.NewReceiver(&settings.State{}), asItCame: settings.Values{}, applied: map[uint64]int{}}
}

// take hands a change to the node, and returns its revision and what is in force.
func (n *configNode) take(protected bool, c *settings.Change) (revision uint64, in settings.Values) {
	if !protected {
		maps.Copy(n.asItCame, c.Set)
		n.applied[c.Revision]++
		n.last = max(n.last, c.Revision)
		return n.last, n.asItCame
	}
	before := n.receiver.State().Revision()
	n.receiver.HandleChange(c)
	for r := before + 1; r <= n.receiver.State().Revision(); r++ {
		n.applied[r]++
	}
	return n.receiver.State().Revision(), n.receiver.State().All()
}

// configInversions is DF-018: a bus that delays some changes, so that they come after
// later ones. A node is consistent if what is in force is what the control plane had
// in force at the revision that the node has.
func configInversions(r *Run) error {
	draw := r.Source("changes").Stream("sets")
	gap := time.Duration(float64(time.Second) / r.Param("changes_per_second"))
	truth, err := storedChanges(draw, r.Scaled("changes"), gap)
	if err != nil {
		return err
	}
	had := make([]settings.Values, len(truth.changes)+1)
	s := &settings.State{}
	had[0] = s.All()
	for i := range truth.changes {
		if err := s.Fold(&truth.changes[i]); err != nil {
			return err
		}
		had[i+1] = s.All()
	}
	swapped, held := 0, 0
	for i := range int(r.Param("nodes")) {
		delays := r.Source(fmt.Sprint("node ", i)).Stream("delays")
		var all []delivery
		for j := range truth.changes {
			c := &truth.changes[j]
			d := delivery{c.At.Add(r.Duration("bus_ms", time.Millisecond)), c}
			if delays.Chance(uint64(r.Param("delayed_share") * 1e6)) {
				d.at = d.at.Add(gap + time.Duration(delays.Uint64N(uint64(r.Duration("delay_ms", time.Millisecond)))))
			}
			all = append(all, d)
		}
		inOrderOfArrival(all)
		swapped += inverted(all)
		n := newConfigNode()
		for _, d := range all {
			revision, in := n.take(r.Protected, d.change)
			r.Trial("config_inconsistent", !maps.Equal(in, had[revision]))
			held = max(held, len(n.receiver.Held()))
		}
		r.Observe("config_applied_version", float64(cmp.Or(n.last, n.receiver.State().Revision())))
	}
	r.Tally("inverted", uint64(swapped), uint64(len(truth.changes))*uint64(r.Param("nodes")))
	r.Note("%d of %d deliveries came after a later one; at most %d changes were held for those before them", swapped, len(truth.changes)*int(r.Param("nodes")), held)
	return nil
}
