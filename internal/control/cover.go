package control

import (
	"math"
	"slices"

	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// Figures of the specification for cover.
const (
	// CoverTarget is what dummies to real cells are steered to, over routes above
	// their floors.
	CoverTarget = 0.4
	// CoverAlert is the ratio that somebody is told of, CoverLimit the greatest.
	CoverAlert, CoverLimit = 0.45, 0.6
	// CoverReadjusted is the target after the limit was passed.
	CoverReadjusted = 0.3
	// CoverSpread is the least Gini–Simpson index of cover over regions, and
	// spreadAim what weights aim at: they are corrected before it is missed.
	CoverSpread, spreadAim = 0.5, 0.55

	// fallMax is the most by which a rate falls in an epoch.
	fallMax = 1.5
	// weightLeast and weightMost are those that machines follow.
	weightLeast, weightMost = 0.25, 4
)

// Cover is the control loop of cover: it takes what Stream nodes report of an
// epoch and makes the plan of the next. It sees sums over routes, of regions and
// classes, and no route.
//
// A class's rate follows the real cells of all its routes, never their dummies:
// cover that nobody asked for, or that is counted twice, cannot ask for more.
type Cover struct {
	plan wire.CoverPlan
	sums map[string]*obfs.Report
}

// CoverState is what a loop found in an epoch.
type CoverState struct {
	Epoch uint32
	// Ratio is dummies to real cells over routes above their floors, obf.cover_ratio;
	// negative if there are none.
	Ratio float64
	// Shares are the regions' shares of all cover, in the order of their names, and
	// Distribution their Gini–Simpson index, obf.cover_geo_distribution; negative
	// without cover.
	Shares       []float64
	Distribution float64
	// Alert and Limit say that the ratio passed these; Uneven that cover lies too
	// close together for what regions there are.
	Alert, Limit, Uneven bool
}

// NewCover returns a loop over the regions of a network, with the nominal rates.
func NewCover(regions []string) *Cover {
	c := &Cover{sums: map[string]*obfs.Report{}}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(regions))) {
		c.plan.Regions = append(c.plan.Regions, wire.CoverRegion{Name: name, Weight: wire.CoverWeightOne, Rates: obfs.Nominal()})
	}
	return c
}

// Follow has the loop go on from the plan in force, nil being the nominal rates, over
// the regions of the network as they are now.
func (c *Cover) Follow(plan *wire.CoverPlan, regions []string) {
	next := NewCover(regions)
	if plan != nil {
		next.plan.Noise = plan.Noise
		for i := range next.plan.Regions {
			if r := plan.Region(next.plan.Regions[i].Name); r != nil {
				next.plan.Regions[i] = *r
			}
		}
	}
	c.plan = next.plan
}

// Plan is the last plan that was made.
func (c *Cover) Plan() wire.CoverPlan {
	p := c.plan
	p.Regions = slices.Clone(p.Regions)
	return p
}

// Take takes a TELEMETRY_REPORT of the present epoch. Regions that the network does
// not have are not counted.
func (c *Cover) Take(r obfs.Report) {
	if c.plan.Region(r.Region) == nil {
		return
	}
	sum := c.sums[r.Region]
	if sum == nil {
		sum = &obfs.Report{Region: r.Region}
		c.sums[r.Region] = sum
	}
	sum.Add(r)
}

// Next ends an epoch: it says what was found, and adjusts the plan that has held to
// be that of the epoch after, as ADJUST_RATE by ADJUST_RATE and in whole.
func (c *Cover) Next(epoch uint32) (state CoverState, plan wire.CoverPlan, adjusted []wire.AdjustRate) {
	state = c.state()
	state.Epoch, c.plan.Epoch = epoch, epoch
	target := CoverTarget
	if state.Limit {
		target = CoverReadjusted
	}
	for i := range c.plan.Regions {
		r := &c.plan.Regions[i]
		if sum := c.sums[r.Name]; sum != nil {
			before := r.Rates
			adjust(&r.Rates, sum, target)
			for k, class := range obfs.Classes {
				if r.Rates[k] != before[k] {
					adjusted = append(adjusted, wire.AdjustRate{Epoch: epoch, Region: r.Name, Class: uint16(class), Rate: r.Rates[k]})
				}
			}
		}
	}
	c.weigh(state.Shares)
	clear(c.sums)
	return state, c.Plan(), adjusted
}

// adjust moves the rates of a region to what its routes' real cells need: λ′ is
// such that what is left over is the target's share, but leaves room for all but the
// greatest of the class. Those would go to the next class otherwise, where they
// bring more cover than was saved.
func adjust(rates *[wire.CoverClasses]uint16, sum *obfs.Report, target float64) {
	for k, class := range obfs.Classes {
		if t := sum.Above[k]; t.All > 0 {
			want := float64(rates[k]) * float64(t.Real) / float64(t.All) * (1 + target)
			least, most, step := obfs.Bounds(class)
			fits := float64(rates[k]) * min(1, float64(t.Most())/obfs.HighUse)
			want = min(max(want, fits, float64(rates[k])/fallMax), float64(most))
			most = min(most, obfs.Step(class, rates[k])/step*step)
			rates[k] = min(max(uint16(math.Round(want/float64(step)))*step, least), most)
		}
		if k > 0 {
			rates[k] = max(rates[k], rates[k-1]) // no class emits less than the one before
		}
	}
}

func (c *Cover) state() CoverState {
	s := CoverState{Ratio: -1, Distribution: -1}
	var all obfs.Report
	cover := make([]float64, len(c.plan.Regions))
	total := 0.0
	for i := range c.plan.Regions {
		if sum := c.sums[c.plan.Regions[i].Name]; sum != nil {
			all.Add(*sum)
			cover[i] = float64(sum.Cover())
			total += cover[i]
		}
	}
	if ratio, ok := all.Ratio(); ok {
		s.Ratio = ratio
		s.Alert, s.Limit = ratio > CoverAlert, ratio > CoverLimit
	}
	if total > 0 {
		for i := range cover {
			cover[i] /= total
		}
		s.Shares, s.Distribution = cover, GiniSimpson(cover)
		s.Uneven = s.Distribution < CoverSpread
	}
	return s
}

// GiniSimpson is 1 − Σp²: the chance that two cells are of different regions.
func GiniSimpson(shares []float64) float64 {
	sum := 0.0
	for _, p := range shares {
		sum += p * p
	}
	return 1 - sum
}

// weigh sets the weights of regions by where cover was. It finds how cover would
// lie without weights, and moves that towards evenness no further than the index
// asks: a region's nodes carry no more of others' traffic than they must.
func (c *Cover) weigh(shares []float64) {
	if shares == nil {
		return
	}
	natural, sum := make([]float64, len(shares)), 0.0
	for i, p := range shares {
		natural[i] = p / float64(c.plan.Regions[i].Weight)
		sum += natural[i]
	}
	squares, even := 0.0, 1/float64(len(shares))
	for i := range natural {
		natural[i] /= sum
		squares += natural[i] * natural[i]
	}
	keep := 1.0 // of what parts the shares from evenness
	if 1-squares < spreadAim && squares > even {
		keep = math.Sqrt(max(0, 1-spreadAim-even) / (squares - even))
	}
	for i, p := range natural {
		weight := weightMost + 0.0
		if p > 0 {
			weight = min(max((even+keep*(p-even))/p, weightLeast), weightMost)
		}
		c.plan.Regions[i].Weight = uint16(math.Round(weight * wire.CoverWeightOne))
	}
}
