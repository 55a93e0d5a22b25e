package query

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

func servers(replicas, others int) *Servers {
	return New(replicas, others, prng.FromUint64(1).Stream("query"))
}

// order is whom one look-up asks, to its end.
func order(s *Servers, now machine.Time) (out []int) {
	var l Lookup
	for {
		i, _, ok := s.Next(now, &l)
		if !ok {
			return out
		}
		out = append(out, i)
	}
}

func TestReplicasComeFirstAndEachOnceARound(t *testing.T) {
	s := servers(3, 2)
	first := map[int]int{}
	for range 300 {
		o := order(s, 0)
		if len(o) != 5*roundsMax {
			t.Fatalf("%d queries", len(o))
		}
		seen := 0
		for at, i := range o[:5] {
			if seen |= 1 << i; (i < 3) != (at < 3) {
				t.Fatalf("order %v", o)
			}
		}
		if seen != 31 {
			t.Fatalf("order %v", o)
		}
		first[o[0]]++
	}
	for i := range 3 {
		if first[i] < 60 {
			t.Errorf("replica %d is first %d times of 300", i, first[i])
		}
	}
	if len(order(servers(0, 0), 0)) != 0 {
		t.Error("nobody is asked something")
	}
}

// (Control: with Fixed the patience is that whatever is measured.)
func TestPatienceFollowsTheAnswers(t *testing.T) {
	s := servers(1, 0)
	patience := func() time.Duration {
		_, p, _ := s.Next(0, &Lookup{})
		return p
	}
	if p := patience(); p != patienceFirst {
		t.Errorf("at first %v", p)
	}
	for range 40 {
		s.Answered(0, 180*time.Millisecond)
	}
	if p := patience(); p < 180*time.Millisecond || p > 200*time.Millisecond {
		t.Errorf("after answers of 180 ms: %v", p)
	}
	for i := range 40 {
		s.Answered(0, time.Duration(100+i%2*600)*time.Millisecond)
	}
	if p := patience(); p < 700*time.Millisecond {
		t.Errorf("answers of 100 and 700 ms: %v", p)
	}
	for range 100 {
		s.Answered(0, time.Millisecond)
	}
	if p := patience(); p != patienceMin {
		t.Errorf("quick answers: %v", p)
	}
	for range 100 {
		s.Answered(0, time.Minute)
	}
	if p := patience(); p != patienceMax {
		t.Errorf("slow answers: %v", p)
	}
	s.Fixed = time.Second
	if p := patience(); p != time.Second {
		t.Errorf("fixed: %v", p)
	}
}

// Who has answered badly is not asked for the thing again; who was late is.
func TestBadAnswersAreNotAskedForTwice(t *testing.T) {
	s, l := servers(2, 0), Lookup{}
	i, _, _ := s.Next(0, &l)
	l.Failed(i)
	for range roundsMax {
		if j, _, ok := s.Next(0, &l); !ok || j == i {
			t.Fatalf("asks %d after %d", j, i)
		}
	}
	if _, _, ok := s.Next(0, &l); ok {
		t.Error("never ends")
	}
	l = Lookup{}
	l.Failed(0)
	l.Failed(1)
	if _, _, ok := s.Next(0, &l); ok {
		t.Error("asks those who have answered badly")
	}
}

func TestEachRoundIsTwiceAsPatient(t *testing.T) {
	s, l := servers(1, 0), Lookup{}
	for _, want := range []time.Duration{1, 2, 4} {
		if _, p, ok := s.Next(0, &l); !ok || p != want*patienceFirst {
			t.Errorf("%v, not %v", p, want*patienceFirst)
		}
	}
}

// Who lies is asked last for hours, who is late once is forgiven. (Control:
// without the time in rank, the forger is first in half of the look-ups.)
func TestFaultsLeaveAServerAside(t *testing.T) {
	for reason := range NumReasons {
		s := servers(2, 1)
		s.Fault(0, 0, reason)
		if aside := s.LeftAside(0, 0); aside != (reason != Timeout) {
			t.Errorf("%v: left aside %v", reason, aside)
		}
		s.Fault(0, 0, reason)
		for range 20 {
			if o := order(s, 1); o[0] != 1 || o[1] != 2 || o[2] != 0 {
				t.Fatalf("%v: order %v", reason, o[:3])
			}
		}
		if s.Stats.Faults[reason] != 2 {
			t.Errorf("%v: counted %d", reason, s.Stats.Faults[reason])
		}
		if s.LeftAside(machine.Time(0).Add(3*shun[reason]), 0) {
			t.Errorf("%v: is not forgiven", reason)
		}
		s.Answered(0, time.Millisecond)
		if s.LeftAside(0, 0) {
			t.Errorf("%v: left aside after a good answer", reason)
		}
	}
}

func TestFaultsInARowDoubleUpToABound(t *testing.T) {
	s := servers(1, 1)
	for range 100 {
		s.Fault(0, 0, Unreachable)
	}
	if most := shun[Unreachable] << shunDoublings; !s.LeftAside(machine.Time(most)-1, 0) || s.LeftAside(machine.Time(most), 0) {
		t.Error("the time does not end where it must")
	}
}

// A server that has not heard of a document yet is asked again when a replica looks
// again, and it counts as no fault: those that follow are not doubled.
func TestNotYetIsNoFault(t *testing.T) {
	s := servers(2, 0)
	for range 3 {
		s.Fault(0, 0, NotYet)
	}
	if !s.LeftAside(0, 0) || s.LeftAside(machine.Time(2*time.Second), 0) {
		t.Error("not left aside for two seconds")
	}
	s.Fault(0, 0, Withheld)
	if at := machine.Time(10 * time.Minute); !s.LeftAside(at-1, 0) || s.LeftAside(at, 0) || s.Stats.Faults[NotYet] != 3 {
		t.Errorf("what follows is doubled: %+v", s.Stats)
	}
}
