package anonymity

import (
	"cmp"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/lab/attack"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// View is where an adversary stands.
type View string

// Views.
const (
	// Wires sees time and direction of every datagram at a client's link, and
	// what leaves for each target and comes from it.
	Wires View = "every wire"
	// Ends has each entry and each exit: routes are told apart there, and counters
	// are read. Which session an exit's route belongs to it knows.
	Ends View = "entry and exit"
	// Mix has the middle one of each path's mixes, and sees every wire. A client's
	// routes are told apart on the wires behind its entry, which delays nothing.
	Mix View = "one mix"
)

// Views are all of them.
var Views = []View{Wires, Ends, Mix}

// scored is what one attacker makes of a run.
type scored struct {
	view     View
	attacker string
	scores   [][]float64
}

// attackAll has every attacker at it.
func (v *views) attackAll() []scored {
	return slices.Concat(v.fromWires(), v.fromEnds(), v.fromMix())
}

// Bins of what is counted.
const (
	coarseBin = 100 * time.Millisecond // in which any pattern of load shows
	fineBin   = 23 * time.Millisecond  // of no multiple of a period, in which that of slots does
	classBin  = 500 * time.Millisecond
	// classMemory is how many bins a review looks back on, as far as flows are long.
	classMemory = 4
	// learntSteps bound what is learnt: few flows teach little about many.
	learntSteps = 50
	stepMax     = 3 // of counters (docs/protocol.md, section 6.2)
)

func (v *views) correlator(bin time.Duration) attack.Correlator {
	return attack.Correlator{Begin: v.begin, End: v.end, Bin: bin, LagMax: max(3*bin, v.path().Longest())}
}

// correlate scores by counts in bins: each of a against each of b, later by a lag.
func correlate(c attack.Correlator, a, b [][]float64, transposed bool) [][]float64 {
	return attack.Matrix(len(a), func(i, j int) float64 {
		if transposed {
			i, j = j, i
		}
		return c.Score(a[i], b[j])
	})
}

func all[T any](flows [][]T, counts func([]T) []float64) [][]float64 {
	out := make([][]float64, len(flows))
	for i := range flows {
		out[i] = counts(flows[i])
	}
	return out
}

func (v *views) fromWires() []scored {
	coarse, fine, class := v.correlator(coarseBin), v.correlator(fineBin), v.correlator(classBin)
	p, slot := v.path(), period(v.level)
	reach := p.Longest() + 2*slot
	return []scored{
		{Wires, "volume out", correlate(coarse, all(v.out, coarse.Counts), all(v.up, coarse.Volumes), false)},
		{Wires, "volume back", correlate(coarse, all(v.down, coarse.Volumes), all(v.in, coarse.Counts), true)},
		{Wires, "fine volume", correlate(fine, all(v.out, fine.Counts), all(v.up, fine.Volumes), false)},
		{Wires, "matched filter", p.Matched(v.out, v.up, slot)},
		{Wires, "learnt filter", attack.Learnt(v.out, v.up, max(5*time.Millisecond, reach/learntSteps), reach)},
		{Wires, "moves of class", attack.Classes(
			[2][][]float64{all(v.out, class.Counts), all(v.in, class.Counts)},
			[2][][]float64{all(v.up, class.Volumes), all(v.down, class.Volumes)}, classMemory)},
		{Wires, "losses", attack.Learnt(v.lost, v.up, 40*time.Millisecond, p.Longest()+time.Second)},
	}
}

func (v *views) fromEnds() []scored {
	coarse := v.correlator(coarseBin)
	entry, exit := all(v.at(0), coarse.Counts), all(v.at(v.level.Hops()-1), coarse.Counts)
	return []scored{
		{Ends, "volume of routes", correlate(coarse, entry, exit, false)},
		{Ends, "rates of routes", v.rates(0, v.level.Hops()-1)},
		{Ends, "phases", v.phases(v.level.Hops()-1, false)},
		{Ends, "counted phases", v.phases(v.level.Hops()-1, true)},
		{Ends, "counted back", v.phasesBack()},
		{Ends, "losses", v.losses(v.level.Hops() - 1)},
		{Ends, "cells sent again", v.late(v.level.Hops() - 1)},
	}
}

// Attackers that link one end to a mix: the client's, and the target's by when cells
// come, by a filter that is learnt, by cells that come too late to be played out
// evenly, and by those that are missing.
const (
	clientToMix  = "client to mix"
	mixToTarget  = "mix to target"
	mixLearnt    = "mix to target, learnt"
	mixToLate    = "mix to target, late cells"
	mixToMissing = "mix to target, missing cells"
)

func (v *views) fromMix() []scored {
	middle := (v.level.Hops() - 1) / 2 // its position
	first := attack.Sum(v.phases(middle, false), v.phases(middle, true), v.rates(0, middle), v.losses(middle))
	// What leaves the mix is seen when it comes to the next hop.
	behind := v.level.Mixes() - middle
	rest := pathOf(v.level, behind)
	rest.Links -= linkLatency + linkJitter
	came, tick, depth := v.at(middle+1), period(v.level), obfs.PolicyOf(v.level).Depth
	second := rest.Matched(came, v.up, tick)
	reach := rest.Longest() + depth + 2*tick
	scores := []scored{
		{Mix, clientToMix, first},
		{Mix, mixToTarget, second},
		{Mix, mixLearnt, attack.Learnt(came, v.up, max(5*time.Millisecond, reach/learntSteps), reach)},
		{Mix, mixToMissing, attack.Learnt(v.missingAt(middle+1), v.up, max(tick, reach/learntSteps), reach)},
		{Mix, "through the mix", attack.Through(first, second)},
		{Mix, "cells sent again", v.late(middle)},
	}
	if depth > 0 {
		scores = append(scores, scored{Mix, mixToLate, rest.Late(v.ordered(middle+1), v.up, depth, tick)})
	}
	return scores
}

// at are the cells of each client's routes as they come to the hops of a position.
func (v *views) at(position int) [][]machine.Time {
	out := make([][]machine.Time, len(v.routes))
	for i, routes := range v.routes {
		for _, r := range routes {
			if position < len(r.hops) {
				for _, c := range r.hops[position] {
					out[i] = append(out[i], c.At)
				}
			}
		}
		slices.Sort(out[i])
	}
	return out
}

// ordered are the cells of each client's routes at the hops of a position, in the
// order in which they were sent.
func (v *views) ordered(position int) [][][]attack.Cell {
	out := make([][][]attack.Cell, len(v.routes))
	for i, routes := range v.routes {
		for _, r := range routes {
			if position < len(r.hops) {
				out[i] = append(out[i], inOrder(r.hops[position]))
			}
		}
	}
	return out
}

// missingAt are the times at which cells of each client's routes are missing there.
func (v *views) missingAt(position int) [][]machine.Time {
	out := make([][]machine.Time, len(v.routes))
	for i, routes := range v.routes {
		for _, r := range routes {
			if position < len(r.hops) {
				out[i] = append(out[i], v.gaps(r.hops[position])...)
			}
		}
		slices.Sort(out[i])
	}
	return out
}

// rates compares the cells of a client's routes at one hop and at another.
func (v *views) rates(first, second int) [][]float64 {
	c := v.correlator(coarseBin)
	return attack.Rates(all(v.at(first), c.Counts), all(v.at(second), c.Counts), int(c.LagMax/c.Bin))
}

// phases compares the clocks of a client's routes at its entry with what is left of
// them at a hop, while they are in the class in which they began: in the moments of
// cells, or in their number.
func (v *views) phases(position int, counted bool) [][]float64 {
	floor := obfs.PolicyOf(v.level).Floor
	if floor == 0 {
		return attack.Matrix(len(v.routes), func(int, int) float64 { return 0 })
	}
	mark := attack.Phase
	if counted {
		mark = func(times []machine.Time, period time.Duration) attack.Rotor {
			return attack.Counted(times, period, v.countFor(position, period))
		}
	}
	entry, hop := make([][]attack.Rotor, len(v.routes)), make([][]attack.Rotor, len(v.routes))
	for i, routes := range v.routes {
		for _, r := range routes {
			var a, b attack.Rotor
			if position < len(r.hops) {
				sent := timesOf(r.hops[0])
				until := inClass(sent, floor.Period())
				came := timesOf(r.hops[position])
				end, _ := slices.BinarySearch(came, until)
				if clock, ok := attack.Clock(sent[:steadyOf(sent, until)], floor.Period()); ok {
					a, b = clock, mark(came[:end], floor.Period())
				}
			}
			entry[i], hop[i] = append(entry[i], a), append(hop[i], b)
		}
	}
	return attack.Phases(entry, hop)
}

// phasesBack compares the clocks of exits, as the last mixes see them, with what is
// left of them in the cells that come back to entries.
func (v *views) phasesBack() [][]float64 {
	floor, last := obfs.PolicyOf(v.level).Floor, v.level.Mixes()
	if floor == 0 {
		return attack.Matrix(len(v.routes), func(int, int) float64 { return 0 })
	}
	at := func(r *route, position int) (clock attack.Rotor) {
		if len(r.back) > last {
			sent, came := timesOf(r.back[last]), timesOf(r.back[position])
			end, _ := slices.BinarySearch(came, inClass(sent, floor.Period()))
			clock = attack.Counted(came[:end], floor.Period(), v.countFor(last+1, floor.Period()))
		}
		return clock
	}
	entry, exit := make([][]attack.Rotor, len(v.routes)), make([][]attack.Rotor, len(v.routes))
	for i, routes := range v.routes {
		for _, r := range routes {
			entry[i], exit[i] = append(entry[i], at(r, 0)), append(exit[i], at(r, last))
		}
	}
	return attack.Phases(entry, exit)
}

// countFor is of how many cells a phase is read at a hop: so many that their
// scatter is a sixth of a period in the mean, or all that there are.
func (v *views) countFor(position int, period time.Duration) int {
	mixes := min(position-1, v.level.Mixes())
	n := 36 * mixes * int(v.level.MixDelay()/time.Millisecond) * int(v.level.MixDelay()/time.Millisecond) /
		int(period/time.Millisecond*period/time.Millisecond)
	return max(1, min(n, int(v.end.Sub(v.begin)/period)*9/10))
}

// inClass is until when a route keeps the rate of a period, to the second.
func inClass(sent []machine.Time, period time.Duration) machine.Time {
	if len(sent) == 0 {
		return 0
	}
	perSecond := int(time.Second / period)
	for k := perSecond; k < len(sent); k += perSecond {
		if took := sent[k].Sub(sent[k-perSecond]); took < 9*time.Second/10 || took > 11*time.Second/10 {
			return sent[k-perSecond]
		}
	}
	return sent[len(sent)-1]
}

func steadyOf(sent []machine.Time, until machine.Time) int {
	n, _ := slices.BinarySearch(sent, until)
	return n
}

// losses compares what was lost on a client's link, which its entry knows to the
// datagram, with which cells are missing at a hop.
func (v *views) losses(position int) [][]float64 {
	lost, seen := make([][]machine.Time, len(v.routes)), make([][]attack.Burst, len(v.routes))
	for i, routes := range v.routes {
		for _, at := range v.lost[i] {
			lost[i] = append(lost[i], at.Add(linkLatency))
		}
		for _, r := range routes {
			if position < len(r.hops) {
				for _, at := range v.gaps(r.hops[position]) {
					seen[i] = append(seen[i], attack.Burst{At: at, Packets: 1})
				}
			}
		}
		slices.SortFunc(seen[i], func(a, b attack.Burst) int { return cmp.Compare(a.At, b.At) })
	}
	return v.before(position).Matched(lost, seen, 2*period(wire.Standard))
}

// before is the path from a client to a hop, whose own delay has not begun.
func (v *views) before(position int) attack.Path { return v.after(max(1, position-1)) }

// late compares when a client sent cells again, as its entry knows, with how late
// cells come to a hop.
func (v *views) late(position int) [][]float64 {
	again, came := make([][]machine.Time, len(v.routes)), make([][]attack.Delayed, len(v.routes))
	for i, routes := range v.routes {
		for _, r := range routes {
			if position >= len(r.hops) {
				continue
			}
			for _, c := range r.hops[0] {
				if c.Late > 0 {
					again[i] = append(again[i], c.At)
				}
			}
			came[i] = append(came[i], attack.Delays(inOrder(r.hops[position]))...)
		}
		slices.Sort(again[i])
	}
	const step = 5 * time.Millisecond
	reach := v.before(position).Longest()
	return attack.Late(again, came, max(step, reach/learntSteps), reach)
}

// inOrder are cells in the order of their counters.
func inOrder(cells []attack.Cell) []attack.Cell {
	return slices.SortedFunc(slices.Values(cells), func(a, b attack.Cell) int { return cmp.Compare(a.Counter, b.Counter) })
}

// gaps are where cells are missing, but for the edges of what was noted, where they
// only come in another order.
func (v *views) gaps(cells []attack.Cell) []machine.Time {
	return slices.DeleteFunc(attack.Gaps(inOrder(cells), stepMax), func(at machine.Time) bool {
		return at < v.begin.Add(time.Second) || at >= v.end
	})
}

func timesOf(cells []attack.Cell) []machine.Time {
	out := make([]machine.Time, len(cells))
	for k, c := range cells {
		out[k] = c.At
	}
	slices.Sort(out)
	return out
}
