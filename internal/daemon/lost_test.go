package daemon

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// shown serves the standing of a process of a number of its own, in a directory.
func shownIn(t *testing.T, dir string, about Standing) *StandingServer {
	t.Helper()
	s, err := serveStanding(dir, newBeholder(about, func() []part { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// kill ends a process's standing as its end by SIGKILL does: what is on disk stays there.
func (s *StandingServer) kill(t *testing.T) {
	t.Helper()
	note, err := os.ReadFile(notePath(s.path))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.WriteFile(notePath(s.path), note, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A process that was killed is missed, whoever has looked for standings before, until one
// that goes on with its work has begun, or for a week; those that run or were stopped are
// not missed.
func TestLostProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	mix := Standing{Program: "node", Name: "mix-1", PID: 11, Network: "test", Log: "mix-1.log", Since: time.Unix(1e9, 0)}
	other := mix
	other.Name, other.PID = "mix-2", 12
	shownIn(t, dir, Standing{Program: "up", PID: 10, Network: "local"})
	shownIn(t, dir, Standing{Program: "proxy", PID: 13, Network: "test"}).Close()
	shownIn(t, dir, mix).kill(t)
	shownIn(t, dir, other).kill(t)
	want := func(when string, pids ...int) []Lost {
		t.Helper()
		if all, err := Standings(t.Context(), dir); len(all) == 0 || err != nil {
			t.Errorf("%s: %v, %v run", when, all, err)
		}
		lost, err := LostIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		got, wanted := map[int]bool{}, map[int]bool{}
		for _, l := range lost {
			got[l.PID] = true
		}
		for _, p := range pids {
			wanted[p] = true
		}
		if !maps.Equal(got, wanted) {
			t.Errorf("%s lost are %v, want %v", when, got, wanted)
		}
		return lost
	}
	for _, l := range want("at first", 11, 12) {
		if l.Network != "test" || l.Log != "mix-1.log" || !l.Since.Equal(mix.Since) || time.Since(l.Seen) > time.Minute {
			t.Errorf("%+v", l)
		}
	}
	want("looked at again", 11, 12)
	mix.PID = 21
	shownIn(t, dir, mix)
	lost := want("started again", 12)
	old := time.Now().Add(-lostTold - time.Hour)
	if err := os.Chtimes(lost[0].Note, old, old); err != nil {
		t.Fatal(err)
	}
	want("a week later")
	if _, err := os.Stat(lost[0].Note); err == nil {
		t.Error("the note of who is missed no more is there")
	}
}

// A standing tells what was counted lately beside all that was counted: what lies more than
// the span back is not in it, and a part that begins anew counts from there.
func TestStandingTellsLately(t *testing.T) {
	begun := time.Unix(1e9, 0)
	now := []part{{Name: "mix", State: working}}
	w := newBeholder(Standing{Since: begun}, func() []part { return now })
	look := func(after time.Duration, count, want uint64) {
		t.Helper()
		now[0].Counts = map[string]uint64{"drop_size": count}
		s := w.look(begun.Add(after))
		if got := s.Parts[0]; got.Counts["drop_size"] != count || got.Lately["drop_size"] != want {
			t.Errorf("after %v: %v, lately %v; want %d", after, got.Counts, got.Lately, want)
		}
		if span := s.At.Sub(s.Lately); span != min(after, span) || after > latelySpan && (span < latelySpan || span > latelySpan+latelyStep) {
			t.Errorf("after %v lately is %v", after, span)
		}
	}
	look(0, 0, 0)
	look(2*time.Second, 500, 500)
	for m := 1; m <= 10; m++ {
		look(time.Duration(m)*latelyStep, 500, 500)
	}
	look(11*latelyStep, 500, 0)
	look(11*latelyStep+time.Second, 507, 7)
	look(12*latelyStep, 3, 3) // it began anew
	for m := 13; m <= 25; m++ {
		look(time.Duration(m)*latelyStep, 3, map[bool]uint64{true: 3}[m < 22])
	}
}

// A note that cannot be read, which another process has left, keeps nobody from showing
// itself.
func TestSpoiltNoteKeepsNobodyOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "spoilt"+noteSuffix), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "own"+standingSuffix)
	if err := leaveNote(socket, &Standing{Program: "nyx", Name: "own"}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(notePath(socket)); err != nil {
		t.Error(err)
	}
}
