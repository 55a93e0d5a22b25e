package gateway_test

import (
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/seal/blind"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// passWorld is a network whose entries admit by passes only, and its issuer.
type passWorld struct {
	*world
	issuer *blind.Signer
}

func newPassWorld(t *testing.T, lifetime time.Duration) *passWorld {
	t.Helper()
	w := &passWorld{world: newWorld(t, lab.Plan{
		Gateway: func(c *gateway.Config) {
			c.Policy.Passes, c.Policy.PassChallenge = control.PassesRequired, pass.Challenge("lab", c.Hop.Self)
			c.Policy.Lifetime = lifetime
		},
		Client: func(c *client.Config) { c.Passes = true },
	})}
	var err error
	if w.issuer, err = blind.Generate(); err != nil {
		t.Fatal(err)
	}
	for _, g := range w.Gateways {
		g.Core().SetPassKeys([]control.PassKey{{Public: w.issuer.Public(), Until: machine.Never}})
	}
	return w
}

// give gets passes of the issuer for an entry, and gives them to the user.
func (w *passWorld) give(u *lab.User, entry wire.NodeID, n int) {
	w.t.Helper()
	entries := make([]wire.NodeID, n)
	for i := range entries {
		entries[i] = entry
	}
	blinder := func(random io.Reader, key *seal.PassPublic, message []byte) (pass.Blind, error) {
		return blind.Blind(random, key, message)
	}
	order, err := pass.NewOrder(rand.Reader, "lab", w.issuer.Public(), entries, blinder)
	if err != nil {
		w.t.Fatal(err)
	}
	requests, _ := wire.ParsePassRequests(order.Body())
	var answer []byte
	for _, r := range requests {
		signature, err := w.issuer.Sign(r.Blinded[:])
		if err != nil {
			w.t.Fatal(err)
		}
		answer = append(answer, signature...)
	}
	passes, err := order.Finish(answer)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Sim.Do(u.Node, func(now machine.Time) { u.Core().HandlePasses(now, entry, passes...) })
}

// A client without passes is told what it lacks, and goes on when it has some.
func TestClientsWithoutPassesAreTold(t *testing.T) {
	w := newPassWorld(t, 0)
	w.AddUsers(1)
	u := w.Users[0]
	w.Sim.RunFor(5 * time.Second)
	if err := u.Core().LastError(); !errors.Is(err, client.ErrNoPass) {
		t.Fatalf("without passes: %v", err)
	}
	w.give(u, w.Gateways[0].ID, 2)
	if err := w.WaitReady(2 * time.Second); err != nil {
		t.Error(err)
	}
}

// A client with passes enters where they are good and asks nowhere else, shows each
// once, and renews its session with another.
func TestClientsAreAdmittedByPasses(t *testing.T) {
	const lifetime = 10 * time.Minute
	w := newPassWorld(t, lifetime)
	w.AddUsers(1)
	u := w.Users[0]
	first, second := w.Gateways[0].ID, w.Gateways[1].ID
	w.give(u, first, 4)
	w.give(u, second, 4)
	if err := w.WaitReady(time.Minute); err != nil {
		t.Fatal(err)
	}
	left := func() int { return u.Core().Passes(first) + u.Core().Passes(second) }
	spent := func() (n int) {
		for _, g := range w.Gateways[:2] {
			for _, more := g.Core().PollSpent(); more; _, more = g.Core().PollSpent() {
				n++
			}
		}
		return n
	}
	admitted := w.Gateways[0].Core().Admitted() + w.Gateways[1].Core().Admitted()
	if n := spent(); n != admitted || left() != 8-n {
		t.Fatalf("%d passes spent for %d sessions, %d of 8 left", n, admitted, left())
	}
	w.Sim.RunFor(lifetime)
	if n := w.Gateways[2].Core().Stats()[trace.PassesRefused]; n != 0 {
		t.Errorf("the client asked %d times where it has no pass", n)
	}
	if n := spent(); n == 0 || left() != 8-admitted-n {
		t.Errorf("%d passes spent by renewals, %d left", n, left())
	}
}

// A pass that an entry does not take is not shown again: the next one is.
func TestRefusedPassesAreNotShownAgain(t *testing.T) {
	w := newPassWorld(t, 0)
	w.AddUsers(1)
	u := w.Users[0]
	entry := w.Gateways[0].ID
	w.Sim.Do(u.Node, func(now machine.Time) {
		u.Core().HandlePasses(now, entry, wire.Pass{Nonce: [32]byte{1}}, wire.Pass{Nonce: [32]byte{2}})
	})
	w.give(u, entry, 1)
	if err := w.WaitReady(time.Minute); err != nil {
		t.Fatal(err)
	}
	if n := u.Core().Passes(entry); n != 0 || w.Gateways[0].Core().Admitted() != 1 {
		t.Errorf("%d passes are left, %d sessions", n, w.Gateways[0].Core().Admitted())
	}
	if left := u.Core().TakePasses(); len(left[entry]) != 0 {
		t.Errorf("%d passes are given back", len(left[entry]))
	}
}

// Entries for which passes are to be had are drawn as paths draw theirs, and to draw
// them moves nothing else.
func TestEntriesAreDrawnApart(t *testing.T) {
	w := newPassWorld(t, 0)
	w.AddUsers(1)
	u := w.Users[0]
	w.Sim.RunFor(time.Second)
	seen := map[wire.NodeID]int{}
	entries, err := u.Core().DrawEntries(60)
	for _, id := range entries {
		seen[id]++
	}
	if err != nil || len(entries) != 60 || len(seen) != len(w.Gateways) {
		t.Errorf("%d draws of %d entries, %v", len(entries), len(seen), err)
	}
	if _, err := client.New(client.Config{}, prng.FromUint64(1)).DrawEntries(1); !errors.Is(err, client.ErrNoDirectory) {
		t.Errorf("without a directory: %v", err)
	}
}
