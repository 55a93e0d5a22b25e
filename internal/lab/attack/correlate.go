// Package attack is what an adversary computes from what it sees of both ends of
// flows: scores of pairs, and how well these tell true pairs from false ones.
//
// Everything here is a pure function of times and counts. What is one entry's
// stands first (index i), what is one exit's second (index j); the true pairs are
// those with i = j, and no function knows it except those that say that they learn
// from other flows.
package attack

import (
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Correlator compares counts in bins: Pearson's coefficient between the two ends,
// and the best over a range of lags.
type Correlator struct {
	Begin, End machine.Time
	Bin        time.Duration
	// LagMax is the longest delay from the first end to the second that is
	// tried, in steps of Bin.
	LagMax time.Duration
}

// Bins is the number of bins from Begin to End, and for LagMax beyond.
func (c Correlator) Bins() int { return int((c.End.Sub(c.Begin) + c.LagMax) / c.Bin) }

// Counts are the times in each bin.
func (c Correlator) Counts(times []machine.Time) []float64 {
	bins := make([]float64, c.Bins())
	for _, at := range times {
		if b := c.bin(at); b >= 0 && b < len(bins) {
			bins[b]++
		}
	}
	return bins
}

// Volumes are the packets in each bin.
func (c Correlator) Volumes(flow []Burst) []float64 {
	bins := make([]float64, c.Bins())
	for _, g := range flow {
		if b := c.bin(g.At); b >= 0 && b < len(bins) {
			bins[b] += g.Packets
		}
	}
	return bins
}

func (c Correlator) bin(at machine.Time) int {
	if at < c.Begin {
		return -1
	}
	return int(at.Sub(c.Begin) / c.Bin)
}

// Score is the greatest coefficient over the lags.
func (c Correlator) Score(first, second []float64) float64 {
	n := int(c.End.Sub(c.Begin) / c.Bin)
	best := -1.0
	for lag := 0; lag <= int(c.LagMax/c.Bin) && lag+n <= len(second); lag++ {
		best = max(best, pearson(first[:n], second[lag:lag+n]))
	}
	return best
}

// pearson is the correlation coefficient, 0 where one side never varies.
func pearson(a, b []float64) float64 {
	var sa, sb, ab, aa, bb float64
	for i, x := range a {
		y := b[i]
		sa, sb = sa+x, sb+y
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	n := float64(len(a))
	ab, aa, bb = ab-sa*sb/n, aa-sa*sa/n, bb-sb*sb/n
	if aa <= 1e-9 || bb <= 1e-9 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}
