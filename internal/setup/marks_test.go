package setup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nyxnet/nyx/internal/directory"
)

func TestMarksOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.newest")
	if m, err := LoadMark(path); err != nil || m != (directory.Mark{}) {
		t.Fatalf("without a file: %+v, %v", m, err)
	}
	for _, want := range []directory.Mark{{Epoch: 1 << 40, Revision: 1<<32 - 1, Hash: [32]byte{1, 31: 2}}, {Epoch: 3}} {
		if err := SaveMark(path, want); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadMark(path); err != nil || got != want {
			t.Errorf("%+v was kept as %+v, %v", want, got, err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Whatever is left of a file, nothing but the whole is a mark.
	for n := range len(whole) - 1 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := LoadMark(path); err == nil {
			t.Errorf("%d bytes of %d were read as %+v", n, len(whole), m)
		}
	}
	if err := SaveMark(filepath.Join(t.TempDir(), "none", "mark"), directory.Mark{}); err == nil {
		t.Error("a mark was kept in a directory that does not exist")
	}
}
