package telemetry

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/metric"
)

// stored is what lies in the files of a log, and how many there are.
func stored(t *testing.T, path string) (all string, files int) {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all += string(b)
	}
	return all, len(names)
}

// Whatever is written, files stay below four fifths of their budget, the newest lines are
// there, and a log that is opened again goes on.
func TestFilesKeepTheirBudget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.log")
	line := 0
	for range 3 {
		f, err := OpenFiles(path, BudgetLeast)
		if err != nil {
			t.Fatal(err)
		}
		for range 10_000 {
			if _, err := fmt.Fprintf(f, "{\"line\":%d,\"pad\":%q}\n", line, strings.Repeat("x", 100)); err != nil {
				t.Fatal(err)
			}
			line++
			if bytes, budget := f.Volume(); 10*bytes >= 8*budget {
				t.Fatalf("line %d: %d bytes of %d", line, bytes, budget)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		all, files := stored(t, path)
		if 10*len(all) >= 8*BudgetLeast || files > filesKept+1 || len(all) < BudgetLeast/2 {
			t.Errorf("%d bytes in %d files", len(all), files)
		}
		for i := line - 3000; i < line; i++ {
			if !strings.Contains(all, fmt.Sprintf("{\"line\":%d,", i)) {
				t.Fatalf("line %d of %d is gone", i, line)
			}
		}
	}
	var to metric.Page
	f, err := OpenFiles(path, BudgetLeast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteMetrics(&to)
	if all, _ := stored(t, path); !strings.Contains(to.String(), fmt.Sprintf("\nlog_volume_bytes %d\n", len(all))) || len(to.Strange) > 0 {
		t.Errorf("%d bytes, but told %s %v", len(all), to.String(), to.Strange)
	}
	f.Unbounded() // control
	for range 10_000 {
		fmt.Fprintf(f, "%s\n", strings.Repeat("y", 127))
	}
	if bytes, budget := f.Volume(); bytes < budget {
		t.Errorf("control: %d bytes of %d though nothing is removed", bytes, budget)
	}
}

// A directory that is not there is told, and a log that cannot turn counts its lines.
func TestFilesTellTheirFaults(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenFiles(filepath.Join(dir, "a", "node.log"), BudgetLeast); err == nil {
		t.Error("a log in no directory opens")
	}
	if _, err := OpenFiles(filepath.Join(dir, "node.log"), BudgetLeast-1); err == nil {
		t.Error("a log of nothing opens")
	}
	f, err := OpenFiles(filepath.Join(dir, "node.log"), BudgetLeast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	half := append(bytes.Repeat([]byte("z"), BudgetLeast/15), '\n')
	f.Write(half)
	if err := os.Mkdir(f.name(1), 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.name(1), "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(half); err == nil || f.lost != 1 {
		t.Errorf("%v, %d lost", err, f.lost)
	}
	if err := os.RemoveAll(f.name(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(half); err != nil {
		t.Errorf("after the fault is gone: %v", err)
	}
}
