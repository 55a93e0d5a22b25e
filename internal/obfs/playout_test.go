package obfs

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// sender is a route as its end sees it: cells of a shaper's slots, each of which
// comes after the links and what mixes drew.
type sender struct {
	level   wire.Level
	class   Class
	seed    uint64        // of the delays
	bounded bool          // draws beyond the level's bound are made again
	ppm     int64         // by which the client's clock is fast
	sleeps  time.Duration // for which it stands still half way
	missing func(n int) bool
	length  time.Duration
}

type arrival struct {
	at    machine.Time
	place uint32
	n     uint32 // the counter
}

func (s sender) arrivals() (out []arrival) {
	shaper := NewShaper(PolicyOf(s.level).Pinned(s.class), prng.FromUint64(7), 0)
	delays := prng.FromUint64(s.seed).Stream("delays")
	for n := 0; shaper.NextSlot() < machine.Time(s.length); n++ {
		slot := shaper.NextSlot()
		shaper.Take(slot)
		if s.missing != nil && s.missing(n) {
			continue
		}
		at := slot.Add(-time.Duration(int64(slot) / 1_000_000 * s.ppm)).Add(40*time.Millisecond + delayed(delays, s.level, s.bounded))
		if slot > machine.Time(s.length/2) {
			at = at.Add(s.sleeps)
		}
		out = append(out, arrival{at, shaper.Place(), uint32(3 * n)})
	}
	slices.SortFunc(out, func(a, b arrival) int { return int(a.at - b.at) })
	return out
}

func delayed(rng *prng.Stream, l wire.Level, bounded bool) time.Duration {
	for {
		var sum time.Duration
		for range l.Mixes() {
			sum += rng.Exp(l.MixDelay())
		}
		if !bounded || sum <= l.PathDelayMax() {
			return sum
		}
	}
}

// played is which cells are handed over at each tick of an end's clock.
func played(l wire.Level, cells []arrival) (ticks [][]arrival, p *Playout) {
	p = NewPlayout(PolicyOf(l))
	frames := map[*wire.Frame]arrival{}
	period := p.period
	for tick := machine.Time(3 * time.Millisecond); len(cells) > 0 || len(p.heap) > 0; tick = tick.Add(period) {
		for ; len(cells) > 0 && cells[0].at <= tick; cells = cells[1:] {
			p.Arrived(cells[0].at, cells[0].place)
			f := &wire.Frame{}
			frames[f] = cells[0]
			p.Push(cells[0].at, cells[0].place, cells[0].n, f)
		}
		p.Tick(tick)
		var out []arrival
		for f := p.Pop(); f != nil; f = p.Pop() {
			out = append(out, frames[f])
		}
		ticks = append(ticks, out)
	}
	return ticks, p
}

// uneven is how many ticks do not have the cells of one place, all of them and in
// their order, and how often the place before them was not that before, after the
// first 6 s.
func uneven(ticks [][]arrival, perPlace int) (wrong, moves int) {
	var last uint32
	for k, cells := range ticks {
		if k < 600 || k > len(ticks)-100 {
			if len(cells) > 0 {
				last = cells[len(cells)-1].place
			}
			continue
		}
		if len(cells) != perPlace || cells[0].place != cells[len(cells)-1].place ||
			!slices.IsSortedFunc(cells, func(a, b arrival) int { return int(a.n) - int(b.n) }) {
			wrong++
			continue
		}
		if cells[0].place != last+1 {
			moves++
		}
		last = cells[0].place
	}
	return wrong, moves
}

// Whatever mixes draw, a tick has the cells of one place, and the next tick those
// of the next. Controls: unbounded delays are late now and then, and cells that are
// taken in as they come make clumps.
func TestPlayoutGivesBackThePaceOfSlots(t *testing.T) {
	for _, l := range []wire.Level{wire.High, wire.Extreme} {
		for _, class := range []Class{100, 500} {
			perPlace, without, all := int(class/100), 0, 0
			var late uint64
			for seed := uint64(1); seed <= 3; seed++ {
				s := sender{level: l, class: class, seed: seed, bounded: true, length: time.Minute}
				ticks, p := played(l, s.arrivals())
				if wrong, moves := uneven(ticks, perPlace); wrong > 0 || moves > 1 {
					t.Errorf("%v, class %d: %d of %d ticks are uneven, the pace moved %d times", l, class, wrong, len(ticks), moves)
				}
				if p.Late > 20 { // while it settles
					t.Errorf("%v, class %d: %d cells were late", l, class, p.Late)
				}
				s.bounded = false
				ticks, p = played(l, s.arrivals())
				wrong, _ := uneven(ticks, perPlace)
				without, all, late = without+wrong, all+len(ticks)*perPlace, late+p.Late
			}
			if share := float64(late) / float64(all); without < 3 || share > 2e-3 {
				t.Errorf("%v, class %d, no bound: %d ticks are uneven, %.5f of all cells late", l, class, without, share)
			} else {
				t.Logf("%v, class %d, no bound: %d ticks are uneven, %.5f of all cells late", l, class, without, share)
			}
		}
		cells := sender{level: l, class: 100, seed: 1, length: time.Minute}.arrivals()
		var ticks [][]arrival
		for tick := machine.Time(0); len(cells) > 0; tick = tick.Add(10 * time.Millisecond) {
			n := 0
			for n < len(cells) && cells[n].at <= tick {
				n++
			}
			ticks, cells = append(ticks, cells[:n]), cells[n:]
		}
		if wrong, _ := uneven(ticks, 1); wrong < len(ticks)/2 {
			t.Errorf("control: without playout %d of %d ticks are uneven at %v", wrong, len(ticks), l)
		}
	}
}

// A cell that is lost leaves its own place empty, and no other place moves.
func TestPlayoutKeepsThePlaceOfALostCell(t *testing.T) {
	lost := func(n int) bool { return n%200 == 77 }
	ticks, p := played(wire.High, sender{level: wire.High, class: 100, seed: 1, bounded: true, missing: lost, length: time.Minute}.arrivals())
	wrong, moves := uneven(ticks, 1)
	if wrong < 25 || wrong > 29 || moves != wrong || p.Late > 20 {
		t.Errorf("27 or so cells are missing: %d ticks are empty, %d others moved, %d cells were late", wrong, moves-wrong, p.Late)
	}
}

// A clock that is wrong is followed by whole places, as seldom as it takes; one
// that stood still is taken as it is then.
func TestPlayoutFollowsClocks(t *testing.T) {
	for _, ppm := range []int64{-100, 100} {
		ticks, p := played(wire.High, sender{level: wire.High, class: 100, seed: 2, bounded: true, ppm: ppm, length: 10 * time.Minute}.arrivals())
		wrong, moves := uneven(ticks, 1)
		if steps := wrong + moves; steps < 3 || steps > 14 || p.Late > 20 {
			t.Errorf("%d ppm in 10 min, 6 places: %d ticks are uneven, the pace moved %d times, %d cells were late", ppm, wrong, moves, p.Late)
		}
	}
	for _, sleeps := range []time.Duration{2 * time.Second, time.Minute} {
		ticks, p := played(wire.High, sender{level: wire.High, class: 100, seed: 2, bounded: true, sleeps: sleeps, length: 4 * time.Minute}.arrivals())
		if wrong, _ := uneven(ticks[len(ticks)-3000:], 1); wrong > 0 {
			t.Errorf("a rest of %v: %d of the last 3000 ticks are uneven, %d late", sleeps, wrong, p.Late)
		}
	}
}

// What waits is bounded, and costs no allocation once there was as much.
func TestPlayoutIsBounded(t *testing.T) {
	p := NewPlayout(PolicyOf(wire.High))
	frames := make([]wire.Frame, 2*playoutMax)
	base, refused := uint32(0), 0
	round := func() {
		kept := 0
		now := machine.Time(base) * machine.Time(10*time.Millisecond)
		for i := range frames {
			p.Arrived(now, base+1)
			if p.Push(now, base+1, uint32(i), &frames[i]) {
				kept++
			} else {
				refused++
			}
		}
		for range 2000 {
			now = now.Add(10 * time.Millisecond)
			p.Tick(now)
			for p.Pop() != nil {
				kept--
			}
		}
		if kept != 0 {
			t.Fatalf("%d cells more came than went", kept)
		}
		base += 3000
	}
	if n := testing.AllocsPerRun(5, round); n != 0 {
		t.Errorf("%.1f allocations", n)
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	p.Push(0, 1, 1, &frames[0])
	if p.Drain() == nil || p.Drain() != nil {
		t.Error("a drain yields what waits, and then nothing")
	}
}

// A cell that claims a place far ahead, or one place for all, holds nothing up for
// longer than the depth and a lapse.
func TestAFarPlaceHoldsUpNothing(t *testing.T) {
	for _, place := range []func(i int) uint32{
		func(i int) uint32 {
			if i == 200 {
				return 1<<24 - 1
			}
			return uint32(i + 1)
		},
		func(int) uint32 { return 5 },
	} {
		p := NewPlayout(PolicyOf(wire.High))
		var f wire.Frame
		now, longest, waiting := machine.Time(0), 0, 0
		for i := range 3000 {
			now = now.Add(10 * time.Millisecond)
			p.Arrived(now, place(i))
			if p.Push(now, place(i), uint32(i), &f) {
				waiting++
			}
			p.Tick(now)
			for p.Pop() != nil {
				waiting--
			}
			longest = max(longest, waiting)
		}
		if most := int((p.depth+lapse)/p.period) + 2; longest > most {
			t.Errorf("%d cells waited, %d at most may", longest, most)
		}
	}
}

// Every place has as many slots as the class is a multiple of the floor, whatever
// the class, the phase and a plan.
func TestPlacesHoldTheSlotsOfTheirPeriod(t *testing.T) {
	plans := &Plans{Unchecked: true}
	r := plans.Region("eu")
	for _, profile := range []wire.Profile{wire.ProfileFull, wire.ProfileMobile, wire.ProfileLow} {
		for i, c := range Classes {
			p := PolicyOf(wire.High).For(profile)
			if c < p.Floor || c > p.Ceiling {
				continue
			}
			for _, rate := range []uint16{uint16(c), 3 * uint16(p.Grid)} {
				if rate != uint16(c) && c == p.Floor {
					continue
				}
				r.rates[i] = rate
				q := p.In(r)
				q.Floor, q.Ceiling = c, c // as after a move
				s := NewShaper(q, prng.FromUint64(uint64(rate)), 12345)
				count := map[uint32]int{}
				for s.NextSlot() < machine.Time(100*p.Grid.Period()) {
					s.Take(s.NextSlot())
					count[s.Place()]++
				}
				for place := uint32(2); place < 90; place++ {
					if count[place] != int(rate)/int(p.Grid) {
						t.Fatalf("rate %d: place %d has %d slots", rate, place, count[place])
					}
				}
			}
		}
	}
	if s := NewShaper(PolicyOf(wire.Standard), prng.FromUint64(1), 0); s.Place() != 0 || NewPlayout(PolicyOf(wire.Standard)) != nil {
		t.Error("STANDARD has places")
	}
}

// One draw in a thousand is beyond the bound of a level.
func TestTheBoundOfDelaysIsOneInAThousand(t *testing.T) {
	for _, l := range []wire.Level{wire.High, wire.Extreme} {
		x, term, sum := float64(l.PathDelayMax())/float64(l.MixDelay()), 1.0, 1.0
		for k := 1; k < l.Mixes(); k++ {
			term *= x / float64(k)
			sum += term
		}
		if beyond := math.Exp(-x) * sum; beyond < 0.9e-3 || beyond > 1.02e-3 {
			t.Errorf("%v: %.5f of the sums are beyond %v", l, beyond, l.PathDelayMax())
		}
	}
}
