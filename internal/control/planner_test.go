package control

import (
	"testing"

	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	epochBegins = 10 * wire.CoverEpochSeconds
	due         = epochBegins + wire.CoverEpochSeconds - 120
)

// used is a report of routes of class 500 that are used to so many percent.
func used(window uint32, percent uint64) *wire.CoverReport {
	r := &wire.CoverReport{Window: window}
	r.Above[class500] = wire.CoverTally{All: 6_000_000, Real: 60_000 * percent}
	return r
}

// planner is one of three authorities in an epoch in which two nodes have reported.
func planner(t *testing.T) *Planner {
	p := NewPlanner(3, 2)
	if _, proposed := p.Turn(epochBegins+5, nil, []string{"ap", "eu"}); proposed {
		t.Fatal("a plan is proposed at once")
	}
	p.Hear(epochBegins+301, wire.NodeID{1}, "eu", 100_000, used(30, 45))
	p.Hear(epochBegins+601, wire.NodeID{2}, "eu", 100_000, used(31, 45))
	return p
}

func rate500(p *Planner) uint16 { return p.Proposal().Region("eu").Rates[class500] }

func TestPlannerProposes(t *testing.T) {
	p := planner(t)
	if _, proposed := p.Turn(due-1, nil, []string{"ap", "eu"}); proposed || p.Proposal() != nil {
		t.Error("too early")
	}
	if _, proposed := p.Turn(due, nil, []string{"ap", "eu"}); !proposed || p.Proposal().Epoch != 11 || rate500(p) != 300 {
		t.Errorf("proposes %+v", p.Proposal())
	}
	if s := p.State(); !s.Limit || !s.Uneven || p.Watch != (CoverWatch{Windows: 1, Alerts: 1}) {
		t.Errorf("found %+v, %+v", s, p.Watch)
	}
	// What it proposes is not what holds: it goes on from what the authorities
	// together propose.
	if _, proposed := p.Turn(due+10, nil, []string{"ap", "eu"}); proposed {
		t.Error("twice in an epoch")
	}
	said := *p.Proposal()
	said.Regions = []wire.CoverRegion{{Name: "ap", Weight: 256, Rates: obfs.Nominal()}, {Name: "eu", Weight: 256, Rates: obfs.Nominal()}}
	said.Regions[1].Rates[class500] = 400
	all := []*wire.CoverPlan{p.Proposal(), &said, &said}
	if judged, _ := p.Turn(due+20, all, []string{"ap", "eu"}); judged.Plan == nil || judged.Why != 0 || judged.Plan.Region("eu").Rates[class500] != 400 {
		t.Errorf("judged %+v", judged)
	}
	p.Turn(due+wire.CoverEpochSeconds, nil, []string{"ap", "eu", "us"})
	if rate500(p) != 400 || p.Proposal().Region("us") == nil || p.Proposal().Epoch != 12 {
		t.Errorf("without reports it proposes %+v", p.Proposal())
	}
}

// A report counts once, in its epoch, and as far as the node's capacity goes.
func TestPlannerHears(t *testing.T) {
	for name, hear := range map[string]func(p *Planner){
		"the same again":      func(p *Planner) { p.Hear(epochBegins+610, wire.NodeID{2}, "eu", 100_000, used(31, 100)) },
		"of an earlier epoch": func(p *Planner) { p.Hear(epochBegins+610, wire.NodeID{3}, "eu", 100_000, used(29, 100)) },
		"beyond the capacity": func(p *Planner) { p.Hear(epochBegins+610, wire.NodeID{3}, "eu", 9_999, used(31, 100)) },
		"of no region here":   func(p *Planner) { p.Hear(epochBegins+610, wire.NodeID{3}, "xx", 100_000, used(31, 100)) },
	} {
		p := planner(t)
		hear(p)
		if p.Turn(due, nil, []string{"ap", "eu"}); rate500(p) != 300 {
			t.Errorf("%s: counts", name)
		}
	}
	p := planner(t)
	p.Hear(epochBegins+610, wire.NodeID{3}, "eu", 10_000, used(31, 100)) // control
	if p.Turn(due, nil, []string{"ap", "eu"}); rate500(p) == 300 {
		t.Error("control: a good report does not count")
	}
}

func TestCoverWatch(t *testing.T) {
	w := CoverWatch{}
	report := func(real uint64) *obfs.Report {
		r := &obfs.Report{}
		r.Above[class500] = obfs.Tally{All: 100, Real: real}
		return r
	}
	for real, complies := range map[uint64]bool{72: true, 65: true, 50: false, 0: true} {
		if w.Note(report(real)) != complies {
			t.Errorf("%d cells of 100 with content", real)
		}
	}
	if w != (CoverWatch{Windows: 4, Complied: 3, Alerts: 2}) {
		t.Errorf("%+v", w)
	}
}
