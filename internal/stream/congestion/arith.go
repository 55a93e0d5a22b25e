package congestion

import (
	"math/bits"
	"time"
)

// All arithmetic is on integers, rounding down, so that every architecture
// computes the same windows and a run repeats exactly from its seed.

// unit is one in the fixed-point gains: a gain of 1.25 is 320.
const unit = 256

// scale returns v × gain / unit.
func scale(v, gain uint64) uint64 { return mulDiv(v, gain, unit) }

// mulDiv returns a × b / c over 128 bits, saturating.
func mulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi == 0 {
		return lo / c
	}
	if hi >= c {
		return ^uint64(0)
	}
	q, _ := bits.Div64(hi, lo, c)
	return q
}

// volume is what rate bytes per second delivers in d.
func volume(rate uint64, d time.Duration) uint64 {
	return mulDiv(rate, uint64(max(d, 0)), uint64(time.Second))
}

// rateOf is bytes per second for n bytes in d, at most rateMax.
func rateOf(n uint64, d time.Duration) uint64 {
	return min(mulDiv(n, uint64(time.Second), uint64(max(d, 1))), rateMax)
}

// clampWindow bounds a window between least and windowMax bytes.
func clampWindow(v uint64, least int) int {
	return max(int(min(v, windowMax)), least)
}

// smooth is the 1/8 moving average of RFC 6298; zero old means none yet.
func smooth(old, sample time.Duration) time.Duration {
	if old == 0 {
		return sample
	}
	return old + (sample-old)/8
}
