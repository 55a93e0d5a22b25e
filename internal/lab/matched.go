package lab

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

// longest is a delay that next to no cell exceeds.
func (p Path) longest() time.Duration { return p.Links + time.Duration(p.Mixes+12)*p.Mean }

// Matched is the matched filter between every datagram of a client's link and
// what leaves an exit: the log likelihood of the bursts, had their packets been
// sent in these slots. window is the time before a burst in which its packets
// may have come: the exit's period where it takes them in by its own clock.
func (p Path) Matched(sent []machine.Time, got []Burst, window time.Duration) float64 {
	const unlikely = 1e-3 // a packet may have been sent again, or held up
	var sum float64
	for _, b := range got {
		from, _ := slices.BinarySearch(sent, b.At.Add(-window-p.longest()))
		expected := unlikely
		for _, at := range sent[from:] {
			if at > b.At {
				break
			}
			d := b.At.Sub(at)
			expected += (p.arrived(d) - p.arrived(d-window)) * float64(time.Millisecond) / float64(window)
		}
		sum += b.Packets * math.Log(expected)
	}
	return sum
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
