package translog

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/directory"
)

// A witness cosigns only what goes on from what it cosigned last, over restarts
// too. One that forgets (the control) cosigns both sides of a fork.
func TestWitnessRefusesAFork(t *testing.T) {
	w := newWorld(t)
	honest, forked := w.log(6, 6), w.log(8, 4)
	w.cosigned(honest, 0, 0)
	_, note := w.head(forked, 0)
	for _, again := range []string{"", "after a restart"} {
		if _, err := w.ask(0, forked, note); !errors.Is(err, ErrInconsistent) {
			t.Errorf("a fork %s: %v", again, err)
		}
		w.restart(0)
	}
	// Of the same size, and shorter.
	same := w.log(6, 4)
	_, note = w.head(same, 0)
	if _, err := w.ask(0, same, note); !errors.Is(err, ErrInconsistent) {
		t.Errorf("another of the same size: %v", err)
	}
	short := w.log(5, 5)
	_, note = w.head(short, 0)
	if _, _, err := w.witnesses[0].Cosign(&Request{Old: 5, Note: note}, 0); !errors.Is(err, ErrSize) {
		t.Errorf("backwards: %v", err)
	}
	// The honest log goes on, and the same checkpoint may be asked for again.
	w.add(honest, testEpoch+6, 0)
	w.cosigned(honest, 0, 0)
	w.cosigned(honest, 0, 0)
	// Another authority's log is another matter.
	w.cosigned(forked, 1, 0)
	// What its log has not signed moves nothing.
	_, note = w.head(honest, 1)
	bad := strings.Replace(string(note), Origin(testNetwork, w.signers[1].Public()), Origin(testNetwork, w.signers[0].Public()), 2)
	if _, _, err := w.witnesses[0].Cosign(&Request{Old: 7, Note: []byte(bad)}, 0); !errors.Is(err, ErrSignature) {
		t.Errorf("not signed by its log: %v", err)
	}

	w.kept[0] = map[string][]byte{}
	w.restart(0)
	_, note = w.head(forked, 0)
	if _, err := w.ask(0, forked, note); err != nil {
		t.Errorf("control: a witness that has forgotten: %v", err)
	}
}

// Nothing is cosigned that the witness could not keep.
func TestWitnessKeepsFirst(t *testing.T) {
	w := newWorld(t)
	full := errors.New("disk full")
	w.witnesses[0].keep = func(Checkpoint, []byte) error { return full }
	l := w.log(3, 3)
	_, note := w.head(l, 0)
	for range 2 {
		if line, err := w.ask(0, l, note); !errors.Is(err, full) || line != nil {
			t.Errorf("%d bytes, %v", len(line), err)
		}
	}
	if c, _ := w.witnesses[0].Newest(Origin(testNetwork, w.signers[0].Public())); c.Size != 0 {
		t.Errorf("the witness stands at %d", c.Size)
	}
}

// A client that was away for a week takes the log as it is now with one proof of
// consistency. A log that dropped or changed an entry meanwhile cannot give one,
// even if all witnesses help it.
func TestAWeekAway(t *testing.T) {
	w := newWorld(t)
	const before, after = 1000, 1168
	whole := w.log(after, after)
	old := &Log{}
	for i := range int64(before) {
		old.Append(whole.Entry(i))
	}
	c, note := w.cosigned(old, 0, 0, 1)
	m, err := NewMemory(w.policy)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := m.Accept(c, note, nil); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if m, err = NewMemory(w.policy, note); err != nil { // a restart
		t.Fatal(err)
	}
	newer, newNote := w.head(whole, 0)
	from, to := m.Lacks(newer)
	proof, err := whole.Consistency(from, to)
	if err != nil || from != before || to != after {
		t.Fatal(from, to, err)
	}
	t.Logf("a week of epochs: a proof of %d hashes, %d bytes", len(proof), len(AppendHashes(nil, proof)))

	dropped, changed := &Log{}, &Log{}
	for i := range int64(after) {
		e := whole.Entry(i)
		if i == 500 {
			changed.Append(w.entry(testEpoch+500, 7))
			continue
		}
		dropped.Append(e)
		changed.Append(e)
	}
	for name, l := range map[string]*Log{"dropped": dropped, "changed": changed} {
		bad, badNote := w.head(l, 0)
		proof, _ := l.Consistency(before, bad.Size)
		if _, err := m.Accept(bad, badNote, proof); !errors.Is(err, ErrInconsistent) {
			t.Errorf("an entry %s: %v", name, err)
		}
		forgetful, _ := NewMemory(w.policy)
		if _, err := forgetful.Accept(bad, badNote, nil); err != nil {
			t.Errorf("control: an entry %s, and no memory: %v", name, err)
		}
	}
	if _, err := m.Accept(newer, newNote, nil); !errors.Is(err, ErrInconsistent) {
		t.Errorf("without a proof: %v", err)
	}
	if changed, err := m.Accept(newer, newNote, proof); err != nil || !changed {
		t.Error(changed, err)
	}
	// A server that lags behind is believed, and not remembered.
	if changed, err := m.Accept(c, note, proof); err != nil || changed {
		t.Error(changed, err)
	}
	if got, _ := m.Newest(newer.Origin); got != newer {
		t.Errorf("remembers %d", got.Size)
	}
}

// read has a watch take what is new in a log.
func (w *world) read(watch *Watch, l *Log, authority int) ([]*Evidence, error) {
	w.Helper()
	c, note := w.head(l, authority)
	return watch.Extend(note, l.entries[min(watch.Size(c.Origin), c.Size):])
}

// judge reads evidence as who was sent it does.
func (w *world) judge(e *Evidence) (Finding, error) {
	w.Helper()
	e, err := ParseEvidence(e.Encode())
	if err != nil {
		w.Fatal(err)
	}
	return e.Judge(w.policy, w.trust)
}

// Two documents of one number, one in each log, are found by who reads both, and
// the evidence names those who signed both.
func TestTwoDocumentsAreFound(t *testing.T) {
	w := newWorld(t)
	watch := NewWatch(w.policy)
	l0, l1 := w.log(5, 5), w.log(5, 5)
	a, b := w.document(testEpoch+5, 0, 0), w.document(testEpoch+5, 0, 1)
	l0.Append(a.SignedHeader())
	l1.Append(b.SignedHeader())
	if found, err := w.read(watch, l0, 0); err != nil || len(found) != 0 {
		t.Fatal(found, err)
	}
	found, err := w.read(watch, l1, 1)
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	e := found[0]
	f, err := w.judge(e)
	if err != nil || !f.Proven || len(f.Accused) != 2 || e.Name() != "documents-500005-0" {
		t.Errorf("%s: %+v, %v", e.Name(), f, err)
	}
	e.Documents[0].Proposal, e.Documents[1].Proposal = a.Proposal(), b.Proposal()
	if f, err = w.judge(e); err != nil || !f.Proven || len(f.Accused) != 2 || !strings.Contains(f.Says, "2 authorities signed both") {
		t.Errorf("%+v, %v", f, err)
	}
	t.Logf("evidence of %d bytes: %s", len(e.Encode()), f.Says)

	// Nobody can be accused by less.
	for name, spoil := range map[string]func(*Evidence){
		"one document twice":        func(e *Evidence) { e.Documents[1] = e.Documents[0] },
		"another network":           func(e *Evidence) { e.Network = "other" },
		"one document":              func(e *Evidence) { e.Documents = e.Documents[:1] },
		"nothing shown":             func(e *Evidence) { e.Documents[0].Proposal, e.Documents[0].Proof = nil, "" },
		"the other's signatures":    func(e *Evidence) { e.Documents[0].Proposal = e.Documents[1].Proposal },
		"the other's proof":         func(e *Evidence) { e.Documents[0].Proof = e.Documents[1].Proof },
		"a header that none signed": func(e *Evidence) { e.Documents[0].Header = w.entry(testEpoch+5, 3) },
		"unsigned": func(e *Evidence) {
			d := w.document(testEpoch+5, 0, 0)
			d.KeepValid(&directory.Trust{Network: testNetwork, Authorities: w.trust.Authorities[:1], Threshold: 1})
			e.Documents[0].Proposal = d.Proposal()
		},
	} {
		var copied Evidence
		if err := json.Unmarshal(e.Encode(), &copied); err != nil {
			t.Fatal(err)
		}
		spoil(&copied)
		if f, err := w.judge(&copied); err == nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
	// The control: equal documents in both logs accuse nobody.
	watch = NewWatch(w.policy)
	for i := range 2 {
		if found, err := w.read(watch, w.log(9, 9), i); err != nil || len(found) != 0 {
			t.Errorf("equal logs: %v, %v", found, err)
		}
	}
}

// A log that shows another tree than before is found, whatever the sizes, and the
// evidence proves it from the two checkpoints.
func TestForksAreFound(t *testing.T) {
	w := newWorld(t)
	for _, s := range []struct{ seen, fork, from int }{
		{5, 9, 3}, {4, 7, 0}, {8, 16, 7}, {6, 6, 2}, {9, 5, 3}, {16, 8, 2}, {1, 2, 0}, {13, 12, 11},
	} {
		watch := NewWatch(w.policy)
		if _, err := w.read(watch, w.log(s.seen, s.seen), 0); err != nil {
			t.Fatal(err)
		}
		other := w.log(s.fork, s.from)
		_, note := w.head(other, 0)
		_, err := w.read(watch, other, 0)
		if !errors.Is(err, ErrInconsistent) {
			t.Errorf("%+v: %v", s, err)
			continue
		}
		if origin := Origin(testNetwork, w.signers[0].Public()); watch.Size(origin) != int64(s.seen) {
			t.Errorf("%+v: the copy has %d entries now", s, watch.Size(origin))
		}
		e, err := watch.Fork(note, other.entries)
		if err != nil {
			t.Errorf("%+v: %v", s, err)
			continue
		}
		if f, err := w.judge(e); err != nil || !f.Proven || len(f.Accused) != 1 {
			t.Errorf("%+v: %+v, %v", s, f, err)
		}
		// Changed, it proves nothing.
		slices.Reverse(e.Checkpoints)
		if f, err := w.judge(e); err == nil && s.seen != s.fork {
			t.Errorf("%+v: reversed: %+v", s, f)
		}
	}
	// A log that does not show its entries owes a proof; that it lies is not said.
	watch := NewWatch(w.policy)
	w.read(watch, w.log(5, 5), 0)
	_, note := w.head(w.log(9, 3), 0)
	e, err := watch.Fork(note, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := w.judge(e); err != nil || f.Proven {
		t.Errorf("%+v, %v", f, err)
	}
	// The control: an honest log cannot be accused.
	whole := w.log(9, 9)
	_, early := w.head(w.log(5, 5), 0)
	_, late := w.head(whole, 0)
	e = &Evidence{Kind: KindLog, Network: testNetwork, Checkpoints: []string{string(early), string(late)}, Path: string(AppendHashes(nil, whole.prefix(0, 9, 5)))}
	if f, err := w.judge(e); err == nil {
		t.Errorf("an honest log: %+v", f)
	}
}
