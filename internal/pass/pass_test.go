package pass

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/seal/blind"
	"github.com/nyxnet/nyx/internal/wire"
)

// made are keys for tests, which take a while to make.
var made = sync.OnceValue(func() (out [4]*blind.Signer) {
	for i := range out {
		var err error
		if out[i], err = blind.Generate(); err != nil {
			panic(err)
		}
	}
	return out
})

func signer(t *testing.T, seed byte) *seal.Signer {
	t.Helper()
	s, err := seal.NewSigner(&[seal.SignSeedSize]byte{seed})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const life = 1000

// list is the signed list of keys that begin at multiples of life.
func list(t *testing.T, by *seal.Signer, network string, keys map[int64]*blind.Signer) []byte {
	t.Helper()
	said := wire.PassKeys{Network: network, Life: life, Issued: 5}
	for n := int64(0); len(said.Keys) < len(keys); n++ {
		if k := keys[n]; k != nil {
			said.Keys = append(said.Keys, wire.PassKey{Begins: n * life, Modulus: *k.Public().Modulus()})
		}
	}
	b, err := SignKeys(by, &said)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A list is the issuer's, whole, and of its network; its keys sign one after the other.
func TestKeys(t *testing.T) {
	own, k := signer(t, 1), made()
	b := list(t, own, "net", map[int64]*blind.Signer{1: k[0], 2: k[1]})
	keys, err := ParseKeys(b, "net", own.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		unix int64
		want *blind.Signer
	}{{999, nil}, {1000, k[0]}, {1999, k[0]}, {2000, k[1]}, {2999, k[1]}, {3000, nil}} {
		got, ok := keys.Signing(c.unix)
		if ok != (c.want != nil) || ok && got.Public.ID() != c.want.Public().ID() {
			t.Errorf("at %d: %v", c.unix, ok)
		}
	}
	if first := keys.All()[0]; first.Until != 3000 || first.Ends != 2000 || keys.Issued() != 5 {
		t.Errorf("the first key is %+v", first)
	}
	if len(b) > KeysMax {
		t.Errorf("a list has %d bytes, at most %d are read", len(b), KeysMax)
	}
	for i := range len(b) / 97 {
		bad := bytes.Clone(b)
		bad[97*i] ^= 1
		if _, err := ParseKeys(bad, "net", own.Public()); !errors.Is(err, ErrKeys) {
			t.Errorf("with another byte %d: %v", 97*i, err)
		}
	}
	for name, err := range map[string]error{
		"cut off":          parseErr(b[:len(b)-1], "net", own),
		"of another":       parseErr(b, "net", signer(t, 2)),
		"of other network": parseErr(b, "other", own),
		"empty":            parseErr(nil, "net", own),
		"without content":  parseErr(b[len(b)-seal.SignatureSize:], "net", own),
	} {
		if !errors.Is(err, ErrKeys) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func parseErr(b []byte, network string, by *seal.Signer) error {
	_, err := ParseKeys(b, network, by.Public())
	return err
}

// An issuer that names another key for a period than it did is found out.
func TestForkedKeys(t *testing.T) {
	own, k := signer(t, 1), made()
	parse := func(keys map[int64]*blind.Signer) *Keys {
		t.Helper()
		out, err := ParseKeys(list(t, own, "net", keys), "net", own.Public())
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	first := parse(map[int64]*blind.Signer{1: k[0], 2: k[1]})
	if err := first.Follows(nil); err != nil {
		t.Error(err)
	}
	if err := parse(map[int64]*blind.Signer{2: k[1], 3: k[2]}).Follows(first); err != nil {
		t.Errorf("the next list: %v", err)
	}
	if err := parse(map[int64]*blind.Signer{2: k[3], 3: k[2]}).Follows(first); !errors.Is(err, ErrForked) {
		t.Errorf("another key for a period: %v", err)
	}
}

// A challenge is of one network and one entry.
func TestChallenges(t *testing.T) {
	seen := map[[32]byte]bool{}
	for _, network := range []string{"a", "b"} {
		for entry := range byte(2) {
			seen[Challenge(network, wire.NodeID{entry})] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d challenges of 4", len(seen))
	}
}

func TestQuota(t *testing.T) {
	q := Quota{Most: 10, Window: 60}
	take := func(unix int64, who byte, n int, want bool) {
		t.Helper()
		ok, wait := q.Take(unix, Subject{who}, n)
		if ok != want || ok == (wait > 0) || wait > q.Window {
			t.Errorf("%d for %d at %d: %v, wait %d", n, who, unix, ok, wait)
		}
	}
	take(65, 1, 8, true)
	take(66, 1, 3, false) // all or none
	take(66, 1, 2, true)
	take(119, 1, 1, false)
	take(119, 2, 10, true) // another's is another's
	take(120, 1, 10, true) // the next window
	take(121, 3, 11, false)
}

// watcher is an issuer that keeps all that it sees.
type watcher struct {
	*blind.Signer
	seen [][]byte
}

func (w *watcher) answer(t *testing.T, body []byte) (out []byte) {
	t.Helper()
	requests, ok := wire.ParsePassRequests(body)
	if !ok {
		t.Fatal("not a batch")
	}
	w.seen = append(w.seen, body)
	for _, r := range requests {
		s, err := w.Sign(r.Blinded[:])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s...)
	}
	w.seen = append(w.seen, out)
	return out
}

// TestUnlinkable: what an issuer sees of a batch, both ways, and what an entry sees of
// its passes have no six bytes in common, beyond the key and the kind that all have.
func TestUnlinkable(t *testing.T) {
	unlinkable(t, blinding, true)
}

// TestUnlinkableControl: with a blinding that does not blind, the same test finds it.
func TestUnlinkableControl(t *testing.T) {
	unlinkable(t, func(_ io.Reader, key *seal.PassPublic, message []byte) (Blind, error) {
		b, err := blind.Blind(rand.Reader, key, message)
		return plain{b, message}, err
	}, false)
}

// plain shows the issuer the message in place of what hides it.
type plain struct {
	*blind.Message
	message []byte
}

func (p plain) Blinded() []byte { return append(make([]byte, 256-len(p.message)), p.message...) }

func (p plain) Finalize(signature []byte) ([]byte, error) { return signature, nil }

func unlinkable(t *testing.T, blind Blinder, want bool) {
	t.Helper()
	w := &watcher{Signer: made()[0]}
	entries := []wire.NodeID{{1}, {1}, {2}, {3}}
	order, err := NewOrder(rand.Reader, "net", w.Public(), entries, blind)
	if err != nil {
		t.Fatal(err)
	}
	passes, err := order.Finish(w.answer(t, order.Body()))
	if err != nil {
		t.Fatal(err)
	}
	alone := true
	for i := range passes {
		p := &passes[i]
		for _, part := range [][]byte{p.Nonce[:], p.Challenge[:], p.Authenticator[:]} {
			for at := range len(part) - 6 {
				for _, seen := range w.seen {
					alone = alone && !bytes.Contains(seen, part[at:at+6])
				}
			}
		}
		if good := w.Public().Verify(p.AppendInput(nil), p.Authenticator[:]); good != want || p.Challenge != Challenge("net", entries[i]) {
			t.Errorf("pass %d: good %v", i, good)
		}
	}
	if alone != want {
		t.Errorf("issuer and entry have nothing in common: %v", alone)
	}
}

func blinding(random io.Reader, key *seal.PassPublic, message []byte) (Blind, error) {
	return blind.Blind(random, key, message)
}

func TestOrders(t *testing.T) {
	key := made()[0].Public()
	for _, n := range []int{0, wire.PassBatchMax + 1} {
		if _, err := NewOrder(rand.Reader, "net", key, make([]wire.NodeID, n), blinding); err == nil {
			t.Errorf("an order of %d", n)
		}
	}
	order, err := NewOrder(rand.Reader, "net", key, make([]wire.NodeID, 2), blinding)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, make([]byte, 256), make([]byte, 512)} {
		if _, err := order.Finish(bad); err == nil {
			t.Errorf("an answer of %d bytes was taken", len(bad))
		}
	}
	if _, err := NewOrder(bytes.NewReader(nil), "net", key, make([]wire.NodeID, 1), blinding); err == nil {
		t.Error("an order without randomness")
	}
}
