package lab

import (
	"fmt"
	"math"
	"slices"
)

// samplesMax bounds the samples of one series: 64 MB. A Func that has more
// sums them up itself, by Tally.
const samplesMax = 8_000_000

// series is what a run has observed under one name: samples, or a ratio of
// counts. It is one or the other.
type series struct {
	samples     []float64
	sorted      bool
	part, whole uint64
}

// Summary is a series in evidence.
type Summary struct {
	Name    string  `json:"name"`
	Samples uint64  `json:"samples"` // of a ratio: trials
	Mean    float64 `json:"mean"`    // of a ratio: the ratio
	Min     float64 `json:"min,omitempty"`
	P50     float64 `json:"p50,omitempty"`
	P95     float64 `json:"p95,omitempty"`
	P99     float64 `json:"p99,omitempty"`
	Max     float64 `json:"max,omitempty"`
}

// String writes a summary as the ledger shows it. Of a ratio there is the mean alone.
func (s Summary) String() string {
	if s.Min == 0 && s.Max == 0 {
		return fmt.Sprintf("mean %.5g of %d", s.Mean, s.Samples)
	}
	return fmt.Sprintf("%d samples from %.5g to %.5g, P95 %.5g", s.Samples, s.Min, s.Max, s.P95)
}

func (s *series) count() uint64 { return s.whole + uint64(len(s.samples)) }

func (s *series) sort() {
	if !s.sorted {
		slices.Sort(s.samples)
		s.sorted = true
	}
}

// quantile is the smallest sample that q of all samples do not exceed (the
// nearest rank: a value that was measured, never one between).
func (s *series) quantile(q float64) float64 {
	s.sort()
	rank := int(math.Ceil(q*float64(len(s.samples)) - 1e-9))
	return s.samples[min(len(s.samples), max(1, rank))-1]
}

func (s *series) mean() float64 {
	sum := 0.0
	s.sort() // one order of addition, whatever the order of observation
	for _, v := range s.samples {
		sum += v
	}
	return sum / float64(len(s.samples))
}

// stat returns a statistic, or why there is none.
func (s *series) stat(st Stat) (float64, error) {
	if s == nil || s.count() == 0 {
		return 0, fmt.Errorf("was never observed")
	}
	if st == "ratio" {
		if s.whole == 0 {
			return 0, fmt.Errorf("holds samples, not a ratio")
		}
		return float64(s.part) / float64(s.whole), nil
	}
	if len(s.samples) == 0 {
		return 0, fmt.Errorf("holds a ratio, not samples")
	}
	switch st {
	case "min":
		return s.quantile(0), nil
	case "max":
		return s.quantile(1), nil
	case "mean":
		return s.mean(), nil
	case "count":
		return float64(len(s.samples)), nil
	}
	return s.quantile(quantiles[st]), nil
}

func (s *series) summary(name string) Summary {
	if s.whole > 0 {
		return Summary{Name: name, Samples: s.whole, Mean: float64(s.part) / float64(s.whole)}
	}
	return Summary{Name: name, Samples: s.count(), Mean: s.mean(), Min: s.quantile(0), P50: s.quantile(0.5),
		P95: s.quantile(0.95), P99: s.quantile(0.99), Max: s.quantile(1)}
}

// wilson is the 95 % interval of a proportion (Wilson 1927), which stays
// honest near 0 and 1, where objectives lie.
func wilson(part, whole uint64) (low, high float64) {
	const z = 1.959964
	n := float64(whole)
	p := float64(part) / n
	centre := p + z*z/(2*n)
	spread := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	d := 1 + z*z/n
	return max(0, (centre-spread)/d), min(1, (centre+spread)/d)
}

// atMost is the chance that of n trials, each of which fails with p, no more than k do
// (the binomial distribution). p lies between 0 and 1.
func atMost(k, n uint64, p float64) float64 {
	if k >= n {
		return 1
	}
	ways := logFactorial(n) - logFactorial(k) - logFactorial(n-k)
	term := math.Exp(ways + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	sum := term
	for i := k; i > 0; i-- { // from the greatest term down, where k lies below the mean
		term *= float64(i) * (1 - p) / (float64(n-i+1) * p)
		sum += term
		if term < 1e-12*sum {
			break
		}
	}
	return min(1, sum)
}

// logFactorial is the logarithm of n factorial.
func logFactorial(n uint64) float64 {
	v, _ := math.Lgamma(float64(n) + 1)
	return v
}

// samplesFor is the least number of trials that bear "at most p fail" if none does.
func samplesFor(p float64) uint64 {
	return uint64(math.Ceil(math.Log(chanceMax) / math.Log1p(-p)))
}
