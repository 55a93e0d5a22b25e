package trace

import (
	"math"
	"testing"
)

func TestGini(t *testing.T) {
	for _, c := range []struct {
		loads []uint64
		want  float64
	}{
		{nil, 0}, {[]uint64{0, 0}, 0}, {[]uint64{7, 7, 7}, 0}, {[]uint64{0, 0, 0, 8}, 0.75},
		{[]uint64{6, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 0.3},
	} {
		if got := Gini(c.loads); math.Abs(got-c.want) > 0.001 {
			t.Errorf("%v: %v, want %v", c.loads, got, c.want)
		}
	}
}
