package lab

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab/attack"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// attacked is a network under flow correlation: at one end the users' links,
// at the other what the exits have to do with their targets, which shaping does
// not cover.
type attacked struct {
	level  wire.Level
	class  obfs.Class
	pages  float64 // per second and user; a page is 2.5 requests, 6 packets, on average
	flows  int
	length time.Duration
	routes int // of the session, which stands from the beginning
}

// sights is what the adversary has of it.
type sights struct {
	begin machine.Time
	sent  [][]machine.Time // datagrams of each user's link
	got   [][]attack.Burst // of each flow, behind its exit
	use   int              // real cells among those sent, in percent
}

func (a attacked) run(t *testing.T) sights {
	t.Helper()
	w, err := bareRun(1).NewNetwork(Plan{Streams: 10, Mixes: 15, Level: a.level, Regions: regionsOf(a.level),
		Hop:     sim.Link{Latency: 10 * time.Millisecond, Jitter: 2 * time.Millisecond},
		Gateway: func(c *gateway.Config) { c.Class = a.class },
		Client:  func(c *client.Config) { c.RoutesPerSession, c.Ahead, c.Class = a.routes, -1, a.class }})
	if err != nil {
		t.Fatal(err)
	}
	w.AddUsers(a.flows)
	s := sights{begin: machine.Time(5 * time.Second), got: make([][]attack.Burst, a.flows)}
	end := s.begin.Add(a.length)
	var views []*sim.View
	for _, u := range w.Users {
		views = append(views, w.Sim.Tap(u.Node.Addr(), netip.AddrPort{}, sim.Departure))
	}
	// The first byte of a request names its flow, for the tap behind the exit.
	for _, g := range w.Gateways {
		g.Service.Arrived = func(now machine.Time, body []byte, fresh int) {
			if now >= s.begin && now < end {
				flow := &s.got[body[0]]
				*flow = joined(*flow, attack.Burst{At: now, Packets: math.Ceil(float64(fresh) / 1000)})
			}
		}
		g.Service.Answer = func(_ machine.Time, body []byte) []byte { return body[:1] }
	}
	answers := 0
	for i, u := range w.Users {
		u.Ask("", []byte{byte(i)}, func(_ machine.Time, _ []byte, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		pages(w, u, i, a.pages, s.begin, end, &answers)
	}
	var before, after trace.Counts
	w.Sim.At(s.begin, func(machine.Time) { before = realAndDummy(w) })
	w.Sim.RunUntil(end)
	after = realAndDummy(w)
	w.Sim.RunUntil(end.Add(5 * time.Second))
	if answers < int(float64(a.flows)*a.pages*a.length.Seconds()) {
		t.Fatalf("%d answers only", answers)
	}
	for _, v := range views {
		var times []machine.Time
		for i := range v.Len() {
			if at := v.At(i).At; at >= s.begin.Add(-time.Second) && at < end {
				times = append(times, at)
			}
		}
		s.sent = append(s.sent, times)
	}
	sent := after[trace.RealOut] - before[trace.RealOut]
	s.use = int(sent * 100 / max(1, sent+after[trace.DummyOut]-before[trace.DummyOut]))
	return s
}

func regionsOf(l wire.Level) []string {
	if l == wire.High || l == wire.Extreme {
		return []string{"eu", "us", "ap"}
	}
	return nil
}

// joined appends a burst; what comes at one moment is one.
func joined(flow []attack.Burst, b attack.Burst) []attack.Burst {
	if n := len(flow); n > 0 && flow[n-1].At == b.At {
		flow[n-1].Packets += b.Packets
		return flow
	}
	return append(flow, b)
}

func realAndDummy(w *Network) (sum trace.Counts) {
	for _, u := range w.Users {
		for k, n := range u.Core().Stats() {
			sum[k] += n
		}
	}
	return sum
}

// pages is a person's traffic: now and then a few requests of several packets.
func pages(w *Network, u *User, i int, perSecond float64, begin, end machine.Time, answers *int) {
	rng := w.Sim.Rand("page sizes/" + u.Node.Name)
	w.Sim.At(begin, func(machine.Time) {
		w.Poisson("pages/"+u.Node.Name, perSecond, end, func(machine.Time, int) {
			for range 1 + rng.IntN(4) {
				body := make([]byte, 1+rng.IntN(4000))
				body[0] = byte(i)
				u.Ask("", body, func(_ machine.Time, _ []byte, err error) {
					if err == nil {
						*answers++
					}
				})
			}
		})
	})
}

// attacks judges the sights by every attacker there is.
func (s sights) attacks(length time.Duration, period time.Duration, p attack.Path) map[string]attack.Verdict {
	out := map[string]attack.Verdict{}
	// Bins of a second's tenth, in which any pattern of load shows, and bins
	// of no multiple of a period, in which that of slots does.
	for name, bin := range map[string]time.Duration{"coarse": 100 * time.Millisecond, "fine": 7 * time.Millisecond} {
		c := attack.Correlator{Begin: s.begin, End: s.begin.Add(length), Bin: bin, LagMax: 300 * time.Millisecond}
		seen, left := make([][]float64, len(s.sent)), make([][]float64, len(s.got))
		for i := range s.sent {
			seen[i], left[i] = c.Counts(s.sent[i]), c.Volumes(s.got[i])
		}
		out[name] = judge(attack.Matrix(len(seen), func(i, j int) float64 { return c.Score(seen[i], left[j]) }))
	}
	if p.Mixes > 0 {
		maps.Copy(out, s.precise(period, period, p))
	}
	return out
}

// precise are the attackers that use exact times, of what shaping leaves: of
// the slots, and of the clock behind them. sends is the period of the slots,
// takes that of the exit.
func (s sights) precise(sends, takes time.Duration, p attack.Path) map[string]attack.Verdict {
	ticks := make([][]machine.Time, len(s.sent))
	for i, sent := range s.sent {
		ticks[i] = attack.Ticks(sent, sends)
	}
	learnt := attack.Learnt(s.sent, s.got, max(takes/4, 4*time.Millisecond), p.Longest()+4*takes)
	out := map[string]attack.Verdict{
		"learnt": judge(learnt),
	}
	for name, of := range map[string][][]machine.Time{"slots": s.sent, "clock": ticks} {
		out["matched at once, "+name] = judge(p.Matched(of, s.got, time.Millisecond))
		out["matched by ticks, "+name] = judge(p.Matched(of, s.got, takes))
		out["clumps, "+name] = judge(attack.Clumps(of, s.got, takes))
	}
	return out
}

func judge(scores [][]float64) attack.Verdict {
	return attack.Judge(prng.FromUint64(1).Stream("resamples"), scores)
}

// worst is the attack with the greatest AUC.
func worst(t *testing.T, what string, attacks map[string]attack.Verdict) (most attack.Verdict) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(attacks)) {
		a := attacks[name]
		t.Logf("%s, %s: AUC %.3f (%.3f to %.3f), top-1 %.2f, TPR %.2f at FPR 0.001", what, name, a.AUC.Value, a.AUC.Low, a.AUC.High, a.Top1.Value, a.TPR.Value)
		if a.AUC.Value > most.AUC.Value {
			most = a
		}
	}
	return most
}

const (
	attackedFlows = 30
	attackedFor   = 12 * time.Second
	// gate is what a guess of 30 flows stays below: 0.5 and three standard
	// errors.
	gate = 0.65
)

func (a attacked) path() attack.Path {
	return attack.Path{Links: 55 * time.Millisecond, Mixes: a.level.Mixes(), Mean: a.level.MixDelay()}
}

func (a attacked) worst(t *testing.T) attack.Verdict {
	t.Helper()
	s := a.run(t)
	return worst(t, fmt.Sprintf("%v, class %d at %d %%, %d routes", a.level, a.class, s.use, a.routes), s.attacks(a.length, a.class.Period(), a.path()))
}

// The gate: what tells every flow at FAST is about as good as guessing on shaped
// routes, whether a user's load leaves the class nearly empty or fills it to
// what classes are steered to.
func TestFlowCorrelation(t *testing.T) {
	control := attacked{wire.Fast, pinned, 1, attackedFlows, attackedFor, 1}.worst(t)
	if control.AUC.Value < 0.99 || control.Top1.Value < 0.9 {
		t.Errorf("control: the attack does not find unshaped flows: %+v", control)
	}
	for _, a := range []attacked{
		{wire.Standard, 20, 1, attackedFlows, 2 * attackedFor, 1},
		{wire.Standard, 20, 2.6, attackedFlows, 2 * attackedFor, 1},
		{wire.Standard, 50, 1, attackedFlows, 2 * attackedFor, 1},
		{wire.Standard, 50, 7, attackedFlows, attackedFor, 1},
		{wire.Standard, 100, 1, attackedFlows, attackedFor, 1},
		{wire.Standard, 100, 14.2, attackedFlows, attackedFor, 1},
		{wire.Standard, 100, 1, attackedFlows, attackedFor, 2}, // data spreads over both
		{wire.Standard, 100, 14.2, attackedFlows, attackedFor, 2},
		{wire.High, 100, 7, attackedFlows, attackedFor, 2},
	} {
		if got := a.worst(t); got.AUC.Value > gate || got.Top1.Value > 0.2 {
			t.Errorf("flows of one class are told apart: %+v", got)
		}
	}
}

// schedule is how a modelled client sends.
type schedule int

const (
	held    schedule = iota // at a moment drawn in each period, the cell held until the period's end
	unheld                  // the same, the cell not held
	regular                 // by a clock
	poisson
)

// modelled are flows without a network around them, by which the attackers and
// what each protection does can be tried over long times: a client's slots, of
// which use are real; the delays of a path; and an exit that takes in by ticks
// of its own clock, or (takes 0) at once; and there a pool.
func modelled(slots obfs.Class, by schedule, takes obfs.Class, pool bool, use float64, length time.Duration, flows int, p attack.Path) (s sights) {
	period := slots.Period()
	for i := range flows {
		rng := prng.FromUint64(1).Child(fmt.Sprint("flow ", i)).Stream("all")
		slot := machine.Time(rng.Uint64N(uint64(period)))
		phase := machine.Time(rng.Uint64N(uint64(time.Second)))
		var sent, came []machine.Time
		for slot < machine.Time(length) {
			at := slot // when the cell is sent
			if by == held || by == unheld {
				at = at.Add(time.Duration(rng.Uint64N(uint64(period))))
			}
			leaves := at // from where it is held
			if by == held {
				leaves = slot.Add(period)
			}
			sent = append(sent, at)
			if float64(rng.Uint64N(1000)) < 1000*use {
				d := p.Links
				for range p.Mixes {
					d += rng.Exp(p.Mean)
				}
				came = append(came, leaves.Add(d))
			}
			gap := period
			if by == poisson {
				gap = rng.Exp(gap)
			}
			slot = slot.Add(gap)
		}
		for k, at := range came {
			if takes != 0 {
				period := machine.Time(takes.Period())
				at += period - (at+phase)%period
				for pool && rng.Chance(500_000) {
					at += period
				}
			}
			came[k] = at
		}
		slices.Sort(came)
		var got []attack.Burst
		for _, at := range came {
			got = joined(got, attack.Burst{At: at, Packets: 1})
		}
		s.sent, s.got = append(s.sent, sent), append(s.got, got)
	}
	return s
}

// One cell in each period, which is held to its end, an exit that takes
// in by its own clock, and in low classes the pool are needed all: without one
// of them, the attackers find flows out. Regular slots do as well here; why
// they are not used, obfs.TestSpreadHidesLateness shows.
func TestEachProtectionIsNeeded(t *testing.T) {
	p := attacked{level: wire.Standard}.path()
	for _, m := range []struct {
		what  string
		class obfs.Class
		by    schedule
		takes obfs.Class
		pool  bool
		found bool
	}{
		{"neither", 20, poisson, 0, false, true},
		{"Poisson slots", 20, poisson, 20, true, true},
		{"without the hold", 20, unheld, 20, true, true},
		{"without the exit's clock", 20, held, 0, false, true},
		{"neither", 100, poisson, 0, false, true},
		{"Poisson slots", 100, poisson, 100, false, true},
		{"without the hold", 50, unheld, 50, true, true},
		{"without the hold", 100, unheld, 100, false, true},
		{"without the pool", 20, held, 20, false, true},
		{"regular", 20, regular, 20, true, false},
		{"all", 20, held, 20, true, false},
		{"all", 50, held, 50, true, false},
		{"all", 100, held, 100, false, false},
		{"all, unequal classes", 200, held, 100, false, false},
	} {
		period := m.class.Period()
		length := 1500 * period
		if m.takes != 0 {
			period = m.takes.Period()
		}
		s := modelled(m.class, m.by, m.takes, m.pool, 0.7, length, attackedFlows, p)
		a := worst(t, fmt.Sprintf("class %d, %s", m.class, m.what), s.precise(m.class.Period(), period, p))
		if found := a.AUC.Value > gate; found != m.found {
			t.Errorf("class %d, %s: AUC %.2f", m.class, m.what, a.AUC.Value)
		}
	}
}

// In the network itself: when a cell comes to the exit does not depend on the
// moment, drawn, at which its client sent it. In the lowest class periods are
// long enough for each cell to be followed.
func TestTheDrawnMomentEndsAtTheFirstMix(t *testing.T) {
	const class obfs.Class = 5
	w, err := bareRun(1).NewNetwork(Plan{Streams: 4, Mixes: 6, Level: wire.Standard, Hop: sim.Link{Latency: 10 * time.Millisecond},
		Gateway: func(c *gateway.Config) { c.Class = class },
		Client:  func(c *client.Config) { c.RoutesPerSession, c.Ahead, c.Class = 1, -1, class }})
	if err != nil {
		t.Fatal(err)
	}
	w.AddUsers(1)
	w.Sim.RunFor(5 * time.Second)
	sent := w.Sim.Tap(w.Users[0].Node.Addr(), netip.AddrPort{}, sim.Departure)
	came := map[netip.AddrPort]*sim.View{}
	for _, g := range w.Gateways {
		came[g.Node.Addr()] = w.Sim.Tap(netip.AddrPort{}, g.Node.Addr(), sim.Arrival)
	}
	w.Sim.RunFor(400 * time.Second)
	delete(came, sent.At(0).To) // the entry
	var slots, arrivals []machine.Time
	for i := range sent.Len() {
		slots = append(slots, sent.At(i).At)
	}
	for _, v := range came {
		for i := range v.Len() {
			arrivals = append(arrivals, v.At(i).At)
		}
	}
	slices.Sort(arrivals)
	// Cells come in the order in which they were sent, the first at least so much later.
	least := obfs.PolicyOf(wire.Standard).Reserve + 40*time.Millisecond
	first, _ := slices.BinarySearch(arrivals, slots[0].Add(least))
	arrivals = arrivals[first:]
	ticks := attack.Ticks(slots, class.Period())
	// From cell to cell, since the shift of the first mix wanders.
	var n, x, y, xx, xy float64
	for i := 1; i < min(len(slots), len(arrivals)); i++ {
		drawn := (slots[i].Sub(ticks[i]) - slots[i-1].Sub(ticks[i-1])).Seconds()
		took := (arrivals[i].Sub(ticks[i]) - arrivals[i-1].Sub(ticks[i-1])).Seconds()
		if math.Abs(took) > class.Period().Seconds() {
			continue
		}
		n, x, y, xx, xy = n+1, x+drawn, y+took, xx+drawn*drawn, xy+drawn*took
	}
	slope := (xy - x*y/n) / (xx - x*x/n)
	t.Logf("%.0f of %d cells: a cell comes later by %.2f of what it is sent later", n, len(slots), slope)
	if n < 1900 || math.Abs(slope) > 0.4 {
		t.Errorf("of %.0f cells, each comes later by %.2f of what it is sent later", n, slope)
	}
}
