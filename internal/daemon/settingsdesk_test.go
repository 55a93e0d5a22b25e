package daemon

import (
	"fmt"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
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

// A node that asks in a loop is one node: its word about a change on trial weighs as much
// as that of any other. (Control: where each request counts, one node of sixty takes the
// change back.)
func TestOneNodeDoesNotJudgeATrial(t *testing.T) {
	d := newDeskTop(t)
	c, on, others := d.onTrial(60)
	say := func(node string, failing bool) {
		q := url.Values{"applied": {strconv.FormatUint(c.Revision, 10)}}
		if failing {
			q.Set("failing", "1")
		}
		if !d.desk.hear(node, q) {
			t.Fatal("no trial is on")
		}
	}
	for _, node := range append(on[1:], others...) {
		say(node, false)
	}
	for range 1000 {
		say(on[0], true)
	}
	d.desk.judge(t.Context())
	h := d.desk.trials[c.Stage.Rollout]
	if h.on != (settings.Health{Tried: uint64(len(on)), Failed: 1}) || h.others != (settings.Health{Tried: uint64(len(others))}) {
		t.Errorf("%d nodes with the trial and %d without are counted as %+v and %+v", len(on), len(others), h.on, h.others)
	}
	if s := d.log.State(); s.Revision() != c.Revision || len(s.Trials()) != 1 {
		t.Errorf("one node has taken the change back: revision %d, trials %v", s.Revision(), s.Trials())
	}
	for i, after := range []time.Duration{deskTrial - time.Millisecond, deskTrial} { // it counts again when it is due
		again := h.counted[on[0]].Add(after)
		if h.hear(&NodeSettings{Node: on[0], Failing: true, Seen: again}, true); h.on.Failed != uint64(1+i) {
			t.Errorf("after %v it counts as %+v", after, h.on)
		}
	}
}
