package lab

import (
	"math"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/sim"
)

// Correlator is the flow correlation of an adversary who watches both ends of
// the network: counts of datagrams in bins, Pearson's coefficient between the
// two ends, and the best over a range of lags.
type Correlator struct {
	Begin, End machine.Time
	Bin        time.Duration
	// LagMax is the longest delay from the first end to the second that is
	// tried, in steps of Bin.
	LagMax time.Duration
}

// Counts are the datagrams of a view in each bin from Begin to End, and for
// LagMax beyond.
func (c Correlator) Counts(views ...*sim.View) []float64 {
	bins := make([]float64, (c.End.Sub(c.Begin)+c.LagMax)/c.Bin)
	for _, v := range views {
		for i := range v.Len() {
			at := v.At(i).At.Sub(c.Begin)
			if b := int(at / c.Bin); at >= 0 && b < len(bins) {
				bins[b]++
			}
		}
	}
	return bins
}

// Score is the greatest coefficient over the lags.
func (c Correlator) Score(entry, exit []float64) float64 {
	n := int(c.End.Sub(c.Begin) / c.Bin)
	best := -1.0
	for lag := 0; lag <= int(c.LagMax/c.Bin) && lag+n <= len(exit); lag++ {
		best = max(best, pearson(entry[:n], exit[lag:lag+n]))
	}
	return best
}

// pearson is the correlation coefficient, 0 where one side never varies.
func pearson(a, b []float64) float64 {
	var sa, sb float64
	for i := range a {
		sa += a[i]
		sb += b[i]
	}
	ma, mb := sa/float64(len(a)), sb/float64(len(b))
	var ab, aa, bb float64
	for i := range a {
		x, y := a[i]-ma, b[i]-mb
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}

// Attack is how well scores tell pairs that belong together from others.
type Attack struct {
	Flows int `json:"flows"`
	// AUC is the chance that a true pair scores above a false one; 0.5 is
	// guessing. Interval is its 95 % interval over resampled flows.
	AUC      float64    `json:"auc"`
	Interval [2]float64 `json:"interval95"`
	// Top1 is the share of flows whose best partner is the true one; guessing
	// gives 1 in Flows.
	Top1 float64 `json:"top1"`
	// TPR is the share of true pairs found when one false pair in a thousand
	// is taken for true.
	TPR float64 `json:"tpr_at_fpr_0.001"`
}

// resamples is how often flows are drawn again for the interval.
const resamples = 400

// Judge sums up a matrix of scores: scores[i][j] is of entry i with exit j, and
// the true pairs are on the diagonal.
func Judge(scores [][]float64, rng *prng.Stream) Attack {
	n := len(scores)
	a := Attack{Flows: n}
	order := make([]int, n)
	var wrong []float64
	var first, found int
	for i, row := range scores {
		order[i] = i
		best := 0
		for j, s := range row {
			if s > row[best] {
				best = j
			}
			if i != j {
				wrong = append(wrong, s)
			}
		}
		if best == i {
			first++
		}
	}
	slices.Sort(wrong)
	threshold := wrong[len(wrong)-1-len(wrong)/1000]
	for i := range scores {
		if scores[i][i] > threshold {
			found++
		}
	}
	a.Top1, a.TPR = float64(first)/float64(n), float64(found)/float64(n)
	a.AUC = auc(scores, order)
	drawn := make([]float64, resamples)
	for k := range drawn {
		for i := range order {
			order[i] = rng.IntN(n)
		}
		drawn[k] = auc(scores, order)
	}
	slices.Sort(drawn)
	a.Interval = [2]float64{drawn[resamples/40], drawn[resamples-1-resamples/40]}
	return a
}

// auc compares each chosen flow's true score with its false ones against other
// chosen flows; a flow drawn twice is no false pair of itself.
func auc(scores [][]float64, chosen []int) float64 {
	var wins, all float64
	for _, i := range chosen {
		for _, j := range chosen {
			if i == j {
				continue
			}
			for _, wrong := range [2]float64{scores[i][j], scores[j][i]} {
				switch own := scores[i][i]; {
				case own > wrong:
					wins++
				case own == wrong:
					wins += 0.5
				}
				all++
			}
		}
	}
	return wins / all
}
