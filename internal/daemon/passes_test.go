package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

// TestPasses: in a network whose entries admit by unlinkable tokens, a client gets some
// of the issuer, who knows it, and is admitted by entries, who do not. What the issuer
// keeps and tells has the user's name nowhere.
func TestPasses(t *testing.T) {
	const user = "user-with-a-name-to-be-found"
	store, dirs := newCompliance(), [2]string{t.TempDir(), t.TempDir()}
	issuing := testIssuer(t, dirs[0])
	issuing.PerHour = passBatch
	wallet := openedWallet(t, filepath.Join(dirs[1], "wallet"))
	l, err := StartLocal(LocalConfig{
		Seed: [32]byte{71}, Streams: 3, Mixes: 3, Regions: 1, Client: client.Config{Level: wire.Fast, Passes: true},
		Control: func(cfg ControlConfig) (*Control, error) {
			return inMemory(store, &decider{decision: control.Decision{CacheFor: time.Minute}})(cfg)
		},
		issuer: &issuing, wallet: wallet,
	})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			l.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, n := range l.Nodes {
		select {
		case <-n.Listed():
		case <-ctx.Done():
			t.Fatal("the directory lists no nodes")
		}
	}
	token := filepath.Join(dirs[1], "token")
	if err := os.WriteFile(token, []byte(user+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	order := PassOrder{
		Network: &setup.Network{Trust: l.trust, Directories: []string{l.Authority.URL()}, Controls: []string{l.Control.URL()}, Issuer: &setup.Issuer{Key: issuing.Signer.Public()}},
		Wallet:  wallet, Token: token,
	}
	if n, err := FetchPasses(ctx, order, client.Config{Level: wire.Fast}); n != passBatch || err != nil {
		t.Fatalf("%d passes, %v", n, err)
	}
	if _, err := FetchPasses(ctx, order, client.Config{Level: wire.Fast}); err == nil || !strings.Contains(err.Error(), "an hour") {
		t.Errorf("more than there are in an hour: %v", err)
	}
	if err := l.Client.supply(wallet); err != nil {
		t.Fatal(err)
	}
	if err := l.Client.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Client.DialStream(ctx, "", "127.0.0.1", echoServer(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	conn.Close()

	if compared, err := l.Client.compareKeys(ctx, &order); !compared || err != nil {
		t.Errorf("through the network: compared %v, %v", compared, err)
	}
	forked := openedIssuer(t, t.TempDir(), time.Now())
	if err := setup.ReplaceFile(filepath.Join(wallet.dir, passKeysSeen), forked.listed); err != nil {
		t.Fatal(err)
	}
	if compared, err := l.Client.compareKeys(ctx, &order); !compared || !errors.Is(err, pass.ErrForked) {
		t.Errorf("an issuer that says otherwise through the network: %v", err)
	}
	if err := l.Client.fetchPasses(ctx, &order); !errors.Is(err, pass.ErrForked) {
		t.Errorf("fetched of an issuer that says otherwise: %v", err)
	}

	admitted := 0
	for _, n := range l.Nodes[:3] {
		n.host.Do(func(machine.Time) { admitted += n.gateway.Admitted() })
	}
	if admitted == 0 {
		t.Error("no entry has admitted the client")
	}
	l.Control.tellCounts()
	if e := store.await(t, 1, audit.PolicyClass, "issue")[0]; e.Count != passBatch || e.Subject != "passes" {
		t.Errorf("told %+v", e)
	}
	store.await(t, 1, audit.AdmissionRefusal, "refuse")
	closed = true
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	left := 0
	state, err := wallet.State(time.Now())
	for _, s := range state {
		left += s.Passes
	}
	// What was given to the client and not shown came back; what was on its way at the
	// end to the other entries is gone.
	if err != nil || left > passBatch-admitted || left < passBatch-3 {
		t.Errorf("%d passes are left of %d, with %d sessions: %v", left, passBatch, admitted, err)
	}
	for _, e := range store.events {
		if strings.Contains(string(audit.Append(nil, &e)), user) {
			t.Errorf("the audit log has the user's name: %+v", e)
		}
	}
	wantNowhere(t, dirs[0], user)
}

// wantNowhere fails if a name stands in a file below a directory.
func wantNowhere(t *testing.T, dir, name string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), name) || strings.Contains(path, name) {
			t.Errorf("%s has the user's name", path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files were read, %v", files, err)
	}
}

// A node follows its issuer's keys, and nobody else's; nor another key for a period.
func TestNodesFollowPassKeys(t *testing.T) {
	n := &Node{id: wire.NodeID{1}}
	issuing := testIssuer(t, t.TempDir())
	n.cfg.Network, n.cfg.Issuer = localName, issuing.Signer.Public()
	first := openedIssuer(t, issuing.Dir, noon)
	keys, err := pass.ParseKeys(first.listed, localName, n.cfg.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	n.passKeys = keys
	fork := openedIssuer(t, t.TempDir(), noon.Add(time.Hour))
	if err := n.takePassKeys(fork.listed); !errors.Is(err, pass.ErrForked) {
		t.Errorf("other keys for a period: %v", err)
	}
	if err := n.takePassKeys(first.listed); err != nil || n.passKeys != keys {
		t.Errorf("the same list again: %v", err)
	}
	if err := n.takePassKeys(first.listed[1:]); !errors.Is(err, pass.ErrKeys) {
		t.Errorf("a damaged list: %v", err)
	}
}

// A client keeps the issuer to what it has said.
func TestClientsFindForkedKeys(t *testing.T) {
	w := openedWallet(t, t.TempDir())
	issuing := testIssuer(t, t.TempDir())
	first, fork := openedIssuer(t, issuing.Dir, noon), openedIssuer(t, t.TempDir(), noon)
	if err := setup.ReplaceFile(filepath.Join(w.dir, passKeysSeen), first.listed); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		list []byte
		want error
	}{"the same": {first.listed, nil}, "another": {fork.listed, pass.ErrForked}} {
		if _, err := w.holdTo(c.list, localName, issuing.Signer.Public()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
