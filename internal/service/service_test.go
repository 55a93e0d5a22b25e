package service

import (
	"errors"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
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
	for w := range versionsMax {
		if !s.Put(0, ix, [16]byte{byte(w)}, sealed) {
			t.Fatalf("writer %d found no room", w)
		}
	}
	if s.Put(0, ix, [16]byte{99}, sealed) {
		t.Error("no bound on writers")
	}
	if !s.Put(1, ix, [16]byte{0}, sealed) || len(s.Get(1, ix)) != versionsMax {
		t.Error("a writer could not replace its own")
	}
	if s.Put(0, Index{2}, [16]byte{}, []byte("short")) || s.Get(0, Index{2}) != nil {
		t.Error("what is no descriptor was kept")
	}
	if s.Expire(machine.Time(life)); s.Len() != 0 {
		t.Error("nothing expires")
	}
}
