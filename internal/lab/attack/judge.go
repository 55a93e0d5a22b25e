package attack

import (
	"fmt"
	"math"
	"slices"

	"github.com/nyxnet/nyx/internal/prng"
)

// Verdict is how well scores tell pairs that belong together from others, each
// figure with its 95 % interval over resampled flows.
type Verdict struct {
	Flows int `json:"flows"`
	// AUC is the chance that a true pair scores above a false one; 0.5 is
	// guessing.
	AUC Figure `json:"auc"`
	// Top1 is the share of flows whose best partner is the true one; guessing
	// gives 1 in as many as there are partners.
	Top1 Figure `json:"top1"`
	// TPR is the share of true pairs found when one false pair in a thousand
	// is taken for true.
	TPR Figure `json:"tpr_at_fpr_0.001"`
}

// Figure is a measured value and its interval.
type Figure struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// String writes a figure as tables have it: 0.51 (0.48–0.54).
func (f Figure) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", f.Value, f.Low, f.High) }

// resamples is how often flows are drawn again for an interval.
const resamples = 400

// Judge sums up matrices of scores, one for each run: scores[i][j] is of entry i
// with exit j, and the true pairs are on the diagonal. Pairs lie within a run; the
// threshold of TPR is one for all.
func Judge(rng *prng.Stream, runs ...[][]float64) Verdict {
	var v Verdict
	var wrong []float64
	ranked := make([]standing, len(runs))
	for r, m := range runs {
		v.Flows += len(m)
		ranked[r] = newStanding(m)
		for i, row := range m {
			for j, s := range row {
				if i != j {
					wrong = append(wrong, s)
				}
			}
		}
	}
	slices.Sort(wrong)
	if len(wrong) == 0 {
		return v
	}
	threshold := wrong[len(wrong)-1-len(wrong)/1000]
	var first, found []bool
	for r, m := range runs {
		for i := range m {
			first, found = append(first, ranked[r].best[i]), append(found, m[i][i] > threshold)
		}
	}
	v.AUC.Value = meanAUC(ranked, nil)
	drawn := make([]float64, resamples)
	for k := range drawn {
		drawn[k] = meanAUC(ranked, rng)
	}
	slices.Sort(drawn)
	v.AUC.Low, v.AUC.High = drawn[resamples/40], drawn[resamples-1-resamples/40]
	v.Top1, v.TPR = share(first, rng), share(found, rng)
	return v
}

// standing is how each true pair of a run stands among the false ones.
type standing struct {
	// wins[i][j] is by how many of the two false pairs of i and j, (i, j) and
	// (j, i), the true pair of i is better, in halves: 4 is both.
	wins [][]uint8
	best []bool
}

func newStanding(m [][]float64) standing {
	s := standing{make([][]uint8, len(m)), make([]bool, len(m))}
	for i, row := range m {
		s.wins[i], s.best[i] = make([]uint8, len(m)), true
		for j := range row {
			if j == i {
				continue
			}
			// A tie finds nobody: who guesses among equals is wrong.
			s.best[i] = s.best[i] && row[i] > row[j]
			for _, wrong := range [2]float64{row[j], m[j][i]} {
				switch {
				case row[i] > wrong:
					s.wins[i][j] += 2
				case row[i] == wrong:
					s.wins[i][j]++
				}
			}
		}
	}
	return s
}

// meanAUC compares each flow's true score with its false ones against the other
// flows of its run: of all, or, with rng, of flows drawn again. A flow drawn twice
// is no false pair of itself.
func meanAUC(runs []standing, rng *prng.Stream) float64 {
	var wins, all float64
	for _, s := range runs {
		n := len(s.wins)
		times := make([]int, n)
		for i := range times {
			if rng == nil {
				times[i]++
			} else {
				times[rng.IntN(n)]++
			}
		}
		for i, a := range times {
			if a == 0 {
				continue
			}
			for j, b := range times {
				if i != j {
					wins += float64(a * b * int(s.wins[i][j]))
					all += float64(a * b * 4)
				}
			}
		}
	}
	if all == 0 {
		return 0.5
	}
	return wins / all
}

// share is a share of flows. Its interval is that of resampled flows or Wilson's,
// whichever reaches further: of none found, resampling would be certain.
func share(hits []bool, rng *prng.Stream) Figure {
	n := len(hits)
	count := func(draw func(i int) int) (c int) {
		for i := range hits {
			if hits[draw(i)] {
				c++
			}
		}
		return c
	}
	p := float64(count(func(i int) int { return i })) / float64(n)
	drawn := make([]float64, resamples)
	for k := range drawn {
		drawn[k] = float64(count(func(int) int { return rng.IntN(n) })) / float64(n)
	}
	slices.Sort(drawn)
	low, high := wilson(p, float64(n))
	return Figure{p, min(low, drawn[resamples/40]), max(high, drawn[resamples-1-resamples/40])}
}

// wilson is the 95 % interval of a proportion p of n (Wilson 1927).
func wilson(p, n float64) (low, high float64) {
	const z = 1.959964
	centre := p + z*z/(2*n)
	spread := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	d := 1 + z*z/n
	return max(0, (centre-spread)/d), min(1, (centre+spread)/d)
}

// Matrix is the scores of n entries against n exits.
func Matrix(n int, score func(i, j int) float64) [][]float64 {
	m := make([][]float64, n)
	for i := range m {
		m[i] = make([]float64, n)
		for j := range m[i] {
			m[i][j] = score(i, j)
		}
	}
	return m
}
