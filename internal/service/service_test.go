package service

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

func newKey(t testing.TB, seed uint64) *Key {
	t.Helper()
	k, err := NewKey(prng.FromUint64(seed))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestAddressIsAHostName(t *testing.T) {
	a := newKey(t, 1).Address()
	if len(a.String()) != 56 || !wire.ValidHost(a.String()) {
		t.Errorf("%q does not serve as a host name", a)
	}
	back, err := ParseAddress(a.String())
	if err != nil || back != a {
		t.Errorf("came back as %v, %v", back, err)
	}
	for _, bad := range []string{"", ".nyx", "example.com", a.String()[1:], a.String() + "x", "1" + a.String()[1:]} {
		if _, err := ParseAddress(bad); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// The last character carries one bit: the others must be refused.
	s := []byte(a.String())
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz234567") {
		s[51] = c
		if got, err := ParseAddress(string(s)); err == nil && got.String() != string(s) {
			t.Errorf("%s has a second spelling", s)
		}
	}
}

func TestDescriptorSealsAndOpens(t *testing.T) {
	k := newKey(t, 1)
	d := &Descriptor{Sequence: 7, Expires: 1000, Meetings: []Meeting{{Node: wire.NodeID{1}, ID: wire.MeetingID{2}}, {Node: wire.NodeID{3}}}}
	sealed, err := Seal(k, d, 5, 99)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(k.Address(), sealed, 5, 900)
	if err != nil || got.Sequence != 7 || !slices.Equal(got.Meetings, d.Meetings) || string(got.KEM.Bytes()) != string(k.KEM.Public().Bytes()) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := Open(k.Address(), sealed, 5, 1001); !errors.Is(err, ErrExpired) {
		t.Errorf("after its time: %v", err)
	}
	if _, err := Open(k.Address(), sealed, 6, 900); !errors.Is(err, ErrDescriptor) {
		t.Errorf("in another period: %v", err)
	}
	if _, err := Open(newKey(t, 2).Address(), sealed, 5, 900); !errors.Is(err, ErrDescriptor) {
		t.Errorf("under another address: %v", err)
	}
	for i := 0; i < len(sealed); i += 97 {
		sealed[i] ^= 4
		if _, err := Open(k.Address(), sealed, 5, 900); err == nil {
			t.Errorf("a flipped bit at %d was accepted", i)
		}
		sealed[i] ^= 4
	}
	d.Meetings = make([]Meeting, MeetingsMax+1)
	if _, err := Seal(k, d, 5, 1); !errors.Is(err, ErrDescriptor) {
		t.Errorf("too many meetings: %v", err)
	}
}

// Who knows the address can seal a descriptor of their own, but not sign it.
func TestAForgerWhoKnowsTheAddressIsFound(t *testing.T) {
	k, forger := newKey(t, 1), newKey(t, 2)
	real := k.Address()
	sealed, _ := Seal(forger, &Descriptor{Expires: 1000}, 5, 1)
	if _, err := Open(real, sealed, 5, 0); err == nil {
		t.Fatal("a forged descriptor was accepted")
	}
	if real.Index(5) == real.Index(6) || real.Index(5) == forger.Address().Index(5) {
		t.Error("indexes repeat")
	}
	if Period(PeriodSeconds) != 1 || Period(-1) != 0 {
		t.Error("periods do not follow the clock")
	}
}

func TestKeepersAreStable(t *testing.T) {
	var nodes []wire.NodeID
	for i := range 20 {
		nodes = append(nodes, wire.NodeID{byte(i)})
	}
	ix := Index{9}
	first := Keepers(ix, nodes, 3)
	slices.Reverse(nodes)
	if !slices.Equal(first, Keepers(ix, nodes, 3)) || len(first) != 3 {
		t.Error("the order of candidates matters")
	}
	without := slices.DeleteFunc(slices.Clone(nodes), func(n wire.NodeID) bool { return n == first[0] })
	if got := Keepers(ix, without, 3); got[0] != first[1] || got[1] != first[2] {
		t.Error("a node's leaving moved the others")
	}
	if len(Keepers(ix, nodes[:2], 3)) != 2 {
		t.Error("two candidates give two keepers")
	}
}

func TestStore(t *testing.T) {
	var s Store
	sealed, _ := Seal(newKey(t, 1), &Descriptor{Expires: 1000}, 5, 1)
	ix := Index{1}
	if s.Price(0, ix) != WorkLeast || !s.Put(0, ix, sealed) || s.Price(1, ix) != 0 {
		t.Error("an empty store does not sell a place at the least price, once")
	}
	newer, _ := Seal(newKey(t, 1), &Descriptor{Sequence: 2, Expires: 1000}, 5, 1)
	if !s.Put(1, ix, newer) || !bytes.Equal(s.Get(1, ix), newer) || s.Len() != 1 {
		t.Error("the owner could not replace what lies in its place")
	}
	if s.Put(0, Index{2}, []byte("short")) || s.Get(0, Index{2}) != nil {
		t.Error("what is no descriptor was kept")
	}
	if s.Expire(machine.Time(life)); s.Len() != 0 {
		t.Error("a place outlives what was paid for it")
	}
}

// Who fills a store pays more for each place and pushes nobody out.
func TestAStoreFillsAtAPrice(t *testing.T) {
	const most = 1024
	s := Store{PlacesMax: most}
	sealed, _ := Seal(newKey(t, 1), &Descriptor{Expires: 1000}, 5, 1)
	genuine := Index{0xff}
	s.Put(0, genuine, sealed)
	last, paid := 0, 0.0
	for i := 1; i < most; i++ {
		ix := Index(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i)))
		price := s.Price(0, ix)
		if price < last || price < WorkLeast || price > WorkMost {
			t.Fatalf("place %d costs %d bits after %d", i, price, last)
		}
		last, paid = price, paid+float64(uint64(1)<<price)
		if !s.Put(0, ix, sealed[:sealedMin]) {
			t.Fatalf("no room for place %d", i)
		}
	}
	t.Logf("a whole store costs 2^%.1f hashes", math.Log2(paid*placesMax/most))
	if s.Price(0, Index{9}) != WorkFull || s.Put(0, Index{9}, sealed) {
		t.Error("a full store has room")
	}
	if !bytes.Equal(s.Get(0, genuine), sealed) || s.Price(0, genuine) != 0 || !s.Put(0, genuine, sealed) {
		t.Error("the one who came first lost its place")
	}
	if paid*placesMax/most < 1<<33 {
		t.Error("a store is filled for little")
	}
}

// A place is the service's alone: who knows the address, who copies an
// answer, and a keeper who passes a challenge on cannot lay anything there.
func TestAPlaceBelongsToItsService(t *testing.T) {
	k, thief := newKey(t, 1), newKey(t, 2)
	keeper := wire.NodeID{7}
	c := NewChallenge(seal.Scalar{1, 2, 3})
	publish := func(by *Key) *Publication {
		p := &Publication{Index: k.Address().Index(5), Nonce: 9, Sealed: []byte("sealed")}
		if err := by.Prove(p, 5, keeper, c.Point); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := publish(k)
	if !c.Holds(good, keeper) {
		t.Fatal("the service's own publication was refused")
	}
	imitation := *thief // knows all that the address's readers know
	imitation.address, imitation.tweak, imitation.base = k.address, k.tweak, k.base
	if c.Holds(publish(&imitation), keeper) {
		t.Error("who knows the address laid something down")
	}
	if NewChallenge(seal.Scalar{4}).Holds(good, keeper) {
		t.Error("an answer was taken for another challenge")
	}
	if c.Holds(good, wire.NodeID{8}) {
		t.Error("an answer was taken by another keeper")
	}
	for name, change := range map[string]func(p *Publication){
		"index":   func(p *Publication) { p.Index = k.Address().Index(6) },
		"nonce":   func(p *Publication) { p.Nonce++ },
		"proof":   func(p *Publication) { p.Proof[3] ^= 1 },
		"content": func(p *Publication) { p.Sealed = []byte("forged") },
		"low":     func(p *Publication) { p.Index = Index{} },
	} {
		p := *good
		if change(&p); c.Holds(&p, keeper) {
			t.Errorf("another %s was taken", name)
		}
	}
	if (Address{}).Index(5) != (Index{}) || k.Prove(good, 5, keeper, seal.Point{}) == nil {
		t.Error("a point of low order is a place")
	}
}

func TestWork(t *testing.T) {
	c, ix := seal.Point{1}, Index{2}
	n, ok := FindWork(c, ix, 10, 0, 1<<16)
	if !ok || Work(c, ix, n) < 10 {
		t.Fatalf("nonce %d, %v", n, ok)
	}
	if _, ok := FindWork(c, ix, 60, 0, 100); ok {
		t.Error("60 bits were found in 100 tries")
	}
}

func BenchmarkWork(b *testing.B) {
	b.ReportAllocs()
	for i := range b.N {
		Work(seal.Point{1}, Index{2}, uint64(i))
	}
}
