package obfs

import (
	"cmp"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// Authorities propose plans, each by itself; who follows plans makes one of what
// they propose (docs/protocol.md, section 8.4). There is no agreement among them.

const (
	// ProposalLead is how long before its epoch a plan is proposed: each machine asks
	// several servers in that time.
	ProposalLead = 2 * time.Minute
	// choiceLead is how long before it a machine stops waiting for authorities that
	// have proposed nothing.
	choiceLead = 30 * time.Second
)

// Chooser makes a machine's plans of what authorities propose, one for an epoch.
type Chooser struct {
	// Seats is how many authorities there are, Need how many must say the like for it
	// to count.
	Seats, Need int

	chosen uint32 // epoch
}

// Choose returns the plan that is to be offered at a second since 1970, if there is
// one that was not before: that of the present epoch, or of the next, when all have
// proposed one or no more are waited for. said are the last proposals of different
// authorities.
func (c *Chooser) Choose(unix int64, said []*wire.CoverPlan) *wire.CoverPlan {
	for epoch := EpochAt(unix); epoch <= EpochAt(unix)+1; epoch++ {
		of := slices.DeleteFunc(slices.Clone(said), func(p *wire.CoverPlan) bool { return p.Epoch != epoch })
		waits := unix < int64(epoch)*wire.CoverEpochSeconds-int64(choiceLead/time.Second)
		if epoch <= c.chosen || len(of) < c.Seats && waits {
			continue
		}
		if plan := Combine(of, c.Need); plan != nil {
			c.chosen = epoch
			return plan
		}
	}
	return nil
}

// Combine makes one plan of an epoch's proposals, in whatever order they come; nil
// if there is no region that need of them name. A figure differs from the nominal one as far as
// at least need of them, and more than half, say; so no smaller number moves it, and
// with an odd number of authorities, all of which propose, it is their median.
func Combine(said []*wire.CoverPlan, need int) *wire.CoverPlan {
	need = max(need, len(said)/2+1)
	plan := &wire.CoverPlan{}
	named := map[string]int{}
	for _, p := range said {
		plan.Epoch = p.Epoch
		for i := range p.Regions {
			named[p.Regions[i].Name]++
		}
	}
	values := make([]int, len(said))
	figure := func(nominal, step int, of func(p *wire.CoverPlan) int) int {
		for i, p := range said {
			values[i] = of(p)
		}
		return supported(values, nominal, need) / step * step
	}
	for i := range plan.Noise {
		plan.Noise[i] = uint8(figure(0, 1, func(p *wire.CoverPlan) int { return int(p.Noise[i]) }))
	}
	for name, n := range named {
		if n < need {
			continue
		}
		r := wire.CoverRegion{Name: name}
		of := func(p *wire.CoverPlan) wire.CoverRegion {
			if r := p.Region(name); r != nil {
				return *r
			}
			return wire.CoverRegion{Weight: wire.CoverWeightOne, Rates: Nominal()}
		}
		r.Weight = uint16(figure(wire.CoverWeightOne, 1, func(p *wire.CoverPlan) int { return int(of(p).Weight) }))
		for i, c := range Classes {
			_, _, step := Bounds(c)
			r.Rates[i] = uint16(figure(int(c), int(step), func(p *wire.CoverPlan) int { return int(of(p).Rates[i]) }))
		}
		plan.Regions = append(plan.Regions, r)
	}
	if plan.Regions == nil {
		return nil
	}
	slices.SortFunc(plan.Regions, func(a, b wire.CoverRegion) int { return cmp.Compare(a.Name, b.Name) })
	return plan
}

// supported is the figure that is as far from the nominal one as need of the values
// are, on one side of it; need is more than half of them, or there are too few.
func supported(values []int, nominal, need int) int {
	if len(values) < need {
		return nominal
	}
	slices.Sort(values)
	low, high := values[len(values)-need], values[need-1]
	return min(max(nominal, low), high)
}
