package secrets

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/seal/passphrase"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/secret/secrettest"
)

func openDisk(t *testing.T, dir string, u Unlock) *Disk {
	t.Helper()
	d, err := OpenDisk(dir, u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func newStore(t *testing.T) (d *Disk, dir string, u Unlock) {
	t.Helper()
	dir, u = filepath.Join(t.TempDir(), "store"), Unlock{Key: &seal.Key{1}}
	d, err := CreateDisk(dir, u)
	if err != nil {
		t.Fatal(err)
	}
	return d, dir, u
}

func TestDisk(t *testing.T) {
	d, dir, u := newStore(t)
	secrettest.Run(t, d, func() secret.Store { return openDisk(t, dir, u) })
	d.Close()
	secrettest.Want(t, openDisk(t, dir, u), "many", 8, string(mustGet(t, openDisk(t, dir, u), "many")))
}

func mustGet(t *testing.T, s secret.Store, name string) []byte {
	t.Helper()
	got, err := s.Get(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	return got.Value
}

// A store opens with what it was made with, and with nothing else.
func TestUnlock(t *testing.T) {
	cheap := passphrase.Cost{Passes: 1, MemoryKiB: 64, Lanes: 1}
	key, right := Unlock{Key: &seal.Key{7}}, Unlock{Passphrase: []byte("correct horse")}
	for _, c := range []struct{ makes, other Unlock }{
		{key, Unlock{Key: &seal.Key{8}}}, {key, right}, {key, Unlock{}},
		{right, Unlock{Passphrase: []byte("correct Horse")}}, {right, key}, {right, Unlock{}},
	} {
		dir := t.TempDir()
		d, err := createDisk(dir, c.makes, cheap)
		if err != nil {
			t.Fatal(err)
		}
		secrettest.Put(t, d, "a/b", "here", 0)
		secrettest.Want(t, openDisk(t, dir, c.makes), "a/b", 0, "here")
		if _, err := OpenDisk(dir, c.other); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("opened otherwise: %v", err)
		}
		if _, err := CreateDisk(dir, c.makes); err == nil {
			t.Error("made in a directory that is not empty")
		}
	}
	if _, err := CreateDisk(t.TempDir(), Unlock{}); err == nil {
		t.Error("made with nothing")
	}
}

// Neither names nor values are on disk in the clear, and no file can be changed,
// moved or cut without being found out.
func TestFilesTellNothing(t *testing.T) {
	d, dir, u := newStore(t)
	for was, value := range []string{"planted-value-1", "planted-value-2"} {
		secrettest.Put(t, d, "planted/name", value, uint64(was))
		secrettest.Put(t, d, "other", value, uint64(was))
	}
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("planted")) || strings.Contains(path[len(dir):], "planted") {
			t.Errorf("%s tells", path)
		}
		if info, err := e.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, error %v", path, info.Mode(), err)
		}
		if filepath.Base(path) != rootFile {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) != 4 {
		t.Fatalf("%d files, error %v", len(files), err)
	}
	whole := map[string][]byte{}
	for _, path := range files {
		whole[path], _ = os.ReadFile(path)
	}
	read := func() int {
		n := 0
		for _, name := range []string{"planted/name", "other"} {
			for version := uint64(1); version <= 2; version++ {
				if _, err := d.Get(t.Context(), name, version); err == nil {
					n++
				} else if !errors.Is(err, secret.ErrRefused) {
					t.Errorf("%s version %d: %v", name, version, err)
				}
			}
		}
		return n
	}
	for i, path := range files {
		for what, b := range map[string][]byte{
			"cut": whole[path][:len(whole[path])-1], "changed": append(bytes.Clone(whole[path][1:]), 1), "another's": whole[files[(i+1)%4]], "version before": whole[files[i^1]],
		} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if n := read(); n != 3 {
				t.Errorf("with a file %s, %d of 4 versions are read", what, n)
			}
		}
		if err := os.WriteFile(path, whole[path], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n := read(); n != 4 {
		t.Errorf("%d versions in the end", n)
	}
	if _, err := os.Stat(filepath.Join(dir, rootFile)); err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Join(dir, rootFile), 0o644)
	if _, err := OpenDisk(dir, u); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("opened with a file that others can read: %v", err)
	}
}

// What a process leaves that ends in a Put disturbs nobody, and goes.
func TestUnfinishedPut(t *testing.T) {
	d, _, _ := newStore(t)
	secrettest.Put(t, d, "a", "one", 0)
	left := filepath.Join(d.place("a"), newPrefix+"123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	secrettest.Want(t, d, "a", 0, "one")
	secrettest.Put(t, d, "a", "two", 1)
	old := time.Now().Add(-2 * staleAfter)
	os.Chtimes(left, old, old)
	if err := d.Destroy(t.Context(), "a", 2); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// A destroyed version is overwritten, and many rotations leave few files.
func TestRotationsLeaveLittle(t *testing.T) {
	d, _, _ := newStore(t)
	const rotations = markersKept + 16
	for was := range uint64(rotations) {
		secrettest.Put(t, d, "a", "value", was)
		if err := d.Destroy(t.Context(), "a", was+1); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(d.place("a"))
	if err != nil || len(entries) > markersKept+2 {
		t.Fatalf("%d files, error %v", len(entries), err)
	}
	for _, e := range entries[:len(entries)-1] {
		if info, err := e.Info(); err != nil || info.Size() != 0 {
			t.Fatalf("%s has %d bytes, error %v", e.Name(), info.Size(), err)
		}
	}
}
