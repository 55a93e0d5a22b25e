package daemon

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/setup"
)

// What is done with secrets before the process can tell is told when it can, and all
// of it is an event that the log takes: no value, and no words of the store.
func TestKeyEvents(t *testing.T) {
	k := &keyEvents{}
	store := secret.NewMemory()
	s := &secret.Recorded{Store: store, Record: k.record}
	ctx := t.Context()
	if _, err := s.Put(ctx, "stream-1/identity", []byte("planted value"), 0); err != nil {
		t.Fatal(err)
	}
	var told []audit.Event
	tell := func(e audit.Event) error {
		complete(&e, "a-node", systemEntropy().Stream("test"))
		if err := e.Validate(); err != nil {
			return err
		}
		told = append(told, e)
		return nil
	}
	k.to(tell)
	if _, err := s.Put(ctx, "stream-1/identity", []byte("planted value 2"), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, "stream-1/identity"); err != nil {
		t.Fatal(err)
	}
	away := errors.New("planted 192.0.2.7:8200 does not answer")
	for _, e := range []secret.Event{{Action: secret.ActionDelete, Name: "fleet", Err: away}, {Action: secret.ActionRefused, Name: "fleet", Err: fmt.Errorf("planted: %w", secret.ErrRefused)}} {
		if err := k.record(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, e := range told {
		if strings.Contains(string(audit.Append(nil, &e)), "planted") {
			t.Errorf("%s of %s holds what it must not", e.Action, e.Subject)
		}
		got = append(got, fmt.Sprint(e.Kind, " ", e.Action, " ", e.Subject, " ", e.Details, " ", e.Outcome, " ", e.Reason))
	}
	want := strings.Join([]string{
		"key.event put secret/stream-1/identity [{generation 1}] ok ", "key.event rotate secret/stream-1/identity [{generation 2}] ok ",
		"key.event delete secret/stream-1/identity [] ok ", "key.event delete secret/fleet [] failed fault", "key.event refused secret/fleet [] refused refused",
	}, "\n")
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("told:\n%s\nwant:\n%s", s, want)
	}
}

// A node that is refused its fleet key each second tells of it once a minute, with how
// often it was.
func TestRefusalsAreCountedTogether(t *testing.T) {
	k, begun := &keyEvents{}, time.Now()
	var told []uint64
	for second := range 150 {
		if n := k.count("fleet", begun.Add(time.Duration(second)*time.Second)); n > 0 {
			told = append(told, n)
		}
	}
	if fmt.Sprint(told) != "[1 60 60]" {
		t.Errorf("told %v", told)
	}
	for i := range 1000 {
		k.count(fmt.Sprint("name-", i), begun)
	}
	if len(k.refused) > refusedMost {
		t.Errorf("%d secrets are counted", len(k.refused))
	}
}

// What an operator does with the secret store of a node is in the audit log, in the
// node's name.
func TestOperatorsKeysAreRecorded(t *testing.T) {
	l, log := controlled(t)
	n := l.Nodes[0]
	store := secret.NewMemory()
	cfg := &setup.Config{Roles: n.cfg.Roles, Network: &setup.Network{Trust: l.trust}, Controls: []string{l.Control.URL()}, State: t.TempDir(), Secrets: setup.SecretsConfig{Node: n.cfg.Name}}
	if unnamed, err := RecordKeys(cfg, store); err != nil || unnamed != secret.Store(store) {
		t.Fatalf("without an identity: %v", err)
	}
	keys := &setup.StoredKeys{Store: store, Name: n.cfg.Name}
	if _, err := keys.Make(t.Context(), 0, prng.New([32]byte{50}).Stream(n.cfg.Name+"/identity")); err != nil {
		t.Fatal(err)
	}
	s, err := RecordKeys(cfg, store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Put(t.Context(), "fleet", []byte("planted value"), 0); err != nil {
		t.Fatal(err)
	}
	e := log.await(t, 1, audit.KeyEvent, secret.ActionPut)[0]
	if e.Actor != hex.EncodeToString(n.id[:]) || e.Subject != "secret/fleet" || strings.Contains(string(audit.Append(nil, &e)), "planted") {
		t.Errorf("%+v", e)
	}
	cfg.Controls = nil
	if alone, err := RecordKeys(cfg, store); err != nil || alone != secret.Store(store) {
		t.Errorf("without a control plane: %v", err)
	}
}
