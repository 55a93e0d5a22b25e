package governance

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	index "github.com/nyxnet/nyx/internal/engine/sql"
)

// stored is an API in front of a compliance store on disk.
func stored(t *testing.T) (*fixture, *ledger.Log, *Compliance) {
	t.Helper()
	dir := t.TempDir()
	keys, err := ledger.OpenFileKeys(filepath.Join(dir, "keys"), true)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return begin }
	l, err := ledger.Open(t.Context(), ledger.Config{Dir: filepath.Join(dir, "log"), Origin: "nyx/test/audit", Node: "control-1", Signer: keys.Signer, Wrapper: keys.Wrapper, CheckpointEvery: time.Nanosecond, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	key := l.Key()
	x := index.Follow(index.FollowConfig{Where: filepath.Join(dir, "index.db"), Name: key.ID(), Source: struct {
		*ledger.Store
		*ledger.Log
	}{l.Store(), l}})
	c := &Compliance{Store: l.Store(), Index: x, Key: &key, Signer: keys.Signer}
	f := newFixture(t, func(cfg *Config) { cfg.Log, cfg.Recorder = c, l })
	t.Cleanup(func() {
		x.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, l, c
}

// TestCompliance: over the files and the SQL index, events are found by hostile texts
// as by others, accesses are in the log before their answers leave, and a proof holds
// by the log's key.
func TestCompliance(t *testing.T) {
	f, l, c := stored(t)
	hostile := "x' OR '1'='1'; DROP TABLE audit_events; --"
	for n, actor := range []string{"alice", hostile, "bob"} {
		at := begin.Add(-time.Hour)
		e := audit.Event{ID: audit.NewID(at, [10]byte{byte(n)}), Time: at, Kind: audit.KeyEvent, Actor: actor, Subject: "onion", Action: "rotate", Count: 1}
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	s := person(Auditor)
	for path, want := range map[string]int{
		"audit-events?kind=key.event": 3,
		"audit-events?actor=x%27%20OR%20%271%27=%271%27%3B%20DROP%20TABLE%20audit_events%3B%20--": 1,
		"audit-events?actor=x%27%20OR%20%271%27=%271":                                             0,
		"audit-events?subject=%25":                                                                0,
	} {
		seqs, _ := f.events(f.get(s, path))
		if len(seqs) != want {
			t.Errorf("%s finds %d, want %d", path, len(seqs), want)
		}
	}
	seqs, cursor := f.events(f.get(s, "audit-events?kind=key.event&limit=2"))
	more, end := f.events(f.get(s, "audit-events?kind=key.event&limit=2&cursor="+cursor))
	if len(seqs) != 2 || len(more) != 1 || end != "" {
		t.Errorf("pages of two: %v %v %q", seqs, more, end)
	}
	if accesses, _ := f.events(f.get(s, "audit-events?kind=audit.access")); len(accesses) != 6 {
		t.Errorf("%d accesses are in the log, want 6", len(accesses))
	}
	id := audit.NewID(begin.Add(-time.Hour), [10]byte{2})
	w := f.get(s, "audit-events/"+id.String()+"/proof")
	if w.Code != http.StatusOK {
		t.Fatalf("proof: %d %s", w.Code, w.Body)
	}
	p, err := ledger.ParseProof(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if _, e, err := audit.CheckProof(c.Key, p.Entry, p.Proof); err != nil || e.Actor != "bob" {
		t.Errorf("the proof is of %q: %v", e.Actor, err)
	}
	id[15]++
	f.refused("no event", f.get(s, "audit-events/"+id.String()+"/proof"), http.StatusNotFound, "nothing")
	if strings.Contains(f.get(s, "audit-events").Body.String(), "nyx1.") {
		t.Error("a bearer is in the log")
	}
}

// TestCopyShortened: a copy that retention overtakes is begun anew, and never made with a
// hole.
func TestCopyShortened(t *testing.T) {
	dir, now := t.TempDir(), begin
	keys, err := ledger.OpenFileKeys(filepath.Join(dir, "keys"), true)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(t.Context(), ledger.Config{Dir: filepath.Join(dir, "log"), Origin: "nyx/test/audit", Node: "control-1", Signer: keys.Signer, Wrapper: keys.Wrapper, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for n := range 30 {
		e := audit.Event{ID: audit.NewID(now, [10]byte{byte(n)}), Time: now, Kind: audit.KeyEvent, Actor: "alice", Action: "rotate", Count: 1}
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if n%10 == 9 {
			now = now.Add(24 * time.Hour)
		}
	}
	if _, err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	key, out, parts := l.Key(), filepath.Join(dir, "copy"), 0
	c := &Compliance{Store: l.Store(), Key: &key, Signer: keys.Signer, PartRows: 4}
	_, err = c.Copy(t.Context(), out, audit.JSONLines, audit.Filter{}, now, func(audit.Part) {
		if parts++; parts == 1 {
			if _, err := l.Prune(t.Context(), audit.DayOf(begin)+1); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, ledger.ErrShortened) || parts != 1 {
		t.Errorf("a copy of %d parts with a hole: %v", parts, err)
	}
	m, err := c.Copy(t.Context(), out, audit.JSONLines, audit.Filter{}, now, nil)
	if err != nil || m.First != 10 || m.Rows() != m.Before-10 {
		t.Errorf("the next try: %+v, %v", m, err)
	}
	if _, err := ledger.CheckExport(out, &key); err != nil {
		t.Error(err)
	}
}
