package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/changes"
)

// onTrial has a change on trial at half of the nodes, and says which of some nodes have
// it.
func (d *deskTop) onTrial(nodes int) (c settings.Change, on, others []string) {
	d.t.Helper()
	id := settings.ID{9}
	c, err := d.log.Submit(d.t.Context(), changes.Submission{Change: settings.Change{
		ID: id, Actor: "alice", Set: map[string]string{settings.LogLevel: "debug"},
		Stage: &settings.Stage{Rollout: id, Percent: 50, Hold: time.Hour, Worse: 5},
	}})
	if err != nil {
		d.t.Fatal(err)
	}
	for i := range nodes {
		name := fmt.Sprint("node-", i)
		if c.Stage.Has(name) {
			on = append(on, name)
		} else {
			others = append(others, name)
		}
	}
	return c, on, others
}

// say has a node that has a change on trial, or would have it, ask the desk.
func (d *deskTop) say(c settings.Change, node string, failing bool) {
	d.t.Helper()
	q := url.Values{"applied": {strconv.FormatUint(c.Revision, 10)}}
	if failing {
		q.Set("failing", "1")
	}
	if d.desk.hear(node, q) != deskTrial {
		d.t.Fatal("no trial is on")
	}
}

// share has the desk tell the others what it has counted.
func (d *deskTop) share() {
	d.t.Helper()
	if err := d.desk.share(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
}

// reach waits until the desk's log has a change.
func (d *deskTop) reach(revision uint64) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	if _, err := d.log.After(ctx, revision-1); err != nil {
		d.t.Fatalf("the desk has revision %d, want %d: %v", d.log.Revision(), revision, err)
	}
}

// A node that asks in a loop is one node: its word about a change on trial weighs as much
// as that of any other. (Control: where each request counts, one node of sixty takes the
// change back.)
func TestOneNodeDoesNotJudgeATrial(t *testing.T) {
	d := newDeskTop(t)
	c, on, others := d.onTrial(60)
	for _, node := range append(on[1:], others...) {
		d.say(c, node, false)
	}
	for range 1000 {
		d.say(c, on[0], true)
	}
	d.share()
	d.desk.judge(t.Context())
	h := d.desk.trials[changes.Stage{Rollout: c.Stage.Rollout, Percent: 50}]
	if want := (changes.Count{On: settings.Health{Tried: uint64(len(on)), Failed: 1}, Others: settings.Health{Tried: uint64(len(others))}}); h.Count != want {
		t.Errorf("%d nodes with the trial and %d without are counted as %+v", len(on), len(others), h.Count)
	}
	if s := d.log.State(); s.Revision() != c.Revision || len(s.Trials()) != 1 {
		t.Errorf("one node has taken the change back: revision %d, trials %v", s.Revision(), s.Trials())
	}
	for i, after := range []time.Duration{deskTrial - time.Millisecond, deskTrial} { // it counts again when it is due
		again := h.counted[on[0]].Add(after)
		if h.hear(&NodeSettings{Node: on[0], Failing: true, Seen: again}, true); h.On.Failed != uint64(1+i) {
			t.Errorf("after %v it counts as %+v", after, h.On)
		}
	}
}

// A node that does not work fully is asked again soon, so that what is shown of it is not
// of long ago.
func TestWhoDoesNotWorkIsAskedAgainSoon(t *testing.T) {
	d := newDeskTop(t)
	for failing, hold := range map[string]time.Duration{"": deskHold, "1": deskTrial} {
		if got := d.desk.hear("one", url.Values{"applied": {"0"}, "failing": {failing}}); got != hold {
			t.Errorf("failing=%q is kept %v, not %v", failing, got, hold)
		}
	}
}

// A trial is judged by what nodes told any process of the control plane: the leader takes
// a change back that fails at nodes which all ask another, in two lives of it here. When
// the trial is over nobody has anything of it. (Control: where the leader judges by what
// it was told itself, the change stays.)
func TestATrialIsJudgedByWhatAllAreTold(t *testing.T) {
	store := registry.NewMemory(nil, nil)
	leader, other, again := deskOn(t, store, 1), deskOn(t, store, 2), deskOn(t, store, 3)
	c, on, others := leader.onTrial(60)
	half := len(on) / 2
	for i, d := range []*deskTop{other, again} {
		d.reach(c.Revision)
		for _, node := range [][]string{on[:half], on[half:]}[i] {
			d.say(c, node, true)
		}
		for _, node := range others {
			d.say(c, node, false)
		}
		if half >= 20 {
			t.Fatalf("%d of a desk are enough to be judged alone", half)
		}
		d.share()
		d.share() // there is nothing new
	}
	sum, err := leader.log.Counted(t.Context(), changes.Stage{Rollout: c.Stage.Rollout, Percent: 50})
	many := uint64(len(on))
	if want := (changes.Count{On: settings.Health{Tried: many, Failed: many}, Others: settings.Health{Tried: 2 * uint64(len(others))}}); err != nil || sum != want {
		t.Errorf("all have counted %+v, want %+v: %v", sum, want, err)
	}
	leader.desk.judge(t.Context())
	if s := leader.log.State(); s.Revision() != c.Revision+1 || len(s.Trials()) != 0 || s.Value(settings.LogLevel) == "debug" {
		t.Errorf("a change that fails at all %d nodes with it stays: revision %d, trials %v", len(on), s.Revision(), s.Trials())
	}
	other.reach(c.Revision + 1)
	other.share()
	if len(other.desk.trials) != 0 {
		t.Errorf("who does not lead still has %d trials", len(other.desk.trials))
	}
	if err := leader.log.UnshareOld(t.Context()); err != nil { // as who leads next does for one that died
		t.Fatal(err)
	}
	if _, err := store.List(t.Context(), "trial/", func(e registry.Entry) error { return errors.New(e.Key + " is left") }); err != nil {
		t.Error(err)
	}
}

// The word of a control process, which takes changes as nodes do, says nothing of a
// trial. (Control: where it counts, two have tried.)
func TestAControlProcessDoesNotJudgeATrial(t *testing.T) {
	d := newDeskTop(t)
	c, on, _ := d.onTrial(60)
	d.desk.own = on[0]
	for _, node := range on[:2] {
		d.say(c, node, false)
	}
	d.share()
	sum, err := d.log.Counted(t.Context(), changes.Stage{Rollout: c.Stage.Rollout, Percent: 50})
	if err != nil || sum != (changes.Count{On: settings.Health{Tried: 1}}) {
		t.Errorf("a node and the process itself are counted as %+v, %v", sum, err)
	}
	if n := len(d.desk.Nodes()); n != 2 {
		t.Errorf("%d are shown, want both", n)
	}
}
