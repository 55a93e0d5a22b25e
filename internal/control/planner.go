package control

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// Planner is an authority's part in cover plans (docs/protocol.md, section 8.4):
// Hear takes what Stream nodes report of the present epoch, Turn follows the plans
// in force as machines do and proposes the next one when its time has come, all else
// are getters. Times are seconds since 1970.
type Planner struct {
	// Watch is of the network's cover, by epochs.
	Watch CoverWatch

	plans    obfs.Plans
	chooser  obfs.Chooser
	loop     *Cover
	epoch    uint32
	heard    map[wire.NodeID]uint32 // the last window of each
	adjusts  []wire.AdjustRate      // of the next epoch
	proposal *wire.CoverPlan
	state    CoverState
}

// NewPlanner returns the planner of one of so many authorities, of which need must
// say the like for it to count.
func NewPlanner(seats, need int) *Planner {
	return &Planner{
		chooser: obfs.Chooser{Seats: seats, Need: need}, loop: NewCover(nil), heard: map[wire.NodeID]uint32{},
		state: CoverState{Ratio: -1, Distribution: -1},
	}
}

// capacitySlack is how many times its capacity a node may say that it emitted.
const capacitySlack = 2

// Hear takes a node's report, which counts once, if it is of a window of the present
// epoch. What is beyond the capacity that the node claims in the directory is not
// believed: so much a node weighs, and no more.
func (p *Planner) Hear(unix int64, node wire.NodeID, region string, capacity uint32, r *wire.CoverReport) {
	const windows = uint32(obfs.CoverEpoch / obfs.ReportWindow)
	if last, known := p.heard[node]; r.Window/windows != obfs.EpochAt(unix) || known && r.Window <= last {
		return
	}
	p.heard[node] = r.Window
	all := r.Floor.All
	for i := range r.Above {
		all += r.Above[i].All
	}
	if all <= capacitySlack*uint64(capacity)*uint64(obfs.ReportWindow/time.Second) {
		p.loop.Take(obfs.ReportOf(region, r))
	}
}

// adjustsMax bounds the adjustments of an epoch: every class of every region.
const adjustsMax = wire.CoverRegionsMax * wire.CoverClasses

// Adjust takes an ADJUST_RATE for the next epoch, from the control plane that this
// authority's operator runs (Scheduler): the next proposal has its rate, as far as a
// plan may go. The last of a class of a region holds. It reports whether it is of use:
// plans are combined of several authorities, so that this is one voice of them.
func (p *Planner) Adjust(unix int64, a wire.AdjustRate) bool {
	if a.Epoch != obfs.EpochAt(unix)+1 || !slices.Contains(obfs.Classes[:], obfs.Class(a.Class)) {
		return false
	}
	for i, b := range p.adjusts {
		if b.Region == a.Region && b.Class == a.Class {
			p.adjusts[i] = a
			return true
		}
	}
	if len(p.adjusts) >= adjustsMax {
		return false
	}
	p.adjusts = append(p.adjusts, a)
	return true
}

// follow has a plan that follows another have the rates that were asked for.
func (p *Planner) follow(before, plan *wire.CoverPlan) {
	for _, a := range p.adjusts {
		r, old := plan.Region(a.Region), before.Region(a.Region)
		if r == nil || old == nil || a.Epoch != plan.Epoch {
			continue
		}
		k := slices.Index(obfs.Classes[:], obfs.Class(a.Class))
		r.Rates[k] = plannable(obfs.Class(a.Class), old.Rates[k], float64(a.Rate))
	}
	for i := range plan.Regions {
		for k := 1; k < wire.CoverClasses; k++ {
			plan.Regions[i].Rates[k] = max(plan.Regions[i].Rates[k], plan.Regions[i].Rates[k-1])
		}
	}
	p.adjusts = nil
}

// Judged is what became of a plan that is to be followed.
type Judged struct {
	Plan *wire.CoverPlan // nil: there was none
	Why  obfs.Refusal
}

// Turn moves time on. said are the last proposals of the network's authorities, this
// one among them, regions those in which its Stream nodes are. It reports whether
// there is a new proposal.
func (p *Planner) Turn(unix int64, said []*wire.CoverPlan, regions []string) (judged Judged, proposed bool) {
	now := machine.Time(unix) * machine.Time(time.Second)
	if judged.Plan = p.chooser.Choose(unix, said); judged.Plan != nil {
		judged.Why = p.plans.Offer(now, judged.Plan)
	}
	p.plans.Turn(now)
	epoch := obfs.EpochAt(unix)
	if epoch != p.epoch {
		p.epoch = epoch
		p.loop = NewCover(nil)
		clear(p.heard)
	}
	p.loop.Follow(p.plans.Present(), regions)
	due := (int64(epoch)+1)*wire.CoverEpochSeconds - int64(obfs.ProposalLead/time.Second)
	if len(regions) == 0 || unix < due || p.proposal != nil && p.proposal.Epoch > epoch {
		return judged, false
	}
	before := p.loop.Plan()
	state, plan, _ := p.loop.Next(epoch + 1)
	p.follow(&before, &plan)
	p.state, p.proposal = state, &plan
	p.Watch.note(state.Ratio, state.Ratio >= 0)
	return judged, true
}

// Proposal is the plan that this authority proposes, or nil. It does not change.
func (p *Planner) Proposal() *wire.CoverPlan { return p.proposal }

// State is what the loop found when it made the proposal.
func (p *Planner) State() CoverState {
	s := p.state
	s.Shares = slices.Clone(s.Shares)
	return s
}

// Refused counts plans that were not followed, by why.
func (p *Planner) Refused() [obfs.NumRefusals]uint64 { return p.plans.Refused }

// CoverWatch counts how often the cover ratio was what it should be:
// cover_traffic_compliance.
type CoverWatch struct {
	// Windows are those looked at, Complied those in which the ratio was not above
	// CoverLimit, Alerts those in which it was above CoverAlert.
	Windows, Complied, Alerts uint64
}

// Note looks at a window of routes, and reports whether it complies. One in which no
// route is above its floor has no ratio, and complies.
func (w *CoverWatch) Note(r *obfs.Report) bool {
	ratio, ok := r.Ratio()
	return w.note(ratio, ok)
}

func (w *CoverWatch) note(ratio float64, any bool) bool {
	w.Windows++
	if any && ratio > CoverAlert {
		w.Alerts++
	}
	if any && ratio > CoverLimit {
		return false
	}
	w.Complied++
	return true
}
