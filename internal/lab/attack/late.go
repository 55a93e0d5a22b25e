package attack

import (
	"math"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Late scores clients against targets where the end of a route plays cells out at
// the pace at which they were sent: all that mixes leave in it are cells that came
// after their place. cells are those of each client's routes at a hop, in the order
// of their counters, from which who has them knows how late each is so far; p is
// the path that is left, depth how much later than on average a cell may come, and
// tick the period of the end's clock. A late cell is seen as more packets in a tick
// than the flow mostly has. It is a log likelihood, less its mean over all clients.
func (p Path) Late(cells [][][]Cell, got [][]Burst, depth, tick time.Duration) [][]float64 {
	begin, end := spanOf(got)
	begin = begin.Add(-tick - p.Longest())
	kernel, wait := p.kernel(tick, 1), p.Links+time.Duration(p.Mixes)*p.Mean+depth
	expected := make([]float32, end.Sub(begin)/grain+2)
	scores := make([][]float64, len(cells))
	for i, routes := range cells {
		clear(expected)
		for _, route := range routes {
			expectLate(expected, begin, route, kernel, wait)
		}
		scores[i] = make([]float64, len(got))
		for j, flow := range got {
			scores[i][j] = clumpsScore(flow, func(at machine.Time) float64 { return float64(expected[at.Sub(begin)/grain]) })
		}
	}
	centre(scores)
	return scores
}

// clumpsScore is the log likelihood of a flow's clumps, were so many late packets
// to be expected at each time, beside those that the flow has by itself.
func clumpsScore(flow []Burst, late func(machine.Time) float64) (score float64) {
	if len(flow) == 0 {
		return 0
	}
	sizes := make([]float64, len(flow))
	for k, b := range flow {
		sizes[k] = b.Packets
	}
	slices.Sort(sizes)
	usual, all := sizes[len(sizes)/2], 1.0
	for _, b := range flow {
		all += max(0, b.Packets-usual)
	}
	own := all / float64(len(flow)) // of each burst
	for _, b := range flow {
		if more := b.Packets - usual; more > 0 {
			score += more * math.Log(1+late(b.At)/own)
		}
	}
	return score
}

// around is how many cells on either side tell when a cell was sent: their delays
// so far cancel out.
const around = 32

// expectLate adds how many late cells of a route are to be expected in a tick: those
// that come more than wait after the mean of their neighbours.
func expectLate(into []float32, begin machine.Time, route []Cell, kernel []float32, wait time.Duration) {
	var sum int64
	for _, c := range route[:min(around, len(route))] {
		sum += int64(c.At)
	}
	for k, c := range route {
		low, high := max(0, k-around), min(len(route), k+around+1)
		if high == k+around+1 {
			sum += int64(route[high-1].At)
		}
		if k > around {
			sum -= int64(route[low-1].At)
		}
		due := machine.Time(sum / int64(high-low)).Add(wait)
		for g := max(0, due.Sub(c.At)/grain); int(g) < len(kernel); g++ {
			if at := c.At.Sub(begin)/grain + g; at >= 0 && int(at) < len(into) {
				into[at] += kernel[g]
			}
		}
	}
}
