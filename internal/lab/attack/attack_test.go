package attack

import (
	"fmt"
	"math"
	"math/cmplx"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

const (
	flows  = 40
	period = 10 * time.Millisecond
)

func stream(label string) *prng.Stream { return prng.FromUint64(1).Stream(label) }

// expect judges scores that must find true pairs, or that must not: at chance the
// interval has to hold 0.5, as it does 19 times in 20 for each of these seeds.
func expect(t *testing.T, what string, found bool, scores [][]float64) {
	t.Helper()
	v := Judge(stream("judge"), scores)
	t.Logf("%s: AUC %.3f (%.3f to %.3f), top-1 %.2f, TPR %.2f", what, v.AUC.Value, v.AUC.Low, v.AUC.High, v.Top1.Value, v.TPR.Value)
	if found && v.AUC.Value < 0.9 {
		t.Errorf("%s: AUC %.3f where the pairs can be told", what, v.AUC.Value)
	}
	if !found && (v.AUC.Low > 0.5 || v.AUC.High < 0.5) {
		t.Errorf("%s: AUC %.3f to %.3f where nothing is to be told", what, v.AUC.Low, v.AUC.High)
	}
}

func TestJudgeKnowsTheExtremes(t *testing.T) {
	n := 20
	perfect := Matrix(n, func(i, j int) float64 {
		if i == j {
			return 1
		}
		return 0
	})
	blind := Matrix(n, func(int, int) float64 { return 0 })
	for _, runs := range [][][][]float64{{perfect}, {perfect, perfect}} {
		if v := Judge(stream("judge"), runs...); v.AUC != (Figure{1, 1, 1}) || v.Top1.Value != 1 || v.TPR.Value != 1 || v.Flows != n*len(runs) {
			t.Errorf("perfect: %+v", v)
		}
	}
	v := Judge(stream("judge"), blind)
	if v.AUC != (Figure{0.5, 0.5, 0.5}) || v.TPR.Value != 0 || v.Top1.Value != 0 {
		t.Errorf("blind: %+v", v)
	}
	if v.TPR.High < 0.1 {
		t.Errorf("none of %d found is said to be at most %.2f of all", n, v.TPR.High)
	}
}

// Intervals of guesses hold the truth about as often as they say.
func TestIntervalsHoldTheTruth(t *testing.T) {
	const trials = 60
	held := 0
	for k := range trials {
		rng := stream(fmt.Sprint("guess ", k))
		v := Judge(rng, Matrix(flows, func(int, int) float64 { return float64(rng.Uint32()) }))
		if v.AUC.Low <= 0.5 && 0.5 <= v.AUC.High {
			held++
		}
	}
	if held < trials*85/100 {
		t.Errorf("%d of %d intervals hold 0.5", held, trials)
	}
}

func TestCorrelatorFindsAShiftedCopy(t *testing.T) {
	c := Correlator{End: machine.Time(4 * time.Second), Bin: time.Second, LagMax: 2 * time.Second}
	if s := c.Score([]float64{1, 2, 3, 4, 0, 0}, []float64{9, 0, 1, 2, 3, 4}); math.Abs(s-1) > 1e-9 {
		t.Errorf("a shifted copy scores %v", s)
	}
	if pearson([]float64{1, 1}, []float64{1, 2}) != 0 {
		t.Error("a constant correlates")
	}
	got := c.Volumes([]Burst{{machine.Time(1500 * time.Millisecond), 3}})
	if want := []float64{0, 3, 0, 0, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("volumes %v", got)
	}
}

// route is a client's slots, one at a drawn moment of each period, and their cells
// at a hop behind mixes of a mean: from the slots, or from no client's.
func route(i, slots int, mixes int, mean time.Duration, own bool) (sent, came []machine.Time) {
	rng := stream(fmt.Sprint("route ", i))
	phase := machine.Time(rng.Uint64N(uint64(period)))
	other := machine.Time(rng.Uint64N(uint64(period)))
	for k := range slots {
		tick := phase.Add(time.Duration(k) * period)
		sent = append(sent, tick.Add(time.Duration(rng.Uint64N(uint64(period)))))
		at := tick.Add(period)
		if !own {
			at += other - phase
		}
		for range mixes {
			at = at.Add(rng.Exp(mean))
		}
		came = append(came, at.Add(40*time.Millisecond))
	}
	return sent, came
}

// A mix of 10 ms leaves a clock of 10 ms to be seen behind it; two of 40 ms do not.
// Who counts cells sees it behind three of 20 ms.
func TestPhasesSeeAClock(t *testing.T) {
	for _, c := range []struct {
		what   string
		mixes  int
		mean   time.Duration
		own    bool
		slots  int
		window int // of cells that are counted; 0: their moments are used
		expect bool
	}{
		{"one mix of 10 ms", 1, 10 * time.Millisecond, true, 2000, 0, true},
		{"the same, of another client", 1, 10 * time.Millisecond, false, 2000, 0, false},
		{"two mixes of 40 ms", 2, 40 * time.Millisecond, true, 2000, 0, false},
		{"three mixes of 20 ms", 3, 20 * time.Millisecond, true, 4000, 0, false},
		{"three mixes of 20 ms, counted", 3, 20 * time.Millisecond, true, 4000, 441, true},
		{"the same, of another client", 3, 20 * time.Millisecond, false, 4000, 441, false},
	} {
		entry, hop := make([][]Rotor, flows), make([][]Rotor, flows)
		for i := range flows {
			for r := range 2 {
				sent, came := route(2*i+r, c.slots, c.mixes, c.mean, c.own)
				clock, ok := Clock(slices.Delete(sent, 500, 501), period) // one is lost
				if !ok {
					t.Fatal("the slots of a clock fit into none")
				}
				behind := Phase(came, period)
				if slices.Sort(came); c.window > 0 {
					behind = Counted(came, period, c.window)
				}
				entry[i], hop[i] = append(entry[i], clock), append(hop[i], behind)
			}
		}
		expect(t, c.what, c.expect, Phases(entry, hop))
	}
}

func TestClockFindsWherePeriodsBegin(t *testing.T) {
	sent, _ := route(1, 1000, 0, 0, true)
	sent = slices.Delete(sent, 300, 303)
	got, ok := Clock(sent, period)
	rng := stream("route 1")
	want := turn(machine.Time(rng.Uint64N(uint64(period))), period)
	if d := cmplx.Phase(got.C/want) / (2 * math.Pi) * float64(period); !ok || math.Abs(d) > float64(100*time.Microsecond) {
		t.Errorf("the clock is missed by %v, found: %v", time.Duration(d), ok)
	}
	var poisson []machine.Time
	at := machine.Time(0)
	for range 1000 {
		at = at.Add(rng.Exp(period))
		poisson = append(poisson, at)
	}
	if _, ok := Clock(poisson, period); ok {
		t.Error("a Poisson process has a clock")
	}
}

// Counters advance by 1 to 3; cells that do not come are found by most of the gaps.
func TestGapsTellLosses(t *testing.T) {
	p := Path{Links: 40 * time.Millisecond, Mixes: 3, Mean: 10 * time.Millisecond}
	for _, own := range []bool{true, false} {
		lost, seen := make([][]machine.Time, flows), make([][]Burst, flows)
		found := 0
		for i := range flows {
			rng := stream(fmt.Sprint("losses ", i))
			_, came := route(i, 3000, 3, 10*time.Millisecond, true)
			var cells []Cell
			counter := uint32(7)
			for k, at := range came {
				if counter += 1 + uint32(rng.IntN(3)); rng.Chance(5000) {
					lost[i] = append(lost[i], machine.Time(k)*machine.Time(period))
					continue
				}
				cells = append(cells, Cell{At: at, Counter: counter})
			}
			for _, at := range Gaps(cells, 3) {
				seen[i] = append(seen[i], Burst{at, 1})
			}
			found += len(seen[i])
		}
		if found < flows*8 || found > flows*14 { // of 15 in each
			t.Errorf("%d gaps", found)
		}
		if !own {
			seen = append(seen[1:], seen[0])
		}
		expect(t, fmt.Sprintf("losses of the same flow: %v", own), own, p.Matched(lost, seen, 20*time.Millisecond))
	}
}

func TestRatesAndClassesTellWhoMoves(t *testing.T) {
	for _, moves := range []bool{true, false} {
		var rates, volumes [2][][]float64
		var far [][]float64
		for i := range flows {
			rng := stream(fmt.Sprint("moves ", i))
			from := 5 + rng.IntN(20)
			rate, volume, other := make([]float64, 60), make([]float64, 60), make([]float64, 64)
			for k := range rate {
				rate[k], volume[k] = 100, float64(rng.IntN(5))
				if k >= from && k < from+10 {
					volume[k] += 90
				}
				if moves && k >= from+4 {
					rate[k] = 200
				}
				other[k+1] = rate[k] + float64(rng.IntN(7)) - 3
			}
			far = append(far, other)
			for d := range 2 {
				rates[d], volumes[d] = append(rates[d], rate), append(volumes[d], volume)
			}
		}
		expect(t, fmt.Sprintf("classes, which move: %v", moves), moves, Classes(rates, volumes, 4))
		expect(t, fmt.Sprintf("rates, which move: %v", moves), moves, Rates(rates[0], far, 3))
	}
}

// What a node between two ends knows of both joins what neither knows.
func TestThroughJoinsBothHalves(t *testing.T) {
	rng := stream("through")
	noisy := func(weight float64) [][]float64 {
		return Matrix(flows, func(i, j int) float64 {
			noise := float64(rng.IntN(1000)) / 1000
			if i == j {
				noise += weight
			}
			return noise
		})
	}
	expect(t, "both halves", true, Through(noisy(2), noisy(2)))
	expect(t, "one half", false, Through(noisy(2), noisy(0)))
	expect(t, "two weak signs", true, Sum(noisy(0.5), noisy(0.5), noisy(0.5)))
}

// Of features that hold nothing, nothing is learnt, and not its opposite either,
// whatever is a client's or an exit's own.
func TestDiscriminateLearnsWhatThereIs(t *testing.T) {
	for _, weight := range []float64{2, 0} {
		rng := stream("features")
		draw := func() float64 { return float64(rng.IntN(1000)) / 1000 }
		own, theirs := make([]float64, flows), make([]float64, flows)
		for i := range flows {
			own[i], theirs[i] = 3*draw(), 3*draw()
		}
		x := make([][][]float64, flows)
		for i := range x {
			for j := range flows {
				f := []float64{own[i] + draw(), theirs[j] + draw(), own[i] - theirs[j] + draw()}
				if i == j {
					f[2] -= weight
				}
				x[i] = append(x[i], f)
			}
		}
		expect(t, fmt.Sprintf("features of weight %v", weight), weight > 0, Discriminate(x))
	}
}

// A pool of cells from one source hides nothing, one with a cell each of eight
// hides 3 bits, and pools in a row hide what the last one mixes of the others.
func TestPoolEntropy(t *testing.T) {
	one := func(k int) []float64 { d := make([]float64, 8); d[k] = 1; return d }
	var same, all, next Pool
	out := make([]float64, 8)
	for k := range 8 {
		same.Add(one(0))
		all.Add(one(k))
	}
	if ok := same.Take(out); !ok || Entropy(out) != 0 || same.Size() != 7 {
		t.Errorf("one source: %v bits", Entropy(out))
	}
	if ok := all.Take(out); !ok || math.Abs(Entropy(out)-3) > 1e-9 {
		t.Errorf("eight sources: %v bits", Entropy(out))
	}
	next.Add(slices.Clone(out))
	next.Add(one(0))
	if ok := next.Take(out); !ok || math.Abs(out[0]-(1+1.0/8)/2) > 1e-9 {
		t.Errorf("behind it: %v", out)
	}
	next.Take(out)
	if next.Take(out) {
		t.Error("an empty pool gives a cell")
	}
}

// Cells that were sent again are told at a hop by their lateness, where they are
// late, and not where they come when the lost ones would have.
func TestLateCellsAreTold(t *testing.T) {
	for _, shows := range []bool{true, false} {
		again, came := make([][]machine.Time, flows), make([][]Delayed, flows)
		for i := range flows {
			rng := stream(fmt.Sprint("again ", i))
			_, at := route(i, 3000, 3, 10*time.Millisecond, true)
			var cells []Cell
			for k, at := range at {
				if rng.Chance(5000) {
					again[i] = append(again[i], machine.Time(k)*machine.Time(period))
					if shows {
						at = at.Add(35 * time.Millisecond)
					}
				}
				cells = append(cells, Cell{At: at, Counter: uint32(k)})
			}
			came[i] = Delays(cells)
		}
		expect(t, fmt.Sprintf("cells sent again, late %v", shows), shows, Late(again, came, 5*time.Millisecond, 200*time.Millisecond))
	}
}

// What one mix and the end of a route leave of cells that are played out at the
// pace of their slots: those that come after their place, if the end waits too
// short a time for them, and nothing if it waits for all.
func TestLateCellsAreSeen(t *testing.T) {
	const mean, slots = 20 * time.Millisecond, 2400
	p := Path{Links: 20 * time.Millisecond, Mixes: 1, Mean: mean}
	for _, c := range []struct {
		what          string
		depth         time.Duration // beyond the mean of three mixes
		longest       time.Duration // of all three
		own, expected bool
	}{
		{"a wait for nine cells in ten", 46 * time.Millisecond, time.Hour, true, true},
		{"the same, of another client", 46 * time.Millisecond, time.Hour, false, false},
		{"a wait for all", 165 * time.Millisecond, 225 * time.Millisecond, true, false},
	} {
		cells, got := make([][][]Cell, flows), make([][]Burst, flows)
		for i := range flows {
			rng := stream(fmt.Sprint("late ", i))
			phase := machine.Time(rng.Uint64N(uint64(period)))
			var route []Cell
			ticks := map[machine.Time]float64{}
			for k := range slots {
				slot := phase.Add(time.Duration(k) * period)
				first, last := rng.Exp(mean)+rng.Exp(mean), rng.Exp(mean)
				for first+last > c.longest {
					first, last = rng.Exp(mean)+rng.Exp(mean), rng.Exp(mean)
				}
				route = append(route, Cell{At: slot.Add(first), Counter: uint32(2 * k)})
				if !c.own {
					first = rng.Exp(mean) + rng.Exp(mean)
				}
				place := slot.Add(p.Links + 3*mean + c.depth)
				came := slot.Add(p.Links + first + last)
				tick := (max(place, came)/machine.Time(period) + 1) * machine.Time(period)
				if rng.Uint32()&1 == 0 { // real
					ticks[tick]++
				}
			}
			cells[i] = [][]Cell{route}
			for at, n := range ticks {
				got[i] = append(got[i], Burst{at, n})
			}
			slices.SortFunc(got[i], func(a, b Burst) int { return int(a.At - b.At) })
		}
		expect(t, c.what, c.expected, p.Late(cells, got, c.depth, period))
	}
}
