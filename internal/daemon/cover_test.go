package daemon

import (
	"bytes"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const class500 = 6 // of obfs.Classes

// follower asks one authority process for plans, as a client or Stream node does,
// and gives them to a machine.
type follower struct {
	*listener
	plans []*wire.CoverPlan
	why   obfs.Refusal
	log   bytes.Buffer
}

// follows returns one of process i whose machine begins now.
func (c *council) follows(i int, take func(now machine.Time, plan *wire.CoverPlan) obfs.Refusal) *follower {
	c.Helper()
	f, begun := &follower{listener: c.hearer(nil, host(i)).listener}, time.Now()
	log := slog.New(slog.NewTextHandler(&f.log, nil))
	f.plan = func(plan *wire.CoverPlan) {
		f.plans, f.why = append(f.plans, plan), take(machine.Time(time.Since(begun)), plan)
		tellJudged(log, plan, f.why)
	}
	return f
}

func (f *follower) look(c *council) { f.ask(c.Context()) }

// emitted is what a Stream node reports of a window in which 64 routes of class 500
// were used to a share of it.
func emitted(share float64) *wire.CoverReport {
	r := &wire.CoverReport{Window: obfs.WindowAt(time.Now().Unix()) - 1}
	all := uint64(64 * 500 * 300)
	r.Above[class500] = wire.CoverTally{All: all, Real: uint64(share * float64(all))}
	return r
}

func proposesFivefold(b *directory.Bulletin) {
	if b.Plan == nil {
		return
	}
	p := *b.Plan
	p.Noise = [wire.CoverSegments]uint8{200, 200, 200}
	p.Regions = slices.Clone(p.Regions)
	for i := range p.Regions {
		p.Regions[i].Weight *= 5
		for k := range p.Regions[i].Rates {
			p.Regions[i].Rates[k] *= 5
		}
	}
	b.Plan = &p
}

func proposesNothing(b *directory.Bulletin) { b.Plan = nil }

// travel lets the last minutes of an epoch pass in which two Stream nodes report, and
// has a Stream node and clients ask different authorities for the plan of the next. It
// returns the first client and the node.
func travel(t *testing.T, bend map[int]func(*directory.Bulletin)) (c *council, f *follower, g *gateway.Gateway) {
	t.Helper()
	const before = 20 * time.Second                       // of the proposals: each round costs signatures
	advance(obfs.CoverEpoch - obfs.ProposalLead - before) // two windows have ended
	c = bent(t, 3, 2, bend)
	c.stand()
	fleet := seal.Key{1}
	g = gateway.New(gateway.Config{Fleet: &fleet, Region: "region-0", Stream: stream.Config{UnixStart: time.Now().Unix()}}, prng.FromUint64(1))
	node := c.follows(1, func(now machine.Time, p *wire.CoverPlan) obfs.Refusal {
		return g.HandleParams(now, gateway.Params{Plan: p})
	})
	var all []*follower
	for i := range 3 {
		u := client.New(client.Config{Level: wire.Standard, Stream: stream.Config{UnixStart: time.Now().Unix()}}, prng.FromUint64(uint64(i)))
		all = append(all, c.follows(i, func(now machine.Time, p *wire.CoverPlan) obfs.Refusal {
			return u.HandleParams(now, client.Params{Plan: p})
		}))
	}
	for _, i := range []int{0, 1} {
		if status := c.reporter(i).reports([]int{0, 1, 2}, func(r *directory.Report) { r.Cover = emitted(0.45) }); status != http.StatusOK {
			t.Fatalf("a report is answered %d", status)
		}
	}
	for _, wait := range []time.Duration{before, obfs.ProposalLead - before} { // no more are waited for then
		advance(wait)
		for _, f := range append(all, node) {
			f.look(c)
		}
	}
	for i, f := range append(all, node) {
		if !reflect.DeepEqual(f.plans, all[0].plans) || f.why != all[0].why {
			t.Errorf("who asks authority %d is given another plan", i)
		}
	}
	return c, all[0], g
}

// What Stream nodes report becomes the plan of the next epoch, one and the same for
// all, before that begins. (Controls: TestOneAuthorityMovesNoPlan, and that without
// a threshold of proposals there is no plan.)
func TestPlansTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, g := travel(t, nil)
		defer c.close()
		if len(f.plans) != 1 || f.why != 0 {
			t.Fatalf("%d plans, %v", len(f.plans), f.why)
		}
		want := obfs.Nominal()
		want[class500] = 300 // 500 · 0.45 · 1.4, within what a rate may fall
		p := f.plans[0]
		if r := p.Region("region-0"); p.Epoch != obfs.EpochAt(time.Now().Unix())+1 || r == nil || r.Rates != want {
			t.Errorf("the plan is %+v", p)
		}
		if why := g.HandleParams(machine.Time(time.Minute), gateway.Params{Plan: p}); why != obfs.RefusedEpoch {
			t.Error("control: the node does not have the plan")
		}
		cov := c.all[0].crier.cover()
		if cov.ratio < 1.2 || cov.ratio > 1.23 || cov.watch.Alerts != 1 || cov.watch.Complied != 0 {
			t.Errorf("the authority found %+v, %+v", cov, cov.watch)
		}
		page := &metric.Page{}
		writeCover(page, []part{c.all[0].part()})
		for _, line := range []string{`obf_cover_ratio{part="authority"} 1.2`, `cover_traffic_compliance{part="authority"} 0`, `obf_cover_geo_distribution{part="authority"} 0`, `obf_cover_alerts_total{part="authority"} 1`} {
			if !strings.Contains(page.String(), line) {
				t.Errorf("the page lacks %s:\n%s", line, page)
			}
		}
	})
}

func TestOneAuthorityMovesNoPlan(t *testing.T) {
	want := obfs.Nominal()
	want[class500] = 300
	for _, test := range []struct {
		name  string
		bend  map[int]func(*directory.Bulletin)
		plans int
		why   obfs.Refusal
	}{
		{"one proposes five-fold", map[int]func(*directory.Bulletin){0: proposesFivefold}, 1, 0},
		{"one proposes nothing", map[int]func(*directory.Bulletin){1: proposesNothing}, 1, 0},
		{"one alone proposes, five-fold", map[int]func(*directory.Bulletin){0: proposesFivefold, 1: proposesNothing, 2: proposesNothing}, 0, 0},
		// A threshold that lies is met by every machine's own judgement.
		{"two propose five-fold", map[int]func(*directory.Bulletin){0: proposesFivefold, 1: proposesFivefold}, 1, obfs.RefusedNoise},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, f, g := travel(t, test.bend)
				defer c.close()
				if len(f.plans) != test.plans || f.why != test.why {
					t.Fatalf("%d plans, %v", len(f.plans), f.why)
				}
				if test.plans > 0 && test.why == 0 {
					if p := f.plans[0]; p.Region("region-0").Rates != want || p.Region("region-0").Weight != wire.CoverWeightOne || p.Noise != [wire.CoverSegments]uint8{} {
						t.Errorf("the plan is %+v", p)
					}
				}
				if test.why != 0 {
					if n := g.PlansRefused(); n[test.why] != 1 {
						t.Errorf("the node counts %v", n)
					}
					if !strings.Contains(f.log.String(), "reason="+test.why.String()) {
						t.Errorf("the log says %q", f.log.String())
					}
				}
			})
		})
	}
}

// A node tells of windows of the clock that have passed whole, and of no few routes.
func TestWindows(t *testing.T) {
	var w window
	sum := obfs.Report{Floor: obfs.Tally{All: 1000, Real: 400}}
	sum.Above[class500] = obfs.Tally{All: 64 * 500 * 300, Real: 32 * 500 * 300}
	sum.Above[4] = obfs.Tally{All: 3 * 100 * 300, Real: 2 * 100 * 300}
	read := func(unix int64) *wire.CoverReport {
		return w.read(unix, func() (obfs.Report, bool) { return sum, true })
	}
	if read(1000) != nil || read(1190) != nil {
		t.Error("a window of which the node has seen a part is reported")
	}
	r := read(1200)
	if r == nil || r.Window != 3 || r.Above[class500] != wire.CoverTally(sum.Above[class500]) {
		t.Fatalf("reported %+v", r)
	}
	if r.Above[4] != (wire.CoverTally{}) || r.Floor != (wire.CoverTally{All: 1000}) {
		t.Errorf("few routes are told of: %+v", r)
	}
	if read(1490) != r || read(1500) == r {
		t.Error("a report is not that of the last window")
	}
	if w.watched().Windows != 2 || w.watched().Complied != 0 {
		t.Errorf("watched %+v", w.watched())
	}
	if (&window{}).read(1000, func() (obfs.Report, bool) { return sum, false }) != nil {
		t.Error("a Mix node reports cover")
	}
}

// The parts of a running network take plans, judge them, and say so.
func TestRunningPartsJudgePlans(t *testing.T) {
	l, err := StartLocal(LocalConfig{Streams: 2, Mixes: 3, Client: client.Config{Level: wire.Fast}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	epoch := obfs.EpochAt(time.Now().Unix())
	plan := func(epoch uint32, rate uint16) *wire.CoverPlan {
		r := wire.CoverRegion{Name: "region-0", Weight: wire.CoverWeightOne, Rates: obfs.Nominal()}
		r.Rates[class500] = rate
		return &wire.CoverPlan{Epoch: epoch, Regions: []wire.CoverRegion{r}}
	}
	for _, p := range []*wire.CoverPlan{plan(epoch, 600), plan(epoch+1, 2500)} {
		l.Nodes[0].takePlan(p)
		l.Client.takePlan(p, slog.New(slog.DiscardHandler))
	}
	page := &metric.Page{}
	writeCover(page, l.parts())
	for _, name := range []string{"client", "stream-0"} {
		if line := `obf_plans_refused_reason_total{part="` + name + `",reason="growth"} 1`; !strings.Contains(page.String(), line) {
			t.Errorf("the page lacks %s", line)
		}
	}
	for _, n := range []trace.Counts{l.Client.Stats(), l.Nodes[0].Stats()} {
		if n[trace.PlanTaken] != 1 || n[trace.PlanRefused] != 1 {
			t.Errorf("%d plans taken, %d refused", n[trace.PlanTaken], n[trace.PlanRefused])
		}
	}
	if l.Nodes[2].cover() != nil || strings.Contains(page.String(), "mix-0") {
		t.Error("a Mix node has figures of cover")
	}
}
