package stream

import (
	"testing"
	"time"
)

// shareOfLine is what two clients download together through one access line: bytes
// of the first, which has several paths, and of the second, which has one.
func shareOfLine(t *testing.T, seed uint64, cfg Config, paths int) (first, second float64) {
	line := &route{delay: 20 * time.Millisecond, rate: 2_000_000, buffer: 100 * time.Millisecond}
	worlds := []*world{severalPaths(t, seed, cfg, paths), severalPaths(t, seed+100, cfg, 1)}
	apps := make([]*app, 2)
	ids := make([]uint64, 2)
	for i, w := range worlds {
		for k := range w.routes {
			w.routes[k].line = line
		}
		apps[i] = newApp(w)
		ids[i] = apps[i].open(10, 256<<20, PriorityNormal)
	}
	run := func(d time.Duration) {
		for range d / time.Millisecond {
			for _, w := range worlds {
				w.run(time.Millisecond)
			}
		}
	}
	got := func(i int) float64 { return float64(apps[i].flows[ids[i]].downGot.Len()) }
	run(10 * time.Second)
	a, b := got(0), got(1)
	run(30 * time.Second)
	return got(0) - a, got(1) - b
}

// Paths that share the client's access line take together about one fair share
// of it beside another client's one path. Control: uncoupled, they take two.
func TestPathsAtOneBottleneckTakeOneShare(t *testing.T) {
	for seed := range uint64(2) {
		a, b := shareOfLine(t, seed, Config{}, 2)
		c, d := shareOfLine(t, seed, Config{uncoupled: true}, 2)
		t.Logf("seed %d: share of two paths beside one %.3f, uncoupled %.3f; line used %.3f", seed, a/(a+b), c/(c+d), (a+b)/30/2e6)
		if a/(a+b) > 0.57 {
			t.Errorf("seed %d: two paths took %.3f of the line", seed, a/(a+b))
		}
		if c/(c+d) < 0.6 {
			t.Errorf("control: seed %d: uncoupled paths took %.3f of the line only", seed, c/(c+d))
		}
	}
}
