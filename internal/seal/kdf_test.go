package seal

import (
	"bytes"
	"testing"
)

func TestHashKeepsPartsApart(t *testing.T) {
	seen := map[[HashSize]byte]string{}
	for name, h := range map[string][HashSize]byte{
		"none":        Hash("l"),
		"empty":       Hash("l", nil),
		"ab|c":        Hash("l", []byte("ab"), []byte("c")),
		"a|bc":        Hash("l", []byte("a"), []byte("bc")),
		"abc":         Hash("l", []byte("abc")),
		"other label": Hash("la", []byte("bc")),
	} {
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s hash alike", name, other)
		}
		seen[h] = name
	}
}

func TestMACState(t *testing.T) {
	key := Key{4}
	m := NewMACState(&key)
	for n := range 300 {
		parts := [][]byte{count(1, n), count(2, 18), nil}
		if got, want := m.Sum(parts...), MAC(&key, parts...); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
	}
	other := Key{5}
	if MAC(&key, count(0, 9)) == MAC(&other, count(0, 9)) || MAC(&key, count(0, 9)) == MAC(&key, count(0, 10)) {
		t.Error("MAC ignores its input")
	}
	b := count(0, 18)
	if n := testing.AllocsPerRun(100, func() { m.Sum(b, b[:2]) }); n != 0 {
		t.Errorf("%.1f allocations", n)
	}
}

func TestEqual(t *testing.T) {
	if !Equal(count(0, 16), count(0, 16)) || Equal(count(0, 16), count(1, 16)) || Equal(count(0, 16), count(0, 15)) {
		t.Error("Equal")
	}
}

func TestScheduleSidesAgree(t *testing.T) {
	a, b := NewSchedule("p"), NewSchedule("p")
	for _, s := range []*Schedule{a, b} {
		s.MixHash([]byte("hello"))
		s.MixKey([]byte("secret one"))
	}
	sealed := a.SealNext([]byte("head"), []byte("text"))
	out, err := b.OpenNext(nil, sealed[4:])
	if err != nil || string(out) != "text" || string(sealed[:4]) != "head" {
		t.Fatalf("%q %v", out, err)
	}
	if a.Key("k") != b.Key("k") || a.Key("k") == a.Key("l") {
		t.Error("keys")
	}
	second := a.SealNext(nil, []byte("text"))
	if bytes.Equal(second, sealed[4:]) {
		t.Error("two messages were sealed under one key")
	}
	second[0] ^= 1
	if _, err := b.OpenNext(nil, second); err != ErrAuth {
		t.Errorf("an altered message: %v", err)
	}
}

// Every step of the history is bound into every later key.
func TestScheduleBindsItsHistory(t *testing.T) {
	type step func(*Schedule)
	hash := func(s string) step { return func(x *Schedule) { x.MixHash([]byte(s)) } }
	key := func(s string) step { return func(x *Schedule) { x.MixKey([]byte(s)) } }
	seen := map[Key]int{}
	for i, h := range [][]step{
		{}, {hash("a")}, {key("a")}, {hash("a"), hash("b")}, {hash("b"), hash("a")}, {hash("ab")},
		{key("a"), key("b")}, {key("b"), key("a")}, {key("a"), hash("b")}, {hash("b"), key("a"), hash("")},
	} {
		s := NewSchedule("p")
		for _, f := range h {
			f(s)
		}
		k := s.Key("x")
		if other, ok := seen[k]; ok {
			t.Errorf("histories %d and %d give one key", i, other)
		}
		seen[k] = i
	}
	if k := NewSchedule("q").Key("x"); seen[k] != 0 || k == NewSchedule("p").Key("x") {
		t.Error("the protocol's name is not bound")
	}
}

func TestScheduleCloneAndClear(t *testing.T) {
	s := NewSchedule("p")
	s.MixKey([]byte("x"))
	before := s.Key("k")
	c := s.Clone()
	c.MixKey([]byte("y"))
	if s.Key("k") != before || c.Key("k") == before {
		t.Error("a clone is not independent")
	}
	s.Clear()
	if s.chain != (Key{}) || s.hash != [HashSize]byte{} {
		t.Error("Clear left something")
	}
	k := Key{1}
	if k.Clear(); k != (Key{}) {
		t.Error("a key was not cleared")
	}
}
