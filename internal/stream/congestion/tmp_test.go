package congestion

import (
	"testing"
	"time"
)

func TestTmp(t *testing.T) {
	loss5, mixes, ext := mixedPath, mixedPath, mixedPath
	loss5.lossPPM = 50_000
	mixes.jitter, mixes.ackJitter, mixes.hops = 30*ms, 30*ms, 3
	ext.jitter, ext.ackJitter, ext.hops = 200*ms, 200*ms, 5
	mix5 := mixes
	mix5.lossPPM = 50_000
	for i, c := range []linkSpec{mixedPath, loss5, mixes, mix5, ext} {
		from, to := 2*time.Second, 3*time.Second
		if i > 0 {
			from, to = 3*time.Second, 8*time.Second
		}
		if i == 4 {
			from, to = 10*time.Second, 18*time.Second
		}
		var worst []uint64
		var q time.Duration
		for seed := uint64(200); seed < 260; seed++ {
			_, f := bulkRun(t, c, New(Config{}), seed, to)
			worst = append(worst, f.goodput(from, to)*8/1e6)
			q = max(q, percentile(f.waits, from, 95))
		}
		sortU(worst)
		t.Log(i, worst, q)
	}
}

func sortU(a []uint64) {
	for i := range a {
		for j := i; j > 0 && a[j] < a[j-1]; j-- {
			a[j], a[j-1] = a[j-1], a[j]
		}
	}
}
