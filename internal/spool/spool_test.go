package spool

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

var (
	begin = time.UnixMilli(1_700_000_000_000)
	key   = seal.Key{1, 2, 3}
	wide  = Limits{Age: 24 * time.Hour, Bytes: 1 << 20}
)

func opened(t *testing.T, dir string, l Limits, now time.Time) *Spool {
	t.Helper()
	s, err := Open(dir, &key, l, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// taken are the batches of a spool, in order, each of which is removed.
func taken(t *testing.T, s *Spool, now time.Time) (all []string) {
	t.Helper()
	for {
		e, ok, err := s.Oldest(now)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		b, ok, err := s.Read(e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			continue
		}
		all = append(all, string(b))
		if err := s.Taken(e); err != nil {
			t.Fatal(err)
		}
	}
}

func put(t *testing.T, s *Spool, now time.Time, batches ...string) {
	t.Helper()
	for _, b := range batches {
		if err := s.Put(now, []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
}

func files(t *testing.T, dir string) (paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// What is put is there after the process, in order, whole, and on disk it cannot be read:
// not by who looks for it, and not under another key.
func TestBatchesOutliveTheProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := opened(t, dir, wide, begin)
	put(t, s, begin, "planted one", "planted two")
	put(t, s, begin.Add(time.Second), "planted three")
	for _, path := range files(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil || bytes.Contains(b, []byte("planted")) {
			t.Errorf("%s holds %q, %v", path, b, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	again := opened(t, dir, wide, begin.Add(time.Hour))
	put(t, again, begin.Add(time.Hour), "planted four")
	if got := taken(t, again, begin.Add(time.Hour)); !slices.Equal(got, []string{"planted one", "planted two", "planted three", "planted four"}) {
		t.Errorf("%q", got)
	}
	if left := files(t, dir); len(left) != 0 || again.Figures() != (Figures{}) {
		t.Errorf("%q, %+v", left, again.Figures())
	}
	put(t, again, begin, "planted five")
	other, err := Open(dir, &seal.Key{4}, wide, begin)
	if err != nil {
		t.Fatal(err)
	}
	if got := taken(t, other, begin); len(got) != 0 || other.Figures().Torn != 1 {
		t.Errorf("under another key: %q, %+v", got, other.Figures())
	}
}

// A batch that was cut, changed or given another's name is removed and counted, a part of
// one too once nobody can be writing it, and the others are as they were.
func TestTornBatchesAreCutAndCounted(t *testing.T) {
	dir := t.TempDir()
	put(t, opened(t, dir, wide, begin), begin, "whole", "cut", "changed", "moved", "whole too")
	all := files(t, dir)
	box, err := os.ReadFile(all[1])
	if err != nil {
		t.Fatal(err)
	}
	changed, err := os.ReadFile(all[2])
	if err != nil {
		t.Fatal(err)
	}
	changed[20] ^= 1
	write := func(path string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(all[1], box[:len(box)/2])
	write(all[2], changed)
	moved := Entry{At: begin, number: 3, random: 9}
	if err := os.Rename(all[3], filepath.Join(dir, moved.name()+suffix)); err != nil {
		t.Fatal(err)
	}
	half := Entry{At: begin, number: 9}
	write(filepath.Join(dir, half.name()+part), box[:9])
	write(filepath.Join(dir, "notes.txt"), []byte("somebody's"))
	if s := opened(t, dir, wide, begin.Add(time.Second)); s.Figures().Torn != 0 {
		t.Errorf("a part that is a second old was removed: %+v", s.Figures())
	}
	s := opened(t, dir, wide, begin.Add(time.Hour))
	if got := taken(t, s, begin.Add(time.Hour)); !slices.Equal(got, []string{"whole", "whole too"}) || s.Figures().Torn != 4 {
		t.Errorf("%q, %+v", got, s.Figures())
	}
	if left := files(t, dir); len(left) != 1 || filepath.Base(left[0]) != "notes.txt" {
		t.Errorf("left: %q", left)
	}
}

// What exceeds the bounds goes, the oldest first, and is counted: by age, by room, and a
// batch for which there never is room.
func TestTheOldestGoFirst(t *testing.T) {
	dir := t.TempDir()
	narrow := Limits{Age: time.Hour, Bytes: 3 * block}
	s := opened(t, dir, narrow, begin)
	put(t, s, begin, "1")
	put(t, s, begin.Add(time.Minute), "2", "3", "4")
	if f := s.Figures(); f.Batches != 3 || f.Bytes != 3*block || f.Crowded != 1 {
		t.Errorf("%+v", f)
	}
	put(t, s, begin.Add(time.Hour+time.Minute), "5") // the minute's are an hour old, and no older
	if got := taken(t, s, begin.Add(time.Hour+2*time.Minute)); !slices.Equal(got, []string{"5"}) {
		t.Errorf("%q", got)
	}
	if f := s.Figures(); f.Old != 2 || f.Crowded != 2 {
		t.Errorf("%+v", f)
	}
	if err := s.Put(begin, make([]byte, 3*block)); err == nil || s.Figures().Crowded != 3 {
		t.Errorf("a batch larger than the spool: %v, %+v", err, s.Figures())
	}
	put(t, s, begin, "6")
	if f := opened(t, dir, narrow, begin.Add(2*time.Hour)).Figures(); f.Old != 1 || len(files(t, dir)) != 0 {
		t.Errorf("opened too late: %+v", f)
	}
}

// Two processes put into one directory and take out of it: nothing is overwritten, and what
// one has taken the other finds gone, without counting it as torn.
func TestTwoProcessesShareASpool(t *testing.T) {
	dir := t.TempDir()
	a, b := opened(t, dir, wide, begin), opened(t, dir, wide, begin)
	put(t, a, begin, "a1", "a2")
	put(t, b, begin, "b1", "b2")
	c := opened(t, dir, wide, begin)
	late := opened(t, dir, wide, begin)
	got := taken(t, c, begin)
	slices.Sort(got)
	if !slices.Equal(got, []string{"a1", "a2", "b1", "b2"}) {
		t.Errorf("%q", got)
	}
	if got := taken(t, late, begin); len(got) != 0 || late.Figures() != (Figures{}) {
		t.Errorf("taken twice: %q, %+v", got, late.Figures())
	}
}

const killedDir = "NYX_SPOOL_KILLED"

// TestKilled is the process that is killed below: it says what it has put.
func TestKilled(t *testing.T) {
	dir := os.Getenv(killedDir)
	if dir == "" {
		t.Skip("a part of TestKillLosesNothing")
	}
	s := opened(t, dir, Limits{Age: 24 * time.Hour, Bytes: 1 << 30}, begin)
	for i := 0; ; i++ {
		put(t, s, begin, fmt.Sprintf("batch %d %s", i, bytes.Repeat([]byte("x"), 10_000)))
		fmt.Printf("put %d\n", i)
	}
}

// A process that is killed while it writes has lost nothing that Put returned for.
func TestKillLosesNothing(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), killedDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	last, lines := -1, bufio.NewScanner(out)
	for last < 50 && lines.Scan() {
		fmt.Sscanf(lines.Text(), "put %d", &last)
	}
	cmd.Process.Kill() // SIGKILL, at whatever it is doing
	for lines.Scan() {
		fmt.Sscanf(lines.Text(), "put %d", &last)
	}
	if last < 50 {
		t.Fatalf("only %d batches were put", last)
	}
	cmd.Wait()
	s := opened(t, dir, Limits{Age: 24 * time.Hour, Bytes: 1 << 30}, begin.Add(time.Hour))
	got := taken(t, s, begin.Add(time.Hour))
	if len(got) < last+1 {
		t.Fatalf("%d batches of %d", len(got), last+1)
	}
	for i, b := range got {
		if want := fmt.Sprintf("batch %d ", i); len(b) < len(want) || b[:len(want)] != want {
			t.Fatalf("batch %d is %.20q", i, b)
		}
	}
	t.Logf("killed after %d batches: all are there, %+v", last+1, s.Figures())
}
