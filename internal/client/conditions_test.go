package client_test

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// known are conditions of a network that say something of one node.
func known(t *testing.T, w *lab.Network, id wire.NodeID, s directory.State) *directory.Conditions {
	t.Helper()
	b, err := w.NewBulletins()
	if err != nil {
		t.Fatal(err)
	}
	b.States[id] = s
	c, _ := b.Round(w.Sim.Now())
	if c == nil {
		t.Fatal("no conditions")
	}
	return c
}

// Routes leave a mix that drains or is not trusted within 10 s of the news, the
// new one before the old one goes, and none comes back to it; one that is
// overloaded keeps what it has. What is known counts for its time and no longer.
func TestRoutesHeedConditions(t *testing.T) {
	for name, s := range map[string]directory.State{
		"drains":           {Flags: directory.Draining, Score: directory.ScoreMax},
		"is distrusted":    {Flags: directory.Distrusted, Score: directory.ScoreMax},
		"has a low score":  {Score: directory.DefaultScoreMin - 1},
		"is overloaded":    {Flags: directory.Overloaded, Score: directory.ScoreMax},
		"is fine, control": {Score: directory.DefaultScoreMin},
	} {
		for _, level := range []wire.Level{wire.Fast, wire.Standard} {
			w, u := withUserIn(t, newWorld(t, lab.Plan{Streams: 4, Mixes: 12, Level: level}))
			w.Sim.RunFor(5 * time.Second)
			mix := u.Core().ActiveMix("a")
			c := known(t, w, mix, s)
			w.Sim.Do(u.Node, func(now machine.Time) { u.Core().HandleConditions(now, c, time.Minute) })
			w.Sim.RunFor(14 * time.Second) // 10, a set-up, and what is still on its way
			leaves := s.Flags&(directory.Draining|directory.Distrusted) != 0 || s.Score < directory.DefaultScoreMin
			if n := u.Core().Through(mix); (n == 0) != leaves {
				t.Errorf("%v: %d routes lead through a mix that %s", level, n, name)
			}
			if n := u.Core().Distributions[trace.RouteUpdateLatency].Count; (n > 0) != leaves {
				t.Errorf("%v: %d routes moved from a mix that %s", level, n, name)
			}
			ask(t, w, u, "a", 100, 5*time.Second)
		}
	}
}
