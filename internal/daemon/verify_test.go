package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/setup"
)

// kept is what the parties of a network have kept, when all have stopped.
type kept struct {
	*testing.T
	network                    setup.Network
	authority, witness, client string
	replica, written           string // a snapshot's directory, a store's snapshot
	all                        []string
	unlogged                   []byte // a document that stands in no log
}

func keep(t *testing.T) *kept {
	c := newWatched(t, 2, 2, 3, 2)
	k := &kept{T: t, client: t.TempDir(), replica: filepath.Join(t.TempDir(), snapshotDir), written: filepath.Join(t.TempDir(), "authority.snapshot")}
	for i := range 3 {
		c.post(0, 1, 2, 3+i)
		advance(3 * time.Second)
		if err := c.reader(k.client, host(0)).read(t, host(0)); err != nil {
			t.Fatal(err)
		}
	}
	advance(2 * watchPoll)
	if err := mirror.Save(k.replica, c.all[0].shelf.Newest()); err != nil {
		t.Fatal(err)
	}
	k.unlogged = c.collude(9).Encode()
	c.close()
	advance(time.Second)
	store, err := openFiles(c.dirs[0])
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, _, err = registry.Snapshot(t.Context(), store, &b); err == nil {
		err = os.WriteFile(k.written, b.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	k.network.Trust, k.authority, k.witness = c.trust, c.dirs[0], c.watched.dirs[0]
	k.all = slices.Concat(c.dirs, c.watched.dirs, []string{k.client, k.replica, k.written})
	return k
}

// wrong is what is not in order among files.
func (k *kept) wrong(paths ...string) (bad []string) {
	k.Helper()
	found, err := setup.Verify(&k.network, paths)
	if err != nil {
		k.Fatal(err)
	}
	for _, f := range found {
		if !f.OK {
			bad = append(bad, f.Kind+": "+f.Says)
		}
	}
	return bad
}

// one is the only file of a pattern's.
func (k *kept) one(dir, pattern string) string {
	k.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) == 0 {
		k.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	return found[len(found)-1]
}

// removed removes a file.
func removed([]byte) []byte { return nil }

// flipped changes a byte in the middle.
func flipped(b []byte) []byte {
	b[len(b)/2] ^= 1
	return b
}

func appended(more string) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, more...) }
}

// uncosigned is a checkpoint with its log's signature alone.
func uncosigned(b []byte) (out []byte) {
	for line := range bytes.Lines(b) {
		if !bytes.Contains(line, []byte("/witness/")) {
			out = append(out, line...)
		}
	}
	return out
}

// What the parties of a network keep is in order, all together and offline. Each
// thing changed in it, and each that is missing, is found. (Control: without what a
// row is about, that row: the threshold in open, the entries that checkpoint looks
// for, begun, the errors of mirror.Buckets, isOrphan, mark.)
func TestVerifyOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t)
		if bad := k.wrong(k.all...); len(bad) > 0 {
			t.Fatal(bad)
		}
		log := filepath.Join(k.authority, "log.entries")
		whole, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		entries, _ := translog.ParseEntries(whole)
		of := func(i ...int) func([]byte) []byte {
			return func([]byte) []byte {
				b := []byte{}
				for _, n := range i {
					b = translog.AppendEntry(b, entries[n])
				}
				return b
			}
		}
		checkpoint, client := filepath.Join(k.authority, "log.checkpoint"), k.one(k.client, "client.log-*.checkpoint")
		document, part := k.one(filepath.Join(k.authority, keptDir), "document_*"), k.one(filepath.Join(k.authority, keptDir), "part_*")
		full := k.one(k.replica, "shard-*")
		for _, shard := range []string{"shard-0", "shard-1", "shard-2", "shard-3"} {
			if info, err := os.Stat(filepath.Join(k.replica, shard)); err == nil && info.Size() > 0 {
				full = filepath.Join(k.replica, shard)
			}
		}
		for _, c := range []struct {
			name, path string
			change     func([]byte) []byte
			want       string // "": all is in order
		}{
			{"entries dropped", log, of(0, 2), "log: "},
			{"entries turned", log, of(1, 0, 2), "log: "},
			{"entries cut", log, func(b []byte) []byte { return b[:len(b)-1] }, "log: "},
			{"no entries", log, of(), "log: "},
			{"log gone", log, removed, "its 3 entries are missing"},
			{"copy gone", k.one(k.witness, "log-*.entries"), removed, "its 3 entries are missing"},
			{"bytes after the log", log, appended("\x00\x50random bytes"), "something else was appended"},
			{"an entry begun", log, appended(string(whole[:20])), ""},
			{"log without witnesses", checkpoint, uncosigned, "not enough witnesses"},
			{"client's checkpoint without", client, uncosigned, "not enough witnesses"},
			{"what a witness cosigned", k.one(k.witness, "cosigned-*"), uncosigned, ""},
			{"checkpoint emptied", checkpoint, func([]byte) []byte { return []byte{} }, "the checkpoint is empty"},
			{"checkpoint of others", client, func([]byte) []byte { return []byte("go.sum database tree\n") }, "of no authority of the network file"},
			{"checkpoint gone", checkpoint, removed, "no checkpoint"},
			{"client's checkpoints gone", client, removed, "no checkpoint of a log is here"},
			{"mark of another document", filepath.Join(k.client, "client.newest"), func(b []byte) []byte { return append(b[:len(b)-9], "deadbeef\n"...) }, "mark: log: "},
			{"table changed", filepath.Join(k.replica, "table"), flipped, "document: "},
			{"table gone", filepath.Join(k.replica, "table"), removed, "the table that it is a shard of is missing"},
			{"shard changed", full, flipped, "document: "},
			{"shard gone", full, removed, "document: "},
			{"bytes after a shard", full, appended("more"), "4 bytes at"},
			{"stored document changed", document, flipped, "document: "},
			{"stored part changed", part, flipped, "document: "},
			{"stored part gone", part, removed, "document: "},
			{"store's snapshot changed", k.written, flipped, "document: "},
		} {
			before, err := os.ReadFile(c.path)
			if err != nil {
				t.Fatal(err)
			}
			if b := c.change(bytes.Clone(before)); b != nil {
				err = os.WriteFile(c.path, b, 0o600)
			} else {
				err = os.Remove(c.path)
			}
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, p := range []string{k.authority, k.witness, k.client, k.replica, k.written} {
				if _, err := os.Stat(p); err == nil {
					all = append(all, p)
				}
			}
			bad := k.wrong(all...)
			if c.want == "" && len(bad) > 0 || c.want != "" && !slices.ContainsFunc(bad, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("%s: %q, want %q", c.name, bad, c.want)
			}
			if err := os.WriteFile(c.path, before, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(k.client, "other.document"), k.unlogged, 0o600); err != nil {
			t.Fatal(err)
		}
		if bad := k.wrong(k.all...); len(bad) != 1 || !strings.Contains(bad[0], "in none of 2 logs") {
			t.Errorf("a document in no log: %v", bad)
		}
	})
}

// A directory in which nothing is kept, and a client's mark without what it knew of the
// logs, are told; a file that is none of the directory's is refused with what would be.
func TestVerifyTellsWhatIsMissing(t *testing.T) {
	trust := directory.Trust{Network: localName, Authorities: [][]byte{make([]byte, 1984)}, Threshold: 1, Witnesses: [][]byte{make([]byte, 1984)}, WitnessThreshold: 1}
	k := &kept{T: t, network: setup.Network{Trust: trust}}
	dir := t.TempDir()
	if bad := k.wrong(dir); len(bad) != 1 || !strings.Contains(bad[0], "nothing of a directory is kept here") {
		t.Errorf("an empty directory: %q", bad)
	}
	if err := saveMark(dir, "client.newest", directory.Mark{Epoch: 7}); err != nil {
		t.Fatal(err)
	}
	if bad := k.wrong(dir); len(bad) != 1 || !strings.Contains(bad[0], "no checkpoint of a log is here") {
		t.Errorf("a mark alone: %q", bad)
	}
	other := filepath.Join(dir, "members.txt")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := setup.Verify(&k.network, []string{other}); err == nil || !strings.Contains(err.Error(), "*.checkpoint") {
		t.Errorf("another file: %v", err)
	}
}
