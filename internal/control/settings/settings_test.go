package settings

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// start is when the first change of a test is accepted.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// change is the nth of a history: accepted at second n.
func change(n uint64, key, value string) *Change {
	return &Change{ID: ID{0xc, byte(n >> 8), byte(n)}, Revision: n, At: at(int(n)), Set: map[string]string{key: value}, Actor: "alice"}
}

func fold(t *testing.T, s *State, all ...*Change) *State {
	t.Helper()
	for _, c := range all {
		if err := s.Fold(c); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestFold(t *testing.T) {
	s := fold(t, &State{}, change(1, LogLevel, "debug"), change(2, ExitPorts, "80"), change(3, LogLevel, "warn"))
	if s.Revision() != 3 || s.Value(LogLevel) != "warn" || s.Value(ExitPorts) != "80" || s.Changed(LogLevel) != 3 {
		t.Errorf("revision %d, values %v", s.Revision(), s.All())
	}
	hash := s.Hash()
	for _, wrong := range []*Change{change(3, LogLevel, "info"), change(5, LogLevel, "info"), change(0, LogLevel, "info")} {
		if err := s.Fold(wrong); !errors.Is(err, ErrOrder) || s.Hash() != hash {
			t.Errorf("revision %d after 3: %v", wrong.Revision, err)
		}
	}
	back := s.Back(Values{ExitPorts: "443"})
	if want := (map[string]string{LogLevel: "", ExitPorts: "443"}); !maps.Equal(back, want) {
		t.Errorf("to go back, set %v; want %v", back, want)
	}
}

// A change that is effective later holds from then on, over all that were effective
// before it, whenever they were accepted; and whoever reads later has the same.
func TestEffectiveLater(t *testing.T) {
	later := change(1, LogLevel, "debug")
	later.Effective = at(10)
	between, after := change(2, LogLevel, "warn"), change(3, LogLevel, "error")
	after.At = at(20)
	s := fold(t, &State{}, later, between)
	if s.Value(LogLevel) != "warn" {
		t.Errorf("before its time: %q", s.Value(LogLevel))
	}
	if next, ok := s.Next(); !ok || !next.Equal(at(10)) || s.Advance(at(9)) {
		t.Errorf("it takes effect at %v, %v", next, ok)
	}
	if !s.Advance(at(10)) || s.Value(LogLevel) != "debug" {
		t.Errorf("at its time: %q", s.Value(LogLevel))
	}
	ahead := s.Clone() // a clock that runs ahead of the next change
	if ahead.Advance(at(30)); fold(t, ahead, after).Hash() != fold(t, s, after).Hash() || s.Value(LogLevel) != "error" {
		t.Errorf("after it: %q", s.Value(LogLevel))
	}
	read := fold(t, &State{}, later, between, after)
	if read.Hash() != s.Hash() {
		t.Error("who reads later has another state")
	}
}

// histories draws changes as a truth accepts them, of few keys, so that they meet.
func histories(t *rapid.T) (all []*Change) {
	now := start
	n := rapid.IntRange(1, 40).Draw(t, "changes")
	for i := range n {
		now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "gap")) * time.Second)
		c := &Change{ID: ID{1, byte(i)}, Revision: uint64(i + 1), At: now, Actor: "alice", Set: map[string]string{}}
		for range rapid.IntRange(1, 3).Draw(t, "keys") {
			c.Set[rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")] = rapid.SampledFrom([]string{"", "1", "2", "3"}).Draw(t, "value")
		}
		if rapid.IntRange(0, 3).Draw(t, "later") == 0 {
			c.Effective = now.Add(time.Duration(rapid.IntRange(1, 9).Draw(t, "delay")) * time.Second)
		}
		if rapid.IntRange(0, 3).Draw(t, "trial") == 0 {
			c.Stage = &Stage{Rollout: ID{2, byte(i / 4)}, Percent: rapid.IntRange(1, 99).Draw(t, "share"), Hold: time.Minute}
		}
		all = append(all, c)
	}
	return all
}

// Events one by one or as a batch make one state (design 7): in order at their
// times, out of order and twice through a receiver, all at the end, or from a
// snapshot in the middle.
func TestOneByOneOrAsABatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := histories(t)
		end := all[len(all)-1].At.Add(time.Minute)
		single := &State{}
		for _, c := range all { // a node with a clock of its own, ahead or behind
			single.Advance(c.At.Add(time.Duration(rapid.IntRange(-9, 9).Draw(t, "clock")) * time.Second))
			if err := single.Fold(c); err != nil {
				t.Fatal(err)
			}
		}
		single.Advance(end)

		batch := &State{}
		middle := rapid.IntRange(0, len(all)).Draw(t, "middle")
		for i, c := range all {
			if i == middle {
				read, err := ParseState(batch.Encode())
				if err != nil {
					t.Fatal(err)
				}
				batch = read
			}
			batch.Fold(c)
		}
		batch.Advance(end)

		r := NewReceiver(&State{})
		order := rapid.Permutation(append(append([]*Change(nil), all...), all[:middle]...)).Draw(t, "order")
		for _, c := range order {
			if v := r.HandleChange(c); v == Conflict || v == Full {
				t.Fatalf("revision %d: verdict %d", c.Revision, v)
			}
		}
		r.HandleTimer(end)
		for name, s := range map[string]*State{"batch": batch, "receiver": r.State()} {
			if s.Hash() != single.Hash() || !bytes.Equal(s.Encode(), single.Encode()) {
				t.Fatalf("%s: %v, one by one: %v", name, s.All(), single.All())
			}
		}
		if int(r.Duplicates) != middle || len(r.Held()) != 0 {
			t.Fatalf("%d duplicates of %d; held %v", r.Duplicates, middle, r.Held())
		}
	})
}

// The control of the relation: without versions, what comes last holds.
func TestLastComeIsAnotherState(t *testing.T) {
	one, two := change(1, LogLevel, "debug"), change(2, LogLevel, "warn")
	naive := func(all ...*Change) Values {
		v := Values{}
		for _, c := range all {
			maps.Copy(v, c.Set)
		}
		return v
	}
	if maps.Equal(naive(one, two), naive(two, one)) {
		t.Error("the relation could not fail")
	}
}

// A receiver shows no state that the truth has not had.
func TestReceiverShowsPrefixesOnly(t *testing.T) {
	r := NewReceiver(&State{})
	truth := &State{}
	hashes := map[[32]byte]bool{truth.Hash(): true}
	var all []*Change
	for n := uint64(1); n <= 20; n++ {
		c := change(n, LogLevel, []string{"debug", "info", "warn", "error"}[n%4])
		fold(t, truth, c)
		hashes[truth.Hash()], all = true, append(all, c)
	}
	for step, i := range []int{1, 0, 3, 2, 2, 9, 5, 4, 7, 6, 8, 10, 12, 11, 13, 14, 19, 15, 16, 17, 0, 18} {
		r.HandleChange(all[i])
		if !hashes[r.State().Hash()] {
			t.Fatalf("after revision %d: a state that never was", i+1)
		}
		if after, ask := r.Missing(at(1000 * step)); ask != (len(r.Held()) > 0) || ask && after != r.State().Revision() {
			t.Errorf("held %v, asks %v for what follows %d", r.Held(), ask, after)
		}
	}
	if r.State().Hash() != truth.Hash() || r.Duplicates != 2 || r.Taken != 20 {
		t.Errorf("revision %d, %+v", r.State().Revision(), r.ReceiverCounts)
	}
}

// What is not the truth's is no change: another change at a revision, a change at
// another revision. What has no room is asked for again.
func TestReceiverRefuses(t *testing.T) {
	r := NewReceiver(&State{})
	r.HandleChange(change(1, LogLevel, "debug"))
	r.HandleChange(change(3, LogLevel, "info"))
	hash := r.State().Hash()
	for i, forged := range []*Change{
		{ID: ID{9}, Revision: 1}, {ID: ID{9}, Revision: 3}, {ID: change(1, "", "").ID, Revision: 2}, {ID: change(3, "", "").ID, Revision: 4},
	} {
		forged.At, forged.Set, forged.Actor = at(2), map[string]string{LogLevel: "error"}, "mallory"
		if v := r.HandleChange(forged); v != Conflict || r.State().Hash() != hash {
			t.Errorf("forgery %d: verdict %d", i, v)
		}
	}
	for n := uint64(4); n < 4+2*earlyMost; n++ {
		r.HandleChange(change(n, LogLevel, "warn"))
	}
	if len(r.Held()) != earlyMost || r.Full == 0 {
		t.Errorf("%d held, %+v", len(r.Held()), r.ReceiverCounts)
	}
	full := fold(t, &State{}, change(1, LogLevel, "debug"), change(2, LogLevel, "warn"), change(3, LogLevel, "info"), change(4, LogLevel, "error"))
	if !r.HandleState(full) || r.HandleState(&State{}) || r.State().Revision() < earlyMost {
		t.Errorf("revision %d after a state", r.State().Revision())
	}
}

func TestSchema(t *testing.T) {
	schema := Network()
	for _, k := range schema.Keys() {
		if k.Roles == 0 || k.Help == "" || k.Check(k.Default) != nil {
			t.Errorf("%s: default %q, roles %v", k.Name, k.Default, k.Roles)
		}
	}
	for _, c := range []struct{ key, value, wrong string }{
		{AdmissionPerMinute, "30", ""}, {AdmissionPerMinute, "", ""},
		{AdmissionPerMinute, "0", "admission.per_minute: \"0\" is not a number from 1 to 100000"},
		{AdmissionPerMinute, "030", "is not a number"}, {AdmissionPerMinute, "1e9", "is not a number"},
		{AdmissionLifetime, "25h", "is not a duration from 1m0s to 24h0m0s"}, {AdmissionLifetime, "90m", ""},
		{LogLevel, "loud", "is not one of debug, info, warn, error"},
		{ExitAllowPrivate, "yes", "is not true or false"},
		{ExitPorts, "80,443,1024-65535", ""}, {ExitPorts, "443,80", "ports"}, {ExitPorts, "80,81", "ports"}, {ExitPorts, "0", "ports"},
		{PolicyBundle, "https://policy.example/bundle.tar.gz", ""}, {PolicyBundle, "file:///etc/passwd", "URL"}, {PolicyBundle, "https://user@policy.example/", "URL"},
		{PolicyBundle, "https:///bundle", "URL"}, {PolicyBundle, "http://policy.example/a b", "URL"},
		{"no.such", "1", "no.such: there is no such key"},
	} {
		one := change(0, c.key, c.value)
		err := schema.Accept(one)
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s = %q: %v; want %q", c.key, c.value, err, c.wrong)
		}
	}
	both := change(0, LogLevel, "loud")
	both.Set[AdmissionPerMinute] = "-1"
	if err := schema.Accept(both); err == nil || strings.Count(err.Error(), "is not") != 2 {
		t.Errorf("two faults: %v", err)
	}
}

func TestChangeHasOneEncoding(t *testing.T) {
	c := change(7, LogLevel, "debug")
	c.Effective, c.Comment = at(60), "look closer"
	c.Stage = &Stage{Rollout: ID{3}, Percent: 5, Next: []int{25, 50}, Hold: time.Minute, Worse: 2}
	b := c.Encode()
	read, err := Parse(b)
	if err != nil || !bytes.Equal(read.Encode(), b) {
		t.Fatalf("%+v, %v", read, err)
	}
	for i := range b {
		if _, err := Parse(b[:i]); err == nil {
			t.Fatalf("the first %d bytes are a change", i)
		}
	}
	text := string(b)
	for _, wrong := range []string{
		text + " ", text + text, strings.Replace(text, `"actor"`, `"x":1,"actor"`, 1), strings.Replace(text, "12:00:07Z", "12:00:07.0Z", 1),
		strings.Replace(text, `"revision":7`, `"revision":-7`, 1), strings.Replace(text, "alice", "", 1), strings.Replace(text, `[25,50]`, `[50,25]`, 1),
		strings.Replace(text, `"percent":5`, `"percent":100`, 1), strings.Replace(text, "0c", "0C", 1),
	} {
		if _, err := Parse([]byte(wrong)); err == nil {
			t.Errorf("%s is a change", wrong)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(change(1, LogLevel, "debug").Encode())
	f.Add(fold(&testing.T{}, &State{}, change(1, LogLevel, "debug")).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := Parse(b); err == nil && !bytes.Equal(c.Encode(), b) {
			t.Errorf("%q is encoded as %q", b, c.Encode())
		}
		if s, err := ParseState(b); err == nil {
			s.Advance(at(1 << 30))
			s.Hash()
		}
	})
}

// All subscribers take a state, or none does; what was prepared is given up.
func TestApplyIsAllOrNone(t *testing.T) {
	var held, gone []string
	part := func(name string, fails bool) Subscriber {
		return Subscriber{name, func(v Values) (func(), func(), error) {
			if fails && v[LogLevel] == "debug" {
				return nil, nil, errors.New("cannot")
			}
			return func() { held = append(held, name) }, func() { gone = append(gone, name) }, nil
		}}
	}
	all := []Subscriber{part("a", false), part("b", true), part("c", false)}
	if err := Apply(Values{LogLevel: "debug"}, all); err == nil || err.Error() != "b: cannot" || len(held) != 0 || fmt.Sprint(gone) != "[c a]" {
		t.Errorf("%v; %v hold it, %v gave it up", err, held, gone)
	}
	if err := Apply(Values{LogLevel: "warn"}, all); err != nil || len(held) != 3 {
		t.Errorf("%v; %v hold it", err, held)
	}
}
