// Package aggregate sums measurements up so that the sums can be summed up in
// turn: in any order and grouping, by any number of processes, with one result,
// byte for byte. It is what hours and days of telemetry are kept as.
//
// A Sketch is of one quantity, an Aggregate of all quantities of a span of time, a
// Calendar of hours and days. Everything is in integers, because sums of floats
// depend on their order. Who merges counts each part once: nothing here tells a
// part that comes a second time.
package aggregate

import (
	"math"
	"math/bits"
)

// A Sketch counts values by bins whose width is a 64th of their lower bound or
// less: 64 bins to each doubling, and one for each value below 64. It is a DDSketch
// (Masson, Rim, Lee, VLDB 2019) on the integers, with the logarithm to base 2 taken
// linearly between powers, so that no processor rounds it differently.
const (
	binBits = 6
	perOct  = 1 << binBits
	binsMax = perOct * (64 - binBits + 1)
)

// RelativeError bounds how far a quantile of a sketch is from the value of that
// rank, as a part of it.
const RelativeError = 1.0 / (2 * perOct)

// Sketch is how often a quantity came out how large: its count, sum, extremes and
// quantiles. The zero Sketch is of no values. It has one owner, and takes 8 bytes
// for each bin between its least and its greatest value: 30 KiB at the most.
type Sketch struct {
	Count    uint64
	Sum      uint64 // of all values; MaxUint64 stands for that and more
	Min, Max uint64 // of no meaning without values
	first    int    // bin of bins[0]
	bins     []uint64
}

// binOf is the bin of a value.
func binOf(v uint64) int {
	if v < perOct {
		return int(v)
	}
	e := bits.Len64(v) - 1 - binBits
	return e<<binBits + int(v>>e)
}

// binStart is the least value of a bin, and width how many values it has.
func binStart(bin int) (start, width uint64) {
	if bin < perOct {
		return uint64(bin), 1
	}
	e := bin>>binBits - 1
	return uint64(bin-e<<binBits) << e, 1 << e
}

// Observe adds a value.
func (s *Sketch) Observe(v uint64) { s.ObserveN(v, 1) }

// ObserveN adds a value that came n times, as one of a sample does that stands for n.
func (s *Sketch) ObserveN(v, n uint64) {
	if n == 0 {
		return
	}
	bin := binOf(v)
	s.span(bin, bin)
	s.bins[bin-s.first] += n
	hi, product := bits.Mul64(v, n)
	if hi > 0 {
		product = math.MaxUint64
	}
	s.extend(v, v, n, product)
}

// Merge adds all values of another sketch, which stays as it is.
func (s *Sketch) Merge(o *Sketch) {
	if o.Count == 0 {
		return
	}
	s.span(o.first, o.first+len(o.bins)-1)
	own := s.bins[o.first-s.first:]
	for i, n := range o.bins {
		own[i] += n
	}
	s.extend(o.Min, o.Max, o.Count, o.Sum)
}

func (s *Sketch) extend(least, most, count, sum uint64) {
	if s.Count == 0 {
		s.Min, s.Max = least, most
	} else {
		s.Min, s.Max = min(s.Min, least), max(s.Max, most)
	}
	s.Count += count
	s.Sum = addCapped(s.Sum, sum)
}

// addCapped is a sum that stays at its greatest value. It is associative, as
// sums without a bound are.
func addCapped(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return sum
}

// span makes room for bins low to high.
func (s *Sketch) span(low, high int) {
	last := s.first + len(s.bins) - 1
	if len(s.bins) > 0 && low >= s.first && high <= last {
		return
	}
	if len(s.bins) > 0 {
		low, high = min(low, s.first), max(high, last)
	}
	grown := make([]uint64, high-low+1)
	if len(s.bins) > 0 {
		copy(grown[s.first-low:], s.bins)
	}
	s.first, s.bins = low, grown
}

// Quantile is the value that q of all values do not exceed, within RelativeError,
// and never outside of Min and Max; 0 without values. q is in [0, 1].
func (s *Sketch) Quantile(q float64) uint64 {
	if s.Count == 0 {
		return 0
	}
	rank := uint64(math.Ceil(min(max(q, 0), 1) * float64(s.Count)))
	seen := uint64(0)
	for i, n := range s.bins {
		if seen += n; n > 0 && seen >= rank {
			start, width := binStart(s.first + i)
			return min(max(start+width/2, s.Min), s.Max)
		}
	}
	return s.Max
}

// Mean is the mean of all values; 0 without values.
func (s *Sketch) Mean() float64 {
	if s.Count == 0 {
		return 0
	}
	return float64(s.Sum) / float64(s.Count)
}

// Above is how many values lie in bins that begin at v or above: those of at least
// v, within RelativeError of it.
func (s *Sketch) Above(v uint64) (n uint64) {
	for i := max(binOf(v)-s.first, 0); i < len(s.bins); i++ {
		n += s.bins[i]
	}
	return n
}
