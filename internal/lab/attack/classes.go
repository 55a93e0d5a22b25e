package attack

import (
	"math"
	"slices"
)

// Classes scores clients against targets by moves of class, in both directions at
// once: a class follows use, so that who is seen to move up has just sent, or been
// sent, much. rates[i] is what a client's link shows in each bin, volumes[j] what a
// target does, both of one direction; memory is how many bins of use a review may
// look back on. How the signs are to be weighed is learnt from all other flows.
func Classes(rates, volumes [2][][]float64, memory int) [][]float64 {
	n := len(rates[0])
	x := make([][][]float64, n)
	for i := range x {
		x[i] = make([][]float64, n)
	}
	for d := range rates {
		steps, recent := make([][]float64, n), make([][]float64, n)
		level, use := make([]float64, n), make([]float64, n)
		for i := range n {
			steps[i], level[i] = stepsOf(rates[d][i]), math.Log1p(sum(rates[d][i]))
			recent[i], use[i] = recentOf(volumes[d][i], memory), math.Log1p(sum(volumes[d][i]))
		}
		standardise(level)
		standardise(use)
		for i := range n {
			for j := range n {
				bins := min(len(rates[d][i]), len(volumes[d][j]))
				x[i][j] = append(x[i][j],
					pearson(rates[d][i][:bins], recent[j][:bins]),
					pearson(steps[i][:bins], recent[j][:bins]),
					-math.Abs(level[i]-use[j]))
			}
		}
	}
	return Discriminate(x)
}

// stepsOf are the changes of a rate between the two bins before and the two after
// each, where they exceed what bins vary by.
func stepsOf(rate []float64) []float64 {
	out := make([]float64, len(rate))
	for k := 2; k+1 < len(rate); k++ {
		before, after := rate[k-2]+rate[k-1], rate[k]+rate[k+1]
		if d := after - before; math.Abs(d) > 0.1*(before+after) {
			out[k] = d / (before + after)
		}
	}
	return out
}

// recentOf are the volumes of as many bins up to each.
func recentOf(volume []float64, memory int) []float64 {
	out := make([]float64, len(volume))
	var s float64
	for k, v := range volume {
		s += v
		if k >= memory {
			s -= volume[k-memory]
		}
		out[k] = s
	}
	return out
}

func sum(x []float64) (s float64) {
	for _, v := range x {
		s += v
	}
	return s
}

// standardise replaces values by their ranks, from 0 to 1; equal ones share one.
func standardise(x []float64) {
	order := slices.Clone(x)
	slices.Sort(order)
	for i, v := range x {
		low, _ := slices.BinarySearch(order, v)
		high, _ := slices.BinarySearch(order, math.Nextafter(v, math.Inf(1)))
		x[i] = float64(low+high) / float64(2*len(order))
	}
}
