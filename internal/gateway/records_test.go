package gateway_test

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
)

// An entry tells of the token that it gave, an exit of the ticket; the node at which
// the session is resumed claims the ticket's record, and nobody's tells of both.
func TestRecordsOfAResumedSession(t *testing.T) {
	w := newWorld(t, lab.Plan{Streams: 6, Mixes: 8,
		Client:  func(c *client.Config) { c.Ahead = -1 },
		Gateway: func(c *gateway.Config) { c.Records = true }})
	w.AddUsers(1)
	if err := w.WaitReadyOrOpen(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	w.Sim.RunFor(3 * time.Second)
	u := w.Users[0]
	created := map[control.TokenHash]int{} // by whom
	var claimed []control.TokenHash
	poll := func() {
		for i, g := range w.Gateways {
			if !g.Node.Up() {
				continue
			}
			changes, missed := g.Core().PollRecords()
			if missed > 0 {
				t.Errorf("%d changes are missed", missed)
			}
			for _, c := range changes {
				switch c.Kind {
				case control.RecordCreated:
					if _, again := created[c.Record.Token]; again {
						t.Error("a session began twice")
					}
					created[c.Record.Token] = i
				case control.RecordClaimed:
					claimed = append(claimed, c.Record.Token)
				}
			}
		}
	}
	poll()
	if len(claimed) > 0 {
		t.Fatal("a session is resumed that did not break")
	}
	died := askExit(t, w, u)
	w.Sim.Crash(w.Gateways[died].Node)
	askExit(t, w, u)
	poll()
	if len(claimed) != 1 {
		t.Fatalf("%d sessions are claimed, want 1", len(claimed))
	}
	if by, known := created[claimed[0]]; !known || by != died {
		t.Errorf("what is claimed was given by node %d (known %v), not by the one that died", by, known)
	}
}

// askExit asks until there is an answer, and says which exit gave it.
func askExit(t *testing.T, w *world, u *lab.User) (exit int) {
	t.Helper()
	for i, g := range w.Gateways {
		g.Service.Answer = func(machine.Time, []byte) []byte { return []byte{byte(i)} }
	}
	done := false
	var ask func(machine.Time)
	ask = func(machine.Time) {
		u.Ask("a", []byte("again"), func(now machine.Time, answer []byte, err error) {
			if done = err == nil; done {
				exit = int(answer[0])
			} else {
				w.Sim.At(now.Add(time.Millisecond), ask)
			}
		})
	}
	ask(0)
	if !w.Sim.RunWhile(w.Sim.Now().Add(20*time.Second), func() bool { return !done }) {
		t.Fatal("no answer")
	}
	return exit
}

// Without Config.Records nothing is told, and nothing is kept for it.
func TestNoRecordsByDefault(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	w.AddUsers(1)
	if err := w.WaitReadyOrOpen(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	for _, g := range w.Gateways {
		if changes, missed := g.Core().PollRecords(); len(changes) > 0 || missed > 0 {
			t.Errorf("%d changes", len(changes))
		}
	}
}
