package attack

import (
	"math"
	"math/cmplx"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// What nodes see that were taken over: cells of one route, apart from others.

// Rotor is the clock of a route, as a phase of a period, and how sure that is: the
// mean of e^(2πi·t/period) over N times.
type Rotor struct {
	C complex128
	N int
}

// Phase is the rotor of cells that have come to a hop.
func Phase(times []machine.Time, period time.Duration) (r Rotor) {
	for _, at := range times {
		r.C += turn(at, period)
	}
	if r.N = len(times); r.N > 0 {
		r.C /= complex(float64(r.N), 0)
	}
	return r
}

// Counted is the rotor of the clock that cells came by, read from their number
// instead of their moments. One cell is sent in each period, so that the mean of how
// late each cell is against a count of the cells tells the phase, however much each
// was delayed on its own: their scatter shrinks by the root of their number. Each
// window of that many cells gives one value.
func Counted(times []machine.Time, period time.Duration, window int) (r Rotor) {
	for ; len(times) >= window; times = times[window:] {
		var late float64
		for k, at := range times[:window] {
			late += float64(at.Sub(times[0]) - time.Duration(k)*period)
		}
		r.C += turn(times[0].Add(time.Duration(late/float64(window))), period)
		r.N++
	}
	if r.N > 0 {
		r.C /= complex(float64(r.N), 0)
	}
	return r
}

func turn(at machine.Time, period time.Duration) complex128 {
	return cmplx.Rect(1, 2*math.Pi*float64(at%machine.Time(period))/float64(period))
}

// Clock is the rotor of a client that sends once in each period, at any moment in
// it, of which some cells may be lost: where its periods begin is what its cells
// leave possible. ok is false where they fit into no clock.
func Clock(times []machine.Time, period time.Duration) (r Rotor, ok bool) {
	for from := range min(len(times), clockTries) {
		if low, high := clock(times[from:], machine.Time(period)); low < high {
			return Rotor{turn((low+high)/2, period), len(times) - from}, true
		}
	}
	return Rotor{}, false
}

const (
	clockTries = 32 // first cells, of which one is taken to follow another at once
	clockSure  = 16 // cells in a row that are taken to
)

// clock is between which times the first period begins; none if low is not below
// high.
func clock(times []machine.Time, period machine.Time) (low, high machine.Time) {
	low, high = times[0]-period, times[0]
	last := machine.Time(0) // the period of the cell before, -1: not known
	for k, at := range times[1:] {
		least, most := (at-high)/period, (at-low)/period
		switch next := last + 1; {
		case k < clockSure, last >= 0 && least <= next && next <= most:
			last = next
		case least == most:
			last = least
		default: // a loss, and the next cell near the edge of a period
			last = -1
			continue
		}
		at -= last * period
		if low, high = max(low, at-period), min(high, at); low >= high {
			return low, high
		}
	}
	return low, high
}

// Phases scores clients against hops by the phases of their routes, which come as
// pairs of one client in any order. What the network makes of a phase, how much it
// turns and blurs it, is learnt from the true pairs of all other flows. It is the
// log likelihood against a hop that knows nothing.
func Phases(entry, hop [][]Rotor) [][]float64 {
	n := len(entry)
	taught, weight := make([]complex128, n), make([]float64, n)
	var all complex128
	var total float64
	for i := range entry {
		for r := range min(len(entry[i]), len(hop[i])) {
			if e, h := entry[i][r], hop[i][r]; e.N > 0 && h.N > 0 {
				taught[i] += complex(float64(h.N), 0) * h.C * cmplx.Conj(e.C)
				weight[i] += float64(h.N)
			}
		}
		all, total = all+taught[i], total+weight[i]
	}
	return Matrix(n, func(i, j int) float64 {
		law, sum := all-taught[i], total-weight[i]
		if i != j {
			law, sum = law-taught[j], sum-weight[j]
		}
		if sum > 0 {
			law /= complex(sum, 0)
		}
		return bestPairing(entry[i], hop[j], func(e, h Rotor) float64 {
			if e.N == 0 || h.N == 0 {
				return 0
			}
			expected := law * e.C
			d := real(h.C)*real(expected) + imag(h.C)*imag(expected)
			return float64(h.N) * (2*d - real(law)*real(law) - imag(law)*imag(law))
		})
	})
}

// bestPairing is the greatest sum of a score over the ways to pair two short
// lists, of which the shorter is used up.
func bestPairing[T any](a, b []T, score func(x, y T) float64) float64 {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	best := math.Inf(-1)
	for k := range b {
		rest := append(append([]T{}, b[:k]...), b[k+1:]...)
		best = max(best, score(a[0], b[k])+bestPairing(a[1:], rest, score))
	}
	return best
}

// Rates scores by how closely two series of rates follow each other, up to a lag
// in bins: who moves from class to class is seen to do so at every hop of a route.
// It is a log likelihood; the scatter is that of the true pairs.
func Rates(first, second [][]float64, lagMax int) [][]float64 {
	n := len(first)
	apart := Matrix(n, func(i, j int) float64 {
		best := math.Inf(1)
		for lag := range lagMax + 1 {
			var sum float64
			for k := range len(first[i]) - lagMax {
				d := first[i][k] - second[j][k+lag]
				sum += d * d
			}
			best = min(best, sum)
		}
		return best
	})
	scatter := 1.0 // at least a cell in each bin that lies across its edge
	if bins := len(first[0]) - lagMax; bins > 0 {
		for i := range n {
			scatter += apart[i][i] / float64(n*bins)
		}
	}
	return Matrix(n, func(i, j int) float64 { return -apart[i][j] / (2 * scatter) })
}

// Cell is one cell of a route as a hop sees it.
type Cell struct {
	At      machine.Time
	Counter uint32
	// Late is by how much the cell came after the one in whose place it was sent,
	// which had been lost on the way here; At is when that one would have come.
	Late time.Duration
}

// Gaps are the times at which cells of a route are missing at a hop. Counters
// advance by step at most, so that a wider gap is a loss; narrower ones hide.
// cells are in the order of their counters.
func Gaps(cells []Cell, step uint32) (at []machine.Time) {
	for k := 1; k < len(cells); k++ {
		if before := cells[k-1]; cells[k].Counter-before.Counter > step {
			at = append(at, before.At+(cells[k].At-before.At)/2)
		}
	}
	return at
}

// Delayed is a cell of a route that came to a hop later, or sooner, than those sent
// before and after it let expect.
type Delayed struct {
	At machine.Time // when it was to be expected
	By time.Duration
}

// Delays are those of a route's cells, in the order of their counters: of each
// against the median of itself and its neighbours.
func Delays(cells []Cell) (out []Delayed) {
	const each = 2 // neighbours on either side
	var near [2*each + 1]machine.Time
	for k := each; k+each < len(cells); k++ {
		for i := range near {
			near[i] = cells[k-each+i].At
		}
		slices.Sort(near[:])
		out = append(out, Delayed{near[each], cells[k].At.Sub(near[each])})
	}
	return out
}

// Late scores clients against hops by whether the cells that were sent again come
// later to the hop than others: how much later those are, of which some were sent
// again a while before, in steps up to reach. Which while, and whether later or
// sooner, is learnt.
func Late(again [][]machine.Time, hop [][]Delayed, step, reach time.Duration) [][]float64 {
	size := int(reach / step)
	x := make([][][]float64, len(again))
	for i := range x {
		x[i] = make([][]float64, len(hop))
		for j := range x[i] {
			x[i][j] = make([]float64, size)
			for _, d := range hop[j] {
				after, _ := slices.BinarySearch(again[i], d.At+1)
				for _, at := range slices.Backward(again[i][:after]) {
					k := int(d.At.Sub(at) / step)
					if k >= size {
						break
					}
					x[i][j][k] += d.By.Seconds()
				}
			}
		}
	}
	return Discriminate(x)
}

// Through scores an entry against an exit by way of what a node between them sees:
// first[i][u] of the entry with the node's u-th client, second[u][j] of that with
// the exit, both log likelihoods. It is the log of the chance that both are the
// same client of the node's.
func Through(first, second [][]float64) [][]float64 {
	n := len(first)
	entry := make([][]float64, n)
	for i := range entry {
		entry[i] = posterior(first[i])
	}
	exit := make([][]float64, n)
	for j := range exit {
		column := make([]float64, n)
		for u := range column {
			column[u] = second[u][j]
		}
		exit[j] = posterior(column)
	}
	return Matrix(n, func(i, j int) float64 {
		var same float64
		for u, p := range entry[i] {
			same += p * exit[j][u]
		}
		return math.Log(same)
	})
}

// posterior are chances of alternatives by their log likelihoods. doubt is spread
// over all of them, since likelihoods are of models.
func posterior(likelihood []float64) []float64 {
	const doubt = 1e-6
	best, sum := slices.Max(likelihood), 0.0
	out := make([]float64, len(likelihood))
	for k, l := range likelihood {
		out[k] = math.Exp(l - best)
		sum += out[k]
	}
	for k := range out {
		out[k] = (1-doubt)*out[k]/sum + doubt/float64(len(out))
	}
	return out
}

// Sum adds scores of independent evidence.
func Sum(all ...[][]float64) [][]float64 {
	return Matrix(len(all[0]), func(i, j int) (sum float64) {
		for _, m := range all {
			sum += m[i][j]
		}
		return sum
	})
}
