package settings

import (
	"errors"
	"maps"
	"strconv"
	"testing"
	"time"
)

// A dead letter is tried again by itself, ever more rarely, and at once when it is
// corrected; an operator is told once.
func TestDeadLetters(t *testing.T) {
	var d DeadLetters
	bad := *change(0, LogLevel, "loud")
	bad.ID = ID{1}
	if !d.Bury(at(0), bad, errors.New("loud")) || d.Bury(at(5), bad, errors.New("loud")) {
		t.Error("an operator is to be told once")
	}
	for now, want := range map[int]bool{6: false, 14: false, 15: true} {
		if got := len(d.Due(at(now))) == 1; got != want {
			t.Errorf("after %d s: due %v", now, got)
		}
	}
	if err := d.Correct(at(7), ID{2}, nil); err == nil {
		t.Error("a letter that is not there was corrected")
	}
	if err := d.Correct(at(7), ID{1}, map[string]string{LogLevel: "warn"}); err != nil {
		t.Error(err)
	}
	if due := d.Due(at(7)); len(due) != 1 || due[0].Set[LogLevel] != "warn" {
		t.Errorf("corrected, and due: %v", due)
	}
	if d.All()[0].Overdue(at(120)) || !d.All()[0].Overdue(at(121)) {
		t.Error("it may lie for 120 s")
	}
	if since, was := d.Done(ID{1}, true); !was || !since.Equal(at(0)) || d.Revived != 1 || len(d.All()) != 0 {
		t.Errorf("since %v, %+v", since, d)
	}
	for n := range deadMost + 5 {
		bad.ID = ID{2, byte(n), byte(n >> 8)}
		d.Bury(at(1), bad, errors.New("loud"))
	}
	if len(d.All()) != deadMost || d.Refused != 5 {
		t.Errorf("%d letters, %d refused", len(d.All()), d.Refused)
	}
}

// trial is a state in which a rollout has begun at second 2.
func trial(t *testing.T) *State {
	c := change(2, AdmissionPerMinute, "60")
	c.Stage = &Stage{Rollout: c.ID, Percent: 10, Next: []int{50}, Hold: time.Minute, Worse: 5}
	return fold(t, &State{}, change(1, AdmissionPerMinute, "40"), c)
}

// nodes counts those of 1,000 that have a value.
func nodes(s *State, value string) (n int, names map[string]bool) {
	names = map[string]bool{}
	for i := range 1000 {
		if name := "node-" + strconv.Itoa(i); s.For(name)[AdmissionPerMinute] == value {
			n++
			names[name] = true
		}
	}
	return n, names
}

// A trial is on at its share of the nodes; a greater share has those of the smaller.
func TestTrialIsOnAtItsShare(t *testing.T) {
	s := trial(t)
	few, first := nodes(s, "60")
	if few < 70 || few > 130 || s.Value(AdmissionPerMinute) != "40" {
		t.Errorf("%d of 1000 nodes at 10 %%", few)
	}
	good := Health{Tried: 100}
	next, _ := s.Judge(at(62), ID{0xc, 0, 2}, ID{7}, good, good)
	if next == nil || next.Stage == nil || next.Stage.Percent != 50 {
		t.Fatalf("after a minute that went well: %+v", next)
	}
	next.Revision, next.At = 3, at(62)
	half, more := nodes(fold(t, s, next), "60")
	for name := range first {
		if !more[name] {
			t.Fatalf("%s left the trial", name)
		}
	}
	if half < 440 || half > 560 || len(s.Trials()) != 1 {
		t.Errorf("%d of 1000 nodes at 50 %%; %v", half, s.Trials())
	}
	next, _ = s.Judge(at(122), ID{0xc, 0, 2}, ID{8}, good, good)
	next.Revision, next.At = 4, at(122)
	if all, _ := nodes(fold(t, s, next), "60"); all != 1000 || len(s.Trials()) != 0 {
		t.Errorf("%d of 1000 nodes at the end", all)
	}
}

// A trial at which more fails than elsewhere is taken back, with the reason, and the
// state is what it was before.
func TestTrialIsTakenBack(t *testing.T) {
	s := trial(t)
	before := fold(t, &State{}, change(1, AdmissionPerMinute, "40")).Hash()
	rollout := ID{0xc, 0, 2}
	for _, c := range []struct {
		on, others Health
		judged     bool
	}{
		{Health{10, 10}, Health{100, 0}, false},     // too little to tell
		{Health{100, 5}, Health{900, 0}, false},     // as much worse as it may be
		{Health{100, 26}, Health{1000, 210}, false}, // it is elsewhere too
		{Health{100, 6}, Health{900, 0}, true},
	} {
		next, why := s.Judge(at(30), rollout, ID{9}, c.on, c.others)
		if (next != nil) != c.judged {
			t.Errorf("%+v, %+v: %+v (%s)", c.on, c.others, next, why)
		}
		if next != nil {
			next.Revision, next.At = 3, at(30)
			if fold(t, s, next).Hash() != before || !maps.Equal(s.For("any"), Values{AdmissionPerMinute: "40"}) {
				t.Errorf("taken back to %v", s.All())
			}
		}
	}
	if next, _ := s.Judge(at(300), rollout, ID{10}, Health{100, 0}, Health{}); next != nil {
		t.Error("a rollout that has ended goes on")
	}
}
