package attack

import (
	"math"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Burst is what the neighbourhood of an exit sees of a flow at one moment:
// bytes that leave for the target, in packets' worth.
type Burst struct {
	At      machine.Time
	Packets float64
}

// Path is what an adversary knows of how cells come from a client to an exit:
// a fixed time on the links, and an exponential delay at each mix.
type Path struct {
	Links time.Duration
	Mixes int
	Mean  time.Duration // per mix
}

// arrived is the chance that a cell has come d after it was sent.
func (p Path) arrived(d time.Duration) float64 {
	x := float64(d-p.Links) / float64(p.Mean)
	if x <= 0 {
		return 0
	}
	term, sum := 1.0, 1.0
	for k := 1; k < p.Mixes; k++ {
		term *= x / float64(k)
		sum += term
	}
	return 1 - math.Exp(-x)*sum
}

// Longest is a delay that next to no cell exceeds.
func (p Path) Longest() time.Duration { return p.Links + time.Duration(p.Mixes+12)*p.Mean }

// Matched is the matched filter between every datagram of a client's link and
// what leaves an exit: the log likelihood of the bursts, had their packets been
// sent in these slots, less its mean over all clients. window is the time before a
// burst in which its packets may have come: the exit's period where it takes them
// in by its own clock.
func (p Path) Matched(sent [][]machine.Time, got [][]Burst, window time.Duration) [][]float64 {
	const unlikely = 1e-3 // a packet may have been sent again, or held up
	kernel := p.kernel(window, float64(time.Millisecond)/float64(window))
	begin, end := spanOf(got)
	begin = begin.Add(-window - p.Longest())
	expected := make([]float32, end.Sub(begin)/grain+2)
	scores := make([][]float64, len(sent))
	for i := range sent {
		for k := range expected {
			expected[k] = unlikely
		}
		for _, at := range sent[i] {
			if at < begin || at > end {
				continue
			}
			into := expected[at.Sub(begin)/grain:]
			for k, v := range kernel[:min(len(kernel), len(into))] {
				into[k] += v
			}
		}
		scores[i] = make([]float64, len(got))
		for j, flow := range got {
			for _, b := range flow {
				scores[i][j] += b.Packets * math.Log(float64(expected[b.At.Sub(begin)/grain]))
			}
		}
	}
	centre(scores)
	return scores
}

// kernel is the chance that a cell came in the window before each grain of time
// after it was sent, times a unit.
func (p Path) kernel(window time.Duration, unit float64) []float32 {
	kernel := make([]float32, (window+p.Longest())/grain+2)
	for k := range kernel {
		d := time.Duration(k) * grain
		kernel[k] = float32((p.arrived(d) - p.arrived(d-window)) * unit)
	}
	return kernel
}

// centre takes from each score the mean of its exit, so that exits of which more
// is known do not stand out for that alone.
func centre(scores [][]float64) {
	for j := range scores[0] {
		var mean float64
		for i := range scores {
			mean += scores[i][j] / float64(len(scores))
		}
		for i := range scores {
			scores[i][j] -= mean
		}
	}
}

// grain is the step in which expectations are kept.
const grain = 100 * time.Microsecond

// spanOf is the time from the first burst of all flows to the last.
func spanOf(got [][]Burst) (begin, end machine.Time) {
	begin, end = machine.Never, 0
	for _, flow := range got {
		if n := len(flow); n > 0 {
			begin, end = min(begin, flow[0].At), max(end, flow[n-1].At)
		}
	}
	if begin > end {
		return 0, 0
	}
	return begin, end
}

// Ticks is the clock of a client that sends once in each period of it, as its
// slots tell: the earliest that none of them comes after.
func Ticks(sent []machine.Time, period time.Duration) []machine.Time {
	out := make([]machine.Time, len(sent))
	var first machine.Time
	for k, at := range sent {
		if begins := at.Add(-time.Duration(k) * period); k == 0 || begins > first {
			first = begins
		}
	}
	for k := range out {
		out[k] = first.Add(time.Duration(k) * period)
	}
	return out
}

// Clumps scores every client against every exit by phase. Where two regular
// clocks follow each other, their phases decide how often two cells fall into
// one tick of the second, and none into the next. The attacker has learnt that
// law from flows of his own: for each flow, here, from all the others.
func Clumps(sent [][]machine.Time, got [][]Burst, period time.Duration) [][]float64 {
	n := len(sent)
	double := make([]float64, n)
	for j := range got {
		double[j] = clumped(got[j], period)
	}
	offset := func(i, j int) float64 { // of the clocks, in radians
		if len(sent[i]) == 0 || len(got[j]) == 0 {
			return 0
		}
		d := (sent[i][len(sent[i])-1].Sub(got[j][0].At)%period + period) % period
		return 2 * math.Pi * float64(d) / float64(period)
	}
	scores := make([][]float64, n)
	for i := range scores {
		scores[i] = make([]float64, n)
	}
	for j := range n {
		// Least squares of a + b·cos + c·sin over the other true pairs; the
		// phases are spread evenly enough for the three to be orthogonal.
		var a, b, c float64
		for k := range n {
			if k != j {
				a += double[k] / float64(n-1)
			}
		}
		for k := range n {
			if k != j {
				b += 2 * (double[k] - a) * math.Cos(offset(k, k)) / float64(n-1)
				c += 2 * (double[k] - a) * math.Sin(offset(k, k)) / float64(n-1)
			}
		}
		for i := range n {
			law := a + b*math.Cos(offset(i, j)) + c*math.Sin(offset(i, j))
			scores[i][j] = -math.Abs(double[j] - law)
		}
	}
	return scores
}

// clumped is how many packets share their tick with another, as a share of
// those that have one in this tick or the next to share with.
func clumped(got []Burst, period time.Duration) float64 {
	var same, next float64
	for k, b := range got {
		same += b.Packets * (b.Packets - 1)
		if k > 0 && b.At.Sub(got[k-1].At) < period*3/2 {
			next += b.Packets * got[k-1].Packets
		}
	}
	if same+next == 0 {
		return 0
	}
	return same / (same + next)
}

// Learnt scores every client against every exit by a filter whose kernel the
// attacker learns: how many of a client's slots lie how long before each packet
// that leaves an exit, in steps up to reach.
func Learnt(sent [][]machine.Time, got [][]Burst, step, reach time.Duration) [][]float64 {
	size := int(reach / step)
	x := make([][][]float64, len(sent))
	for i := range x {
		x[i] = make([][]float64, len(got))
		for j := range x[i] {
			x[i][j] = lags(sent[i], got[j], step, size)
		}
	}
	return Discriminate(x)
}

// Discriminate scores pairs by features, x[i][j], all of one length. Fisher's
// linear discriminant of true pairs against false weighs them; for each score, the
// true pairs of all other flows have taught it. x is changed: what is one client's
// or one exit's alone is taken out of it, since it says nothing of a pair.
func Discriminate(x [][][]float64) [][]float64 {
	n, size := len(x), len(x[0][0])
	centreBoth(x, size)
	spread := covariance(x, size)
	// What each true pair teaches, and all of them together.
	taught, all := make([][]float64, n), make([]float64, size)
	for i := range taught {
		taught[i] = solve(spread, x[i][i])
		for k, v := range taught[i] {
			all[k] += v
		}
	}
	return Matrix(n, func(i, j int) (score float64) {
		for k, v := range x[i][j] {
			w := all[k] - taught[i][k]
			if i != j {
				w -= taught[j][k]
			}
			score += w * v
		}
		return score
	})
}

// centreBoth takes from each feature its mean over the pairs of its client and
// over those of its exit. Left in, these means would add up to nothing over all
// true pairs, so that the others' would teach the opposite of a pair's own.
func centreBoth(x [][][]float64, size int) {
	n := float64(len(x))
	rows, columns := make([][]float64, len(x)), make([][]float64, len(x))
	all := make([]float64, size)
	for i := range x {
		rows[i], columns[i] = make([]float64, size), make([]float64, size)
	}
	for i := range x {
		for j := range x[i] {
			for k, v := range x[i][j] {
				rows[i][k] += v / n
				columns[j][k] += v / n
				all[k] += v / (n * n)
			}
		}
	}
	for i := range x {
		for j := range x[i] {
			for k, v := range x[i][j] {
				if v += all[k] - rows[i][k] - columns[j][k]; math.Abs(v) < dust {
					v = 0
				}
				x[i][j][k] = v
			}
		}
	}
}

// dust is what rounding leaves of a feature that is the same for all pairs.
const dust = 1e-9

// covariance is that of features whose mean is 0, over all pairs.
func covariance(x [][][]float64, size int) [][]float64 {
	n := len(x)
	spread := make([][]float64, size)
	for k := range spread {
		spread[k] = make([]float64, size)
	}
	for i := range x {
		for j := range x[i] {
			for k, v := range x[i][j] {
				row := spread[k]
				for l, u := range x[i][j][:k+1] {
					row[l] += v * u
				}
			}
		}
	}
	for k := range spread {
		for l := range k + 1 {
			spread[k][l] /= float64(n * n)
			spread[l][k] = spread[k][l]
		}
	}
	for k := range spread {
		spread[k][k] *= 1 + ridge
	}
	return spread
}

// ridge is what is added to the spread of each step, as its share: few flows
// teach little about many steps.
const ridge = 0.1

// lags is how many slots lie k steps before a packet, on average.
func lags(sent []machine.Time, got []Burst, step time.Duration, size int) []float64 {
	out := make([]float64, size)
	var packets float64
	for _, b := range got {
		packets += b.Packets
		after, _ := slices.BinarySearch(sent, b.At+1)
		for _, at := range slices.Backward(sent[:after]) {
			k := int(b.At.Sub(at) / step)
			if k >= size {
				break
			}
			out[k] += b.Packets
		}
	}
	for k := range out {
		out[k] /= max(packets, 1)
	}
	return out
}

// solve returns x with a·x = b for a symmetric, positive a (Cholesky).
func solve(a [][]float64, b []float64) []float64 {
	n := len(b)
	l := make([][]float64, n)
	x := slices.Clone(b)
	for i := range n {
		l[i] = slices.Clone(a[i][:i+1])
		for j := range i + 1 {
			for k := range j {
				l[i][j] -= l[i][k] * l[j][k]
			}
			if j < i {
				l[i][j] /= l[j][j]
			}
		}
		l[i][i] = math.Sqrt(max(l[i][i], 1e-12))
		for k := range i {
			x[i] -= l[i][k] * x[k]
		}
		x[i] /= l[i][i]
	}
	for i := n - 1; i >= 0; i-- {
		for k := i + 1; k < n; k++ {
			x[i] -= l[k][i] * x[k]
		}
		x[i] /= l[i][i]
	}
	return x
}
