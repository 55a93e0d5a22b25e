package control

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

func newAdmission(p Policy) *Admission {
	return NewAdmission(p, &seal.Key{1}, prng.FromUint64(1))
}

func request(client, nonce byte) *wire.SessionInit {
	return &wire.SessionInit{ClientID: [16]byte{client}, Nonce: [16]byte{nonce}, Version: wire.AdmissionVersion}
}

// SESSION_INIT is idempotent by client id and nonce: a repeated request gets
// the same token and does not count against the rate.
func TestInitIsIdempotent(t *testing.T) {
	a := newAdmission(Policy{PerMinute: 2})
	first, refused := a.Init(0, request(1, 1), 1)
	if refused != 0 {
		t.Fatalf("refused: %v", refused)
	}
	for i := range 100 {
		again, refused := a.Init(machine.Time(i), request(1, 1), 1)
		if refused != 0 || again.Token != first.Token || again.Version != 1 {
			t.Fatalf("repetition %d: version %d, refused %v", i, again.Version, refused)
		}
	}
	second, _ := a.Init(0, request(1, 2), 1)
	if second.Token == first.Token || second.Version != 2 {
		t.Error("a new nonce did not make a new record version")
	}
	if _, refused := a.Init(0, request(1, 3), 1); refused != wire.RefusedRate {
		t.Errorf("third session in a minute: %v", refused)
	}
	if _, refused := a.Init(machine.Time(time.Minute), request(1, 4), 1); refused != 0 {
		t.Errorf("a minute later: %v", refused)
	}
}

func TestPolicyRefuses(t *testing.T) {
	key := &seal.Key{7}
	a := newAdmission(Policy{NetworkKey: key, RecordsMax: 1})
	m := request(1, 1)
	if _, refused := a.Init(0, m, 1); refused != wire.RefusedPolicy {
		t.Errorf("without proof: %v", refused)
	}
	m.Proof = Proof(key, m.ClientID, m.Nonce)
	if _, refused := a.Init(0, m, 1); refused != 0 {
		t.Errorf("with proof: %v", refused)
	}
	other := request(2, 1)
	other.Proof = m.Proof
	if _, refused := a.Init(0, other, 1); refused != wire.RefusedPolicy {
		t.Errorf("another client's proof: %v", refused)
	}
	other.Proof = Proof(key, other.ClientID, other.Nonce)
	if _, refused := a.Init(0, other, 1); refused != wire.RefusedFull {
		t.Errorf("beyond the bound on records: %v", refused)
	}
	old := request(1, 9)
	old.Version = 9
	if _, refused := a.Init(0, old, 1); refused != wire.RefusedVersion {
		t.Errorf("unknown version: %v", refused)
	}
	a.Drain()
	if _, refused := a.Init(0, request(1, 5), 1); refused != wire.RefusedDrain {
		t.Errorf("while draining: %v", refused)
	}
}

func TestRecordsEnd(t *testing.T) {
	a := newAdmission(Policy{Lifetime: time.Minute})
	one, _ := a.Init(0, request(1, 1), 1)
	a.Init(0, request(2, 1), 1)
	a.Init(0, request(3, 1), 1)
	if a.Terminate([16]byte{1}, &wire.Token{}) {
		t.Error("a wrong token ended a session")
	}
	if !a.Terminate([16]byte{1}, &one.Token) || a.Terminate([16]byte{1}, &one.Token) {
		t.Error("SESSION_TERMINATE must end a session once")
	}
	if !a.Release([16]byte{2}, 1) || a.Release([16]byte{2}, 1) || a.Len() != 1 {
		t.Errorf("%d records after two ended of three", a.Len())
	}
	if a.NextExpiry() != machine.Time(time.Minute) {
		t.Errorf("next expiry at %d", a.NextExpiry())
	}
	if a.Has([16]byte{1}) || a.Has([16]byte{2}) || !a.Has([16]byte{3}) {
		t.Error("a session that has ended is not live, and one that has not is")
	}
	a.Expire(machine.Time(time.Minute))
	if a.Len() != 0 || len(a.records) != 0 || a.NextExpiry() != machine.Never {
		t.Errorf("%d records after their time", a.Len())
	}
}

// A client has its rate and no more, however often it ends its session or
// comes by another link; the records that hold it to that end with the minute.
func TestRateOutlivesTheSession(t *testing.T) {
	a := newAdmission(Policy{PerMinute: 3, RecordsMax: 2})
	end := map[string]func(wire.Token) bool{
		"terminate": func(token wire.Token) bool { return a.Terminate([16]byte{1}, &token) },
		"vanish":    func(wire.Token) bool { return a.Release([16]byte{1}, 1) },
	}
	now := machine.Time(0)
	for name, end := range end {
		t.Run(name, func(t *testing.T) {
			for i := range 3 {
				ready, refused := a.Init(now, request(1, byte(i)), 1)
				if refused != 0 || !end(ready.Token) || end(ready.Token) {
					t.Fatalf("session %d: refused %v, or not ended once", i, refused)
				}
			}
			for nonce := range byte(9) {
				if _, refused := a.Init(now.Add(time.Minute-1), request(1, nonce), 1); refused != wire.RefusedRate {
					t.Errorf("a fourth session within the minute, nonce %d: %v", nonce, refused)
				}
			}
			if a.Len() != 0 || len(a.records) != 1 {
				t.Errorf("%d live of %d records", a.Len(), len(a.records))
			}
			now = now.Add(time.Minute)
			if _, refused := a.Init(now, request(1, 200), 1); refused != 0 || a.Len() != 1 {
				t.Errorf("a minute later: %v, %d live", refused, a.Len())
			}
			a.Release([16]byte{1}, 1)
			if now = now.Add(time.Minute); a.NextExpiry() != now {
				t.Errorf("the record ends at %v, want %v", a.NextExpiry(), now)
			}
			if a.Expire(now); len(a.records) != 0 || a.ended != 0 {
				t.Errorf("%d records, %d of them ended, after their time", len(a.records), a.ended)
			}
		})
	}
	// They count towards the bound on memory.
	for client := range byte(3) {
		_, refused := a.Init(now, request(client, 1), 1)
		if want := client == 2; (refused == wire.RefusedFull) != want {
			t.Errorf("client %d: %v", client, refused)
		}
		a.Release([16]byte{client}, 1)
	}
}

// Property 12: the token says nothing to who lacks the fleet key, and two
// tokens of one client share nothing.
func TestTokensShareNothing(t *testing.T) {
	a := newAdmission(Policy{})
	one, _ := a.Init(0, request(1, 1), 1)
	two, _ := a.Init(0, request(1, 2), 1)
	same := 0
	for i := range one.Token {
		if one.Token[i] == two.Token[i] {
			same++
		}
	}
	if same > 6 {
		t.Errorf("%d of %d bytes are equal", same, wire.TokenSize)
	}
}

// A token outlives the key that it is sealed under: it is answered again, and ends
// its session, for as long as its record lives. New tokens are under the new key,
// and a key is forgotten with the last of its tokens.
func TestTokensOutliveTheFleetKey(t *testing.T) {
	a := newAdmission(Policy{Lifetime: time.Minute, PerMinute: 1000})
	first := a.fleet
	var tokens []wire.Token
	for client := range byte(4) {
		ready, refused := a.Init(0, request(client, 1), 1)
		if refused != 0 {
			t.Fatal(refused)
		}
		tokens = append(tokens, ready.Token)
	}
	for i := range byte(50) {
		a.RotateFleet(&seal.Key{2, i})
		again, refused := a.Init(machine.Time(i), request(0, 1), 1)
		if refused != 0 || again.Token != tokens[0] {
			t.Fatalf("after %d rotations the token of the same nonce is another, refused %v", i+1, refused)
		}
		if _, refused := a.Init(0, request(9, i), 1); refused != 0 {
			t.Fatalf("a new session after %d rotations: %v", i+1, refused)
		}
		if first.tokens != 4 || !first.Ready() || a.fleet.tokens != 1 {
			t.Fatalf("after %d rotations %d tokens are under the first key, %d under the present one", i+1, first.tokens, a.fleet.tokens)
		}
	}
	for what, end := range map[string]func() bool{
		"terminate": func() bool { return a.Terminate([16]byte{0}, &tokens[0]) },
		"release":   func() bool { return a.Release([16]byte{1}, 1) },
		"renew":     func() bool { _, refused := a.Init(0, request(2, 2), 1); return refused == 0 },
	} {
		if before := first.tokens; !end() || first.tokens != before-1 {
			t.Errorf("%s: %d tokens are left of %d", what, first.tokens, before)
		}
	}
	if !first.Ready() {
		t.Error("the first key is gone before its last token")
	}
	a.Expire(machine.Time(2 * time.Minute))
	if first.tokens != 0 || first.Ready() || !a.fleet.Ready() {
		t.Errorf("%d tokens hold the first key after the last record's end", first.tokens)
	}
	if last := a.fleet; last.tokens != 0 {
		t.Errorf("%d tokens after all records have ended", last.tokens)
	} else if a.RotateFleet(&seal.Key{3}); last.Ready() {
		t.Error("a key without tokens outlives its replacement")
	}
}

// Limits change for sessions to come, and go back to the policy's.
func TestLimitsChangeWhileItRuns(t *testing.T) {
	a := newAdmission(Policy{PerMinute: 1, RecordsMax: 1})
	admit := func(client, nonce byte) wire.Refusal {
		_, refused := a.Init(0, request(client, nonce), 1)
		return refused
	}
	if admit(1, 1) != 0 || admit(1, 2) != wire.RefusedRate || admit(2, 1) != wire.RefusedFull {
		t.Fatal("the policy does not hold")
	}
	a.SetLimits(Limits{PerMinute: 2, RecordsMax: 2, Lifetime: time.Minute})
	if admit(1, 2) != 0 || admit(1, 3) != wire.RefusedRate || admit(2, 1) != 0 || admit(3, 1) != wire.RefusedFull {
		t.Error("new limits do not hold")
	}
	if a.NextExpiry() != machine.Time(time.Minute) {
		t.Errorf("a new session ends at %v", a.NextExpiry())
	}
	a.SetLimits(Limits{})
	if admit(2, 2) != wire.RefusedRate || admit(3, 1) != wire.RefusedFull || a.Len() != 2 {
		t.Error("the policy does not hold again")
	}
}
