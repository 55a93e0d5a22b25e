package control

import (
	"math"
	"testing"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// reported is a report of routes of class 500 whose load is a share of the nominal
// rate, under a plan's rate, and of so many dummies at floors.
func reported(region string, rate uint16, load float64, floor uint64) obfs.Report {
	r := obfs.Report{Region: region, Floor: obfs.Tally{All: floor}}
	all := uint64(rate) * 10_000
	r.Above[6] = obfs.Tally{Real: min(all, uint64(500*load*10_000)), All: all}
	r.Above[6].Uses[min(9, r.Above[6].Real*10/all)] = 1000
	return r
}

const class500 = 6

// Whatever the load of a class, its cover comes to the target as near as the steps
// of a rate allow, and stays.
func TestRatesComeToTheTarget(t *testing.T) {
	for _, load := range []float64{0.45, 0.6, 0.7, 0.8, 1.2} {
		c := NewCover([]string{"eu"})
		var s CoverState
		var adjusted []wire.AdjustRate
		for e := range uint32(8) {
			c.Take(reported("eu", c.plan.Regions[0].Rates[class500], load, 0))
			s, _, adjusted = c.Next(e)
		}
		rate := float64(c.plan.Regions[0].Rates[class500])
		if want := 500 * load * 1.4; math.Abs(rate-want) > 51 || len(adjusted) > 0 || s.Limit {
			t.Errorf("load %.2f: λ %v, want about %.0f; still adjusted: %v; %+v", load, rate, want, adjusted, s)
		}
	}
}

// Cover does not breed cover: with dummies that nobody planned, the loop asks for
// less, and no plan that it makes is one that machines refuse.
func TestTheLoopDoesNotFeedItself(t *testing.T) {
	c := NewCover([]string{"eu", "us"})
	plans := obfs.Plans{}
	for e := range uint32(30) {
		before := c.Plan()
		r := reported("eu", before.Regions[0].Rates[class500], 0.3, 0)
		r.Above[class500].All *= 5
		r.Above[class500].Uses = [10]uint64{5: 1000}
		c.Take(r)
		c.Take(reported("us", before.Regions[1].Rates[class500], 1.9, 0))
		s, plan, _ := c.Next(e)
		if plan.Regions[0].Rates[class500] > before.Regions[0].Rates[class500] {
			t.Fatalf("epoch %d: λ grew with its own dummies", e)
		}
		if e < 2 && (!s.Alert || !s.Limit) {
			t.Errorf("epoch %d: no alarm at %+v", e, s)
		}
		if why := plans.Offer(machine.Time(e)*machine.Time(obfs.CoverEpoch), &plan); why != 0 {
			t.Fatalf("epoch %d: the plan was refused: %v", e, why)
		}
	}
	if r := c.plan.Regions; r[0].Rates[class500] != 300 || r[1].Rates[class500] != 1000 {
		t.Errorf("the rates rest at %v and %v", r[0].Rates, r[1].Rates)
	}
}

func TestAlertsStandAtTheirFigures(t *testing.T) {
	for _, c := range []struct {
		dummies      uint64
		alert, limit bool
	}{{45_000, false, false}, {45_100, true, false}, {60_000, true, false}, {60_100, true, true}} {
		l := NewCover([]string{"eu"})
		r := obfs.Report{Region: "eu"}
		r.Above[class500] = obfs.Tally{Real: 100_000, All: 100_000 + c.dummies}
		l.Take(r)
		if s, _, _ := l.Next(1); s.Alert != c.alert || s.Limit != c.limit {
			t.Errorf("%d dummies to 100,000: %+v", c.dummies, s)
		}
	}
	if s, _, adjusted := NewCover([]string{"eu"}).Next(1); s.Ratio >= 0 || s.Distribution >= 0 || s.Alert || s.Uneven || adjusted != nil {
		t.Errorf("without a report: %+v", s)
	}
}

// The seed's fault, 80 % in one of three regions, scores 0.34 and is found; the
// weights that follow bring it above 0.5, and no further than that needs. When the
// fault is gone, so are the weights.
func TestUnevenCoverIsFoundAndCorrected(t *testing.T) {
	c := NewCover([]string{"us", "eu", "ap"})
	// lie reports cover as it lies when exits are drawn by share and weight.
	lie := func(natural [3]float64) CoverState {
		sum := 0.0
		for i, p := range natural {
			sum += p * float64(c.plan.Regions[i].Weight)
		}
		for i, p := range natural {
			n := uint64(1e6 * p * float64(c.plan.Regions[i].Weight) / sum)
			c.Take(obfs.Report{Region: c.plan.Regions[i].Name, Floor: obfs.Tally{All: n}})
		}
		s, _, _ := c.Next(0)
		return s
	}
	fault := [3]float64{0.1, 0.8, 0.1}
	if s := lie(fault); math.Abs(s.Distribution-0.34) > 0.001 || !s.Uneven {
		t.Fatalf("the fault scores %.3f: %+v", s.Distribution, s)
	}
	for range 3 {
		if s := lie(fault); s.Distribution < CoverSpread || s.Distribution > 0.56 || s.Uneven {
			t.Errorf("corrected to %.3f: %+v", s.Distribution, s)
		}
	}
	lie([3]float64{0.3, 0.4, 0.3})
	for _, r := range c.plan.Regions {
		if r.Weight != wire.CoverWeightOne {
			t.Errorf("even cover keeps a weight of %d in %s", r.Weight, r.Name)
		}
	}
	// Nothing helps where there is one region, and nothing breaks.
	one := NewCover([]string{"eu", "eu"})
	one.Take(obfs.Report{Region: "eu", Floor: obfs.Tally{All: 5}})
	one.Take(obfs.Report{Region: "atlantis", Floor: obfs.Tally{All: 500}})
	if s, p, _ := one.Next(1); s.Distribution != 0 || len(p.Regions) != 1 || p.Regions[0].Weight != wire.CoverWeightOne {
		t.Errorf("one region: %+v, %+v", s, p)
	}
}
