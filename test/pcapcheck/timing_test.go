package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

func poisson(rng *rand.Rand, n int, perSecond float64) []time.Duration {
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = time.Duration(rng.ExpFloat64() / perSecond * float64(time.Second))
	}
	return out
}

// The test must take samples of one process for equal and find a tenth more.
func TestKolmogorovTellsRatesApart(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const n = 8000
	bound := critical(n, n)
	false1 := 0
	for range 200 {
		if kolmogorov(poisson(rng, n, 400), poisson(rng, n, 400)) > bound {
			false1++
		}
	}
	if false1 > 4 {
		t.Errorf("%d of 200 equal pairs were taken for different", false1)
	}
	if d := kolmogorov(poisson(rng, n, 400), poisson(rng, n, 440)); d <= bound {
		t.Errorf("a rate a tenth higher has distance %.4f, below %.4f", d, bound)
	}
	if d := kolmogorov([]time.Duration{1, 2, 3}, []time.Duration{1, 2, 3}); d != 0 {
		t.Errorf("equal samples have distance %g", d)
	}
	if g := gaps([]time.Duration{5, 7, 10}); len(g) != 2 || g[0] != 2 || g[1] != 3 {
		t.Errorf("gaps are %v", g)
	}
}
