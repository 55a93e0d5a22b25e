package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

func somePasses(entry byte, until time.Time, n int) (out []held) {
	for i := range n {
		out = append(out, held{pass: wire.Pass{Nonce: [32]byte{entry, byte(i)}}, entry: wire.NodeID{entry}, until: until.Unix()})
	}
	return out
}

func openedWallet(t *testing.T, dir string) *Wallet {
	t.Helper()
	w, err := OpenWallet(dir)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func all(n int) func(wire.NodeID) int { return func(wire.NodeID) int { return n } }

// A pass is taken by one of those who share a wallet, and comes back as it was.
func TestWalletsAreShared(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wallet")
	a, b := openedWallet(t, dir), openedWallet(t, dir)
	n, err := a.put(noon, append(somePasses(1, noon.Add(time.Hour), 3), somePasses(2, noon.Add(time.Hour), 2)...))
	if n != 5 || err != nil {
		t.Fatal(n, err)
	}
	seen := map[pass.Tag]bool{}
	for _, w := range []*Wallet{a, b, a, b} {
		got, err := w.take(noon, all(1))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range got {
			if tag := pass.TagOf(&h.pass); seen[tag] {
				t.Error("a pass was taken twice")
			} else {
				seen[tag] = true
			}
			if h.entry[0] != h.pass.Nonce[0] || h.until != noon.Add(time.Hour).Unix() {
				t.Errorf("came back as %+v", h)
			}
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d passes of 5 came back", len(seen))
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the wallet has mode %v, %v", info.Mode(), err)
	}
}

// What is good no more is removed, what has no room is not kept, and what is damaged is
// told.
func TestWalletsKeepWhatIsGood(t *testing.T) {
	dir := t.TempDir()
	w := openedWallet(t, dir)
	if n, err := w.put(noon, somePasses(1, noon.Add(time.Hour), walletEntryMax+3)); n != walletEntryMax || err != nil {
		t.Errorf("%d were kept, %v", n, err)
	}
	state, err := w.State(noon)
	if err != nil || len(state) != 1 || state[0].Passes != walletEntryMax || !state[0].Until.Equal(noon.Add(time.Hour)) {
		t.Errorf("%+v, %v", state, err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"+walletPass))
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a pass has mode %v, %v", info.Mode(), err)
	}
	if got, err := w.take(noon.Add(time.Hour), all(9)); len(got) != 0 || err != nil {
		t.Errorf("%d that are good no more were taken, %v", len(got), err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*"+walletPass)); len(files) != 0 {
		t.Errorf("%d files are left", len(files))
	}
	if err := os.WriteFile(filepath.Join(dir, "x"+walletPass), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.State(noon); err == nil {
		t.Error("a damaged pass was not told of")
	}
}

// What was spent outlives the process, up to a tag that a crash cut off, and goes with
// its key.
func TestSpentTokensAreOnRecord(t *testing.T) {
	dir := t.TempDir()
	i := openedIssuer(t, t.TempDir(), noon)
	keys, err := pass.ParseKeys(i.listed, localName, i.cfg.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	id := keys.All()[0].Public.ID()
	l := newSpentLog(dir)
	if spent, err := l.open(keys); len(spent) != 0 || err != nil {
		t.Fatal(spent, err)
	}
	want := []control.Spent{{Key: id, Tag: pass.Tag{1}}, {Key: id, Tag: pass.Tag{2}}}
	l.pending = append(l.pending, want...)
	l.pending = append(l.pending, control.Spent{Key: [32]byte{9}}) // of a key that is gone
	if err := l.write(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(l.path(id), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Write(bytes.Repeat([]byte{7}, 9)) // a crash in the middle of a tag
	f.Close()
	again := newSpentLog(dir)
	spent, err := again.open(keys)
	if err != nil || len(spent) != 2 || spent[0] != want[0] || spent[1] != want[1] {
		t.Fatalf("%+v, %v", spent, err)
	}
	again.pending = append(again.pending, control.Spent{Key: id, Tag: pass.Tag{3}})
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
	third := newSpentLog(dir)
	if spent, err = third.open(keys); err != nil || len(spent) != 3 || spent[2].Tag != (pass.Tag{3}) {
		t.Errorf("%+v, %v", spent, err)
	}
	other := openedIssuer(t, t.TempDir(), noon)
	others, err := pass.ParseKeys(other.listed, localName, other.cfg.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	third.prune(others)
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 0 {
		t.Errorf("records of keys that are gone: %v", files)
	}
	if err := third.close(); err != nil {
		t.Error(err)
	}
}

// A record that could not be opened is opened with all that is on it, and on those
// beside it, when it can be.
func TestSpentTokensAfterAFault(t *testing.T) {
	dir := t.TempDir()
	i := openedIssuer(t, t.TempDir(), noon)
	keys, err := pass.ParseKeys(i.listed, localName, i.cfg.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	all, l := keys.All(), newSpentLog(dir)
	if len(all) < 2 {
		t.Fatal("one key alone")
	}
	if err := os.WriteFile(l.path(all[0].Public.ID()), make([]byte, 3*spentTagSize), 0o600); err != nil {
		t.Fatal(err)
	}
	fault := l.path(all[len(all)-1].Public.ID())
	if err := os.Mkdir(fault, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := l.open(keys); err == nil {
		t.Fatal("a directory is a record")
	}
	if err := os.Remove(fault); err != nil {
		t.Fatal(err)
	}
	if spent, err := l.open(keys); len(spent) != 3 || err != nil {
		t.Errorf("%d tokens are on record, %v", len(spent), err)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}

// sizing is a carrier that looks at the record when a batch is sent.
type sizing struct {
	drive.Carrier
	path string
	size int64
}

func (c *sizing) Flush() error {
	if info, err := os.Stat(c.path); err == nil {
		c.size = info.Size()
	}
	return nil
}

// An answer leaves after the token that it cost is on record.
func TestSpentTokensAreOnRecordFirst(t *testing.T) {
	i := openedIssuer(t, t.TempDir(), noon)
	keys, err := pass.ParseKeys(i.listed, localName, i.cfg.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	id, l := keys.All()[0].Public.ID(), newSpentLog(t.TempDir())
	if _, err := l.open(keys); err != nil {
		t.Fatal(err)
	}
	sent := &sizing{path: l.path(id)}
	carrier := spentFirst{sent, l, func(err error) { t.Error(err) }}
	for n := range int64(3) {
		l.pending = append(l.pending, control.Spent{Key: id, Tag: pass.Tag{byte(n)}})
		if err := carrier.Flush(); err != nil || sent.size != (n+1)*spentTagSize {
			t.Errorf("%d bytes were on record when the batch was sent, %v", sent.size, err)
		}
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}

// A node that starts takes up the keys and the record that it had.
func TestNodesTakeUpPasses(t *testing.T) {
	dir := t.TempDir()
	i := openedIssuer(t, t.TempDir(), noon)
	keys, err := pass.ParseKeys(i.listed, localName, i.cfg.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	id := keys.All()[0].Public.ID()
	if err := os.WriteFile(newSpentLog(dir).path(id), make([]byte, 5*spentTagSize), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := localNode(LocalConfig{Streams: 1}, 0, prng.FromUint64(1), directory.Params{})
	if err != nil {
		t.Fatal(err)
	}
	onion, err := freshOnions{}.Make(0)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Issuer, cfg.StateDir, cfg.Clock = i.cfg.Signer.Public(), dir, drive.NewClock()
	for name, c := range map[string]struct {
		kept  []byte
		known bool
	}{"the issuer's list": {i.listed, true}, "another file": {[]byte("x"), false}} {
		n := &Node{cfg: cfg, health: health{log: logOrNone(nil)}}
		n.gateway = gateway.New(gateway.Config{Hop: hop.Config{Static: cfg.Link, Onion: onion}, Fleet: cfg.Fleet}, prng.FromUint64(2))
		if err := setup.ReplaceFile(filepath.Join(dir, passKeysFile), c.kept); err != nil {
			t.Fatal(err)
		}
		log, err := n.openPasses()
		if err != nil || (n.passKeys != nil) != c.known || (log.files[id] != nil) != c.known {
			t.Fatalf("%s: %v, %v", name, n.passKeys, err)
		}
		if c.known && log.files[id].size != 5*spentTagSize {
			t.Errorf("%s: a record of %d bytes", name, log.files[id].size)
		}
		if err := log.close(); err != nil {
			t.Error(err)
		}
	}
}
