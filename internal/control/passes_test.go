package control

import (
	"crypto/rand"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/seal/blind"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// issuers are two issuers' keys, which take a while to make.
var issuers = sync.OnceValue(func() (out [2]*blind.Signer) {
	for i := range out {
		var err error
		if out[i], err = blind.Generate(); err != nil {
			panic(err)
		}
	}
	return out
})

const passNetwork = "net"

var passEntry = wire.NodeID{1}

// issue makes a pass for an entry of a network.
func issue(t testing.TB, by *blind.Signer, network string, entry wire.NodeID) *wire.Pass {
	t.Helper()
	order, err := pass.NewOrder(rand.Reader, network, by.Public(), []wire.NodeID{entry}, blinding)
	if err != nil {
		t.Fatal(err)
	}
	requests, ok := wire.ParsePassRequests(order.Body())
	if !ok {
		t.Fatal("what is asked for is no request")
	}
	answer, err := by.Sign(requests[0].Blinded[:])
	if err != nil {
		t.Fatal(err)
	}
	passes, err := order.Finish(answer)
	if err != nil {
		t.Fatal(err)
	}
	return &passes[0]
}

// passDoor is an intake that takes passes of the first issuer, for an hour.
func passDoor(p Policy) *door {
	if p.Passes == PassesIgnored {
		p.Passes = PassesRequired
	}
	p.PassChallenge = pass.Challenge(passNetwork, passEntry)
	d := newDoor(p)
	d.SetPassKeys([]PassKey{{issuers()[0].Public(), second(3600)}})
	return d
}

// show has client n show a pass, and returns what it is told; 0 admits.
func (d *door) show(now machine.Time, n int, nonce byte, x *wire.Pass) wire.Refusal {
	m := &wire.SessionInit{ClientID: [16]byte{byte(n), byte(n >> 8), 1}, Nonce: [16]byte{nonce}, Version: wire.AdmissionVersion}
	if x != nil {
		m.Passed, m.Pass = true, *x
	}
	d.said = nil
	d.Handle(now, m, Holder(n+1))
	if d.listen(); len(d.said) != 1 {
		return 255
	}
	return d.said[0].Refused.Reason
}

// A pass admits once: the same session again, another session never.
func TestAPassIsSpentOnce(t *testing.T) {
	d := passDoor(Policy{})
	x := issue(t, issuers()[0], passNetwork, passEntry)
	if why := d.show(0, 1, 1, nil); why != wire.RefusedPass {
		t.Errorf("without a pass: %v", why)
	}
	if why := d.show(0, 1, 1, x); why != 0 {
		t.Fatalf("with a pass: %v", why)
	}
	if why := d.show(0, 1, 1, x); why != 0 {
		t.Errorf("a repetition: %v", why)
	}
	if why := d.show(0, 1, 2, x); why != wire.RefusedPass {
		t.Errorf("another session of the client: %v", why)
	}
	if why := d.show(0, 2, 1, x); why != wire.RefusedPass {
		t.Errorf("another client: %v", why)
	}
	if spent, refused := d.counts[trace.PassesSpent], d.counts[trace.PassesRefused]; spent != 1 || refused != 3 {
		t.Errorf("counted %d spent, %d refused", spent, refused)
	}
	s, ok := d.PollSpent()
	if _, more := d.PollSpent(); !ok || more || s.Tag != pass.TagOf(x) || s.Key != x.Key {
		t.Errorf("on record: %+v, more %v", s, more)
	}
	later := passDoor(Policy{}) // a restart
	later.LoadSpent(s)
	if why := later.show(0, 3, 1, x); why != wire.RefusedPass {
		t.Errorf("after a restart: %v", why)
	}
}

// What is not the issuer's, for this entry, and of this time is refused.
func TestOnlyGoodPassesAreTaken(t *testing.T) {
	own, other := issuers()[0], issuers()[1]
	good := issue(t, own, passNetwork, passEntry)
	change := func(f func(*wire.Pass)) *wire.Pass {
		x := *good
		f(&x)
		return &x
	}
	for name, c := range map[string]struct {
		at   machine.Time
		pass *wire.Pass
		want wire.Refusal
	}{
		"good":             {0, good, 0},
		"late":             {second(3599), good, 0},
		"too late":         {second(3600), good, wire.RefusedPass},
		"another issuer's": {0, issue(t, other, passNetwork, passEntry), wire.RefusedPass},
		"under its name":   {0, change(func(x *wire.Pass) { *x = *issue(t, other, passNetwork, passEntry); x.Key = own.Public().ID() }), wire.RefusedPass},
		"another network":  {0, issue(t, own, "other", passEntry), wire.RefusedPass},
		"another entry":    {0, issue(t, own, passNetwork, wire.NodeID{2}), wire.RefusedPass},
		"made to be ours":  {0, change(func(x *wire.Pass) { *x = *issue(t, own, "other", passEntry); x.Challenge = good.Challenge }), wire.RefusedPass},
		"another nonce":    {0, change(func(x *wire.Pass) { x.Nonce[0]++ }), wire.RefusedPass},
		"not signed":       {0, change(func(x *wire.Pass) { x.Authenticator = [wire.PassSignatureSize]byte{} }), wire.RefusedPass},
	} {
		if why := passDoor(Policy{}).show(c.at, 1, 1, c.pass); why != c.want {
			t.Errorf("%s: %v, want %v", name, why, c.want)
		}
	}
}

// A link that showed a forged pass has none looked at for a while: each would cost a
// signature.
func TestForgersAreNotListenedTo(t *testing.T) {
	d := passDoor(Policy{PerMinute: 100})
	forged := *issue(t, issuers()[0], passNetwork, passEntry)
	forged.Authenticator[5]++
	good := issue(t, issuers()[0], passNetwork, passEntry)
	d.show(0, 1, 1, &forged)
	if why := d.show(second(1), 1, 2, good); why != wire.RefusedPass {
		t.Errorf("a good pass after a forged one: %v", why)
	}
	if why := d.show(second(1), 2, 1, good); why != 0 {
		t.Errorf("by another link: %v", why)
	}
	d.Release(2)
	if len(d.passes.barred) != 0 {
		t.Error("a link that is gone is remembered")
	}
}

// Of two that wait with one pass, one is admitted; a pass that a decision refuses is
// not spent.
func TestPassesWaitForTheDecision(t *testing.T) {
	d := passDoor(Policy{Central: true})
	x := issue(t, issuers()[0], passNetwork, passEntry)
	d.show(0, 1, 1, x)
	d.show(0, 2, 1, x)
	q, ok := d.PollCheck(0)
	if !ok || q.Credential != CredentialToken {
		t.Fatalf("asked %+v", q)
	}
	d.HandleDecision(0, q, accepted("1"))
	d.said = nil
	if d.listen(); d.tally()[0] != 1 || d.tally()[wire.RefusedPass] != 1 {
		t.Errorf("said %v", d.tally())
	}
	d = passDoor(Policy{Central: true})
	d.show(0, 1, 1, x)
	q, _ = d.PollCheck(0)
	d.HandleDecision(0, q, Decision{Refused: wire.RefusedPolicy, CacheFor: time.Second})
	if _, spent := d.PollSpent(); spent {
		t.Error("a refused session has spent its pass")
	}
}

// Where passes are taken and not required, who shows one goes before those known by
// less, and shows no work; who shows none is admitted as ever.
func TestPassesAreACredential(t *testing.T) {
	d := passDoor(Policy{Passes: PassesTaken, QueueMax: 4, WorkMost: WorkMost, Central: true})
	for n := range 4 {
		d.show(0, n, 1, nil)
	}
	d.work.adapt(second(1), 4, 4)
	if why := d.show(second(1), 10, 1, nil); why != wire.RefusedWork {
		t.Fatalf("a stranger is told %v: the control does not hold", why)
	}
	d.show(second(1), 11, 1, issue(t, issuers()[0], passNetwork, passEntry))
	if len(d.said) != 1 || d.said[0].By == 12 || d.said[0].Refused.Reason != wire.RefusedBusy || d.counts[trace.AdmissionShed] != 1 {
		t.Errorf("said %+v: a stranger makes room", d.said)
	}
}

// An entry without an issuer does not look at passes.
func TestPassesAreIgnoredWithoutIssuer(t *testing.T) {
	d := newDoor(Policy{})
	if why := d.show(0, 1, 1, &wire.Pass{}); why != 0 {
		t.Errorf("told %v", why)
	}
}

// Keys come and go; what was spent under one that stays is known on.
func TestPassKeysTurn(t *testing.T) {
	a, b := issuers()[0], issuers()[1]
	d := passDoor(Policy{})
	x, y := issue(t, a, passNetwork, passEntry), issue(t, b, passNetwork, passEntry)
	if why := d.show(0, 1, 1, y); why != wire.RefusedPass {
		t.Fatalf("before the key is known: %v", why)
	}
	d.show(0, 2, 1, x)
	d.SetPassKeys([]PassKey{{a.Public(), second(3600)}, {b.Public(), second(7200)}})
	if why := d.show(0, 3, 1, x); why != wire.RefusedPass {
		t.Errorf("spent before the keys turned: %v", why)
	}
	if why := d.show(0, 4, 1, y); why != 0 {
		t.Errorf("under the new key: %v", why)
	}
	d.SetPassKeys([]PassKey{{b.Public(), second(7200)}})
	if why := d.show(0, 5, 1, issue(t, a, passNetwork, passEntry)); why != wire.RefusedPass {
		t.Errorf("under a key that is gone: %v", why)
	}
}

func blinding(random io.Reader, key *seal.PassPublic, message []byte) (pass.Blind, error) {
	return blind.Blind(random, key, message)
}

// What a session costs an entry that admits by passes, and one that does not.
func BenchmarkAdmission(b *testing.B) {
	passes := make([]*wire.Pass, 64)
	for i := range passes {
		passes[i] = issue(b, issuers()[0], passNetwork, passEntry)
	}
	for name, rule := range map[string]PassRule{"open": PassesTaken, "passes": PassesRequired} {
		b.Run(name, func(b *testing.B) {
			d := passDoor(Policy{Passes: rule})
			for i := 0; b.Loop(); i++ {
				x := passes[i%len(passes)]
				if rule == PassesTaken {
					x = nil
				} else if i%len(passes) == 0 {
					d = passDoor(Policy{Passes: rule})
				}
				if why := d.show(machine.Time(i), i%1000, byte(i/1000), x); why != 0 && why != wire.RefusedRate {
					b.Fatal(why)
				}
			}
		})
	}
}
