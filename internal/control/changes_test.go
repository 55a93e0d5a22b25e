package control

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// What becomes of a session is told under the hash of its token: that it began, with
// all that a record holds, that another takes its place, and that it ended early.
// Repetitions and refusals tell nothing.
func TestChangesOfRecords(t *testing.T) {
	key := &seal.Key{7}
	a := newAdmission(Policy{NetworkKey: key, Lifetime: time.Hour, PerMinute: 3})
	a.Changes = &RecordChanges{UnixStart: 1_800_000_000}
	init := func(now machine.Time, client, nonce byte) *wire.SessionReady {
		m := request(client, nonce)
		m.Proof = Proof(key, m.ClientID, m.Nonce)
		ready, _ := a.Init(now, m, 1)
		return &ready
	}
	want := func(what string, all ...RecordChange) {
		t.Helper()
		got := a.Changes.Take()
		if len(got) != len(all) {
			t.Fatalf("%s: %d changes, want %d: %+v", what, len(got), len(all), got)
		}
		for i := range all {
			if got[i] != all[i] {
				t.Errorf("%s: %+v, want %+v", what, got[i], all[i])
			}
		}
	}
	created := func(ready *wire.SessionReady, version uint32, unix int64) RecordChange {
		return RecordChange{RecordCreated, SessionRecord{HashToken(&ready.Token), version, unix + 3600, uint8(CredentialKey)}}
	}
	ended := func(ready *wire.SessionReady) RecordChange {
		return RecordChange{RecordEnded, SessionRecord{Token: HashToken(&ready.Token)}}
	}
	first := init(0, 1, 1)
	want("it begins", created(first, 1, 1_800_000_000))
	init(0, 1, 1)
	a.Init(0, request(2, 1), 1)
	want("a repetition and a refusal")
	second := init(machine.Time(5*time.Second), 1, 2)
	want("it is renewed", ended(first), created(second, 2, 1_800_000_005))
	a.Terminate([16]byte{1}, &first.Token)
	want("an old token ends nothing")
	a.Terminate([16]byte{1}, &second.Token)
	a.Release([16]byte{1}, 1)
	want("it ends", ended(second))
	third := init(machine.Time(6*time.Second), 1, 3)
	a.Changes.Take()
	a.RotateFleet(&seal.Key{9})
	a.Release([16]byte{1}, 1)
	want("it ends under the key before", ended(third))
}

// Changes that nobody takes are bounded, and counted.
func TestChangesAreBounded(t *testing.T) {
	c := RecordChanges{}
	for range recordChangesMax + 3 {
		c.Put(RecordCreated, SessionRecord{})
	}
	if n := len(c.Take()); n != recordChangesMax || c.Missed != 3 {
		t.Errorf("%d are kept and %d missed", n, c.Missed)
	}
	c.Put(RecordCreated, SessionRecord{})
	if n := len(c.Take()); n != 1 {
		t.Errorf("%d afterwards", n)
	}
}
