package control

import (
	"math"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// watched is a scheduler of one region and the nodes that report to it.
type watched struct {
	*Scheduler
	now machine.Time
}

func newWatched() *watched {
	w := &watched{Scheduler: NewScheduler()}
	w.Follow(0, nil, []string{"eu"})
	return w
}

func (w *watched) report(node byte, use uint8, load float64) bool {
	t := wire.Telemetry{StandsFor: 1, Millis: int64(w.now/machine.Time(time.Millisecond)) + 1, Span: 1000, Capacity: 1000, Sent: uint32(1000 * load),
		Classes: []wire.TelemetryClass{{Place: class500, Routes: 64, Use: use}}}
	return w.Take(w.now, t.Millis+2500, wire.NodeID{node}, "eu", &t)
}

// run lets seconds pass in which two nodes report.
func (w *watched) run(seconds int, use uint8, load float64) {
	for range seconds {
		w.now = w.now.Add(time.Second)
		w.report(1, use, load)
		w.report(2, use, load)
		w.Turn(w.now)
	}
}

func (w *watched) rate() float64 { return w.Rate("eu", class500) }

func TestSchedulerSteersToTheTarget(t *testing.T) {
	for use, want := range map[uint8]float64{50: 350, 70: 490, 90: 630, 10: 300, 100: 1000} {
		w := newWatched()
		if w.run(120, use, 0.3); math.Abs(w.rate()-want) > want/50 {
			t.Errorf("use %d %%: λ′ %.0f, want %.0f", use, w.rate(), want)
		}
	}
	w := newWatched()
	if w.run(120, 70, 1.0); math.Abs(w.rate()-490*loadAim) > 8 {
		t.Errorf("at the region's capacity: λ′ %.0f", w.rate())
	}
	if swing, ok := w.Oscillation(); !ok || swing > 0.01 {
		t.Errorf("at rest it swings by %.3f", swing)
	}
	if w.Lag.Quantile(0.5) < 2480 || w.Lag.Quantile(0.5) > 2520 {
		t.Errorf("lag %d ms", w.Lag.Quantile(0.5))
	}
}

// A region whose telemetry is gone keeps its rates until it is heard again.
func TestSchedulerSafeMode(t *testing.T) {
	w := newWatched()
	w.run(60, 50, 0.3)
	rate := w.rate()
	for range 30 {
		w.now = w.now.Add(time.Second)
		w.Turn(w.now)
	}
	if len(w.Safe()) != 1 || w.Fallbacks != 1 || w.rate() != rate || w.Adjust(1) != nil {
		t.Errorf("safe %v, %d times, λ′ %.0f → %.0f, asks for %v", w.Safe(), w.Fallbacks, rate, w.rate(), w.Adjust(1))
	}
	if w.run(2, 50, 0.3); len(w.Safe()) != 0 || len(w.Adjust(1)) == 0 {
		t.Error("it does not come back")
	}
}

func TestSchedulerTakesReportsInOrder(t *testing.T) {
	w := newWatched()
	w.run(1, 50, 0.3)
	stale := wire.Telemetry{StandsFor: 1, Millis: 1, Span: 1000}
	if w.Take(w.now, 5, wire.NodeID{1}, "eu", &stale) || w.Take(w.now, 5, wire.NodeID{1}, "atlantis", &stale) || w.Refused != 2 {
		t.Errorf("%d refused", w.Refused)
	}
	w.Follow(w.now, nil, []string{"us"})
	if w.nodes != 0 || w.Rate("eu", 0) != 0 {
		t.Error("a region that is gone is kept")
	}
}

// However much a node says, it weighs no more than its capacity in the directory.
func TestReportsAreBoundedByCapacity(t *testing.T) {
	lie := wire.Telemetry{StandsFor: 1, Span: 1000, Capacity: 1 << 31, Sent: 1 << 31, Classes: []wire.TelemetryClass{{Place: class500, Routes: 64000, Use: 100}}}
	if Bound(&lie, 1000); lie.Capacity != 1000 || lie.Load() != capacitySlack || lie.Classes != nil {
		t.Errorf("believed: %+v", lie)
	}
	fair := wire.Telemetry{StandsFor: 1, Span: 1000, Capacity: 50_000, Sent: 40_000, Classes: []wire.TelemetryClass{{Place: class500, Routes: 64, Use: 70}}}
	if Bound(&fair, 50_000); fair.Load() != 0.8 || len(fair.Classes) != 1 {
		t.Errorf("control: not believed: %+v", fair)
	}
}

// What it asks for is what plans may have, whatever nodes say.
func TestAdjustmentsMakePlansThatAreFollowed(t *testing.T) {
	draw := prng.FromUint64(9).Stream("reports")
	w, p, plans := newWatched(), NewPlanner(1, 1), obfs.Plans{}
	var said []*wire.CoverPlan
	for epoch := int64(10); epoch < 40; epoch++ {
		w.Follow(w.now, plans.Present(), []string{"eu"})
		for range 20 {
			w.now = w.now.Add(time.Second)
			tel := wire.Telemetry{StandsFor: 1, Millis: int64(w.now), Span: 1000, Capacity: 1000, Sent: uint32(draw.IntN(3000))}
			for k := range wire.CoverClasses {
				tel.Classes = append(tel.Classes, wire.TelemetryClass{Place: uint8(k), Routes: 64, Use: uint8(5 * draw.IntN(21))})
			}
			w.Take(w.now, tel.Millis, wire.NodeID{1}, "eu", &tel)
			w.Turn(w.now)
		}
		at := (epoch+1)*wire.CoverEpochSeconds - 100
		p.Turn(at-700, said, []string{"eu"})
		for _, a := range w.Adjust(uint32(epoch + 1)) {
			if !p.Adjust(at, a) {
				t.Fatalf("epoch %d: %+v is of no use", epoch, a)
			}
		}
		if _, proposed := p.Turn(at, said, []string{"eu"}); !proposed {
			t.Fatalf("epoch %d: no proposal", epoch)
		}
		said = []*wire.CoverPlan{p.Proposal()}
		now := machine.Time(at) * machine.Time(time.Second)
		if why := plans.Offer(now, p.Proposal()); why != 0 {
			t.Fatalf("epoch %d: refused: %v: %+v", epoch, why, p.Proposal())
		}
		plans.Turn(now.Add(2 * time.Minute))
	}
	if p.Adjust(0, wire.AdjustRate{Epoch: 7, Class: 500}) || p.Adjust(0, wire.AdjustRate{Epoch: 1, Class: 501}) {
		t.Error("it takes adjustments of other epochs or of no class")
	}
}

func TestPlannerProposesWhatIsAsked(t *testing.T) {
	p := planner(t)
	p.Adjust(due-10, wire.AdjustRate{Epoch: 11, Region: "eu", Class: 500, Rate: 600})
	p.Adjust(due-10, wire.AdjustRate{Epoch: 11, Region: "xx", Class: 500, Rate: 600})
	if p.Turn(due, nil, []string{"ap", "eu"}); rate500(p) != 600 || p.Proposal().Region("ap").Rates[class500] != 500 {
		t.Errorf("proposes %+v", p.Proposal())
	}
}
