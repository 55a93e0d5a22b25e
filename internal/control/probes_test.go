package control

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// probedDoor is a door whose owner has a probe under way with nonce 7, and what it hears
// of it.
func probedDoor(p Policy) (*door, *[]trace.Kind) {
	d, heard := newDoor(p), new([]trace.Kind)
	d.Own = func(nonce [16]byte) bool { return nonce == [16]byte{7} }
	d.Steps = func(e trace.Event) { *heard = append(*heard, e.Kind) }
	return d, heard
}

// The owner's probe meets the control plane as it is now, whatever is known; a user beside
// it, who asks the same, waits for nothing and leaves no step.
func TestProbesHaveTheirDecisionMadeAnew(t *testing.T) {
	d, heard := probedDoor(Policy{Central: true})
	d.knock(0, 1, 1)
	d.decide(0, accepted("1"))
	if d.tally()[0] != 1 || len(*heard) != 0 {
		t.Fatalf("a user: said %v, steps %v", d.tally(), *heard)
	}
	d.knock(second(1), 2, 7)
	d.knock(second(1), 2, 7) // again, as clients do
	d.knock(second(1), 3, 1)
	if d.tally()[0] != 2 || len(*heard) != 1 || (*heard)[0] != trace.StepCame {
		t.Fatalf("before the decision: said %v, steps %v; want the user alone admitted", d.tally(), *heard)
	}
	d.decide(second(1.1), accepted("2"))
	if d.tally()[0] != 3 || len(*heard) != 2 || (*heard)[1] != trace.StepDecided {
		t.Fatalf("after it: said %v, steps %v", d.tally(), *heard)
	}
	d.knock(second(1.2), 2, 7)
	if len(*heard) != 2 {
		t.Errorf("the repetition of what was answered left a step: %v", *heard)
	}
}

// The owner hears which question its probe has asked, so that it can tell that one from
// users'.
func TestProbesNameTheirQuestion(t *testing.T) {
	d, _ := probedDoor(Policy{Central: true})
	var asked []Question
	d.Steps = func(e trace.Event) { asked = append(asked, QuestionAt(int(e.A))) }
	d.Handle(0, &wire.SessionInit{Nonce: [16]byte{7}, Version: wire.AdmissionVersion, Level: wire.High}, 1)
	if q, ok := d.PollCheck(0); !ok || len(asked) != 1 || asked[0] != q || q.Level != wire.High {
		t.Errorf("the step names %+v, and %+v is asked", asked, q)
	}
}

// A probe does not wait for an answer that does not come: after a fault it goes by the
// decision that is there; nor while the control plane is not to be asked, nor where
// nobody is.
func TestProbesOutliveTheControlPlane(t *testing.T) {
	d, heard := probedDoor(Policy{Central: true})
	d.knock(0, 1, 1)
	d.decide(0, accepted("1"))
	d.knock(second(1), 2, 7)
	q, ok := d.PollCheck(second(1))
	if !ok {
		t.Fatal("no check for the probe")
	}
	d.HandleFault(second(1.1), q)
	d.listen()
	if d.tally()[0] != 2 || len(*heard) != 2 {
		t.Fatalf("after a fault: said %v, steps %v", d.tally(), *heard)
	}
	d.Own = func(nonce [16]byte) bool { return nonce == [16]byte{8} }
	d.knock(second(1.1).Add(time.Millisecond), 3, 8) // the check is to be repeated later
	if d.tally()[0] != 3 || len(*heard) != 4 {
		t.Errorf("before the next check: said %v, steps %v", d.tally(), *heard)
	}
	alone, heard := probedDoor(Policy{})
	if alone.knock(0, 1, 7); alone.tally()[0] != 1 || len(*heard) != 2 {
		t.Errorf("without a control plane: said %v, steps %v", alone.tally(), *heard)
	}
}

// A probe whose link is gone is forgotten, and of several that were given up so many are
// kept waiting as have a bound.
func TestProbesThatAreGone(t *testing.T) {
	d, _ := probedDoor(Policy{Central: true})
	d.Own = func([16]byte) bool { return true }
	for n := range probesMost + 3 {
		d.Handle(0, &wire.SessionInit{ClientID: [16]byte{byte(n)}, Nonce: [16]byte{byte(n)}, Version: wire.AdmissionVersion}, Holder(n+1))
	}
	if len(d.probes) != probesMost {
		t.Errorf("%d wait apart, of %d", len(d.probes), probesMost)
	}
	d.Release(1)
	d.decide(machine.Time(0), accepted("1"))
	if n := d.tally()[0]; n != probesMost+2 || len(d.probes) != 0 {
		t.Errorf("%d admitted, %d wait apart", n, len(d.probes))
	}
}
