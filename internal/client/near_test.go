package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// nearRoutes has a download whose two routes have one entry, because the other two
// entries of the network are dead, which come back after a moment.
func nearRoutes(t *testing.T, seed uint64) (w *lab.Network, u *lab.User, longest func() time.Duration) {
	t.Helper()
	w, u = farUser(t, seed, lab.Plan{Level: wire.Fast})
	body := make([]byte, 256<<20)
	for _, g := range w.Gateways {
		g.Service.Answer = func(machine.Time, []byte) []byte { return body }
	}
	var last machine.Time
	var most time.Duration
	u.Arrived = func(now machine.Time, _ int) { most, last = max(most, now.Sub(last)), now }
	u.Ask("a", nil, func(machine.Time, []byte, error) {})
	w.Sim.RunFor(4 * time.Second)
	active := u.Core().Paths("a")[0]
	var dead []*lab.Gateway
	for _, g := range w.Gateways {
		if g.ID != active[0] && g.ID != active[len(active)-1] {
			dead = append(dead, g)
		}
	}
	for _, g := range dead {
		w.Sim.Crash(g.Node)
	}
	w.Sim.RunFor(5 * time.Second)
	for _, g := range dead {
		w.Sim.Restart(g.Node)
	}
	w.Sim.RunFor(time.Second)
	return w, u, func() time.Duration {
		d := max(most, w.Sim.Now().Sub(last))
		most, last = 0, w.Sim.Now()
		return d
	}
}

// entries are the entries of the routes that carry the download.
func entries(u *lab.User) (ids []wire.NodeID) {
	for _, path := range u.Core().Paths("a") {
		if !slices.Contains(ids, path[0]) {
			ids = append(ids, path[0])
		}
	}
	return ids
}

// Routes that came to share an entry part as soon as there is another one again.
// (Control: routes that stay until the end of their life, which is 10 minutes.)
func TestRoutesPartAgain(t *testing.T) {
	parted, of := 0, 0
	for seed := range uint64(12) {
		w, u, _ := nearRoutes(t, seed)
		if len(entries(u)) != 1 || len(u.Core().Paths("a")) < 2 {
			continue // the session has only one of its routes, and that one from before
		}
		of++
		w.Sim.RunFor(time.Minute)
		if len(entries(u)) == 2 {
			parted++
		}
	}
	t.Logf("%d of %d", parted, of)
	if of < 3 || parted < of {
		t.Errorf("a minute after there are other entries the routes of %d of %d have two", parted, of)
	}
}

// The entry that all routes share is what died, when all of them are silent: the next
// one leads by another, though that one did not answer a moment ago. (Control: a client
// that rather uses the entry of its other routes twice takes 5.6 s.)
func TestWhatAllRoutesShareIsDead(t *testing.T) {
	var took []time.Duration
	for seed := range uint64(8) {
		w, u, longest := nearRoutes(t, seed)
		shared := entries(u)
		if len(shared) != 1 {
			continue // the session has only one of its routes, and that one from before
		}
		longest()
		w.Sim.Crash(nodeOf(w, shared[0]))
		w.Sim.RunFor(8 * time.Second)
		took = append(took, longest().Round(time.Millisecond))
	}
	slices.Sort(took)
	t.Log(took)
	if len(took) < 4 {
		t.Fatalf("the routes share an entry with %d seeds only", len(took))
	}
	if took[len(took)-1] > 2*time.Second {
		t.Errorf("pauses of %v, want 2 s at most", took)
	}
}
