package stream

import (
	"testing"
	"time"
)

// shareOfLine is what two clients download together through one access line in 90 s,
// trials among them: bytes of the first, which has two paths, and of the second,
// which has one and begins later.
func shareOfLine(t *testing.T, cfg Config, later time.Duration) (first, second float64) {
	line := &route{delay: 20 * time.Millisecond, rate: 2_000_000, buffer: 100 * time.Millisecond}
	worlds := []*world{severalPaths(t, 1, cfg, 2), severalPaths(t, 2, cfg, 1)}
	apps := make([]*app, 2)
	ids := make([]uint64, 2)
	run := func(d time.Duration) {
		for range d / time.Millisecond {
			for _, w := range worlds {
				w.run(time.Millisecond)
			}
		}
	}
	for i, w := range worlds {
		for k := range w.routes {
			w.routes[k].line = line
		}
		apps[i] = newApp(w)
		ids[i] = apps[i].open(10, 512<<20, PriorityNormal)
		if i == 0 {
			run(later)
		}
	}
	got := func(i int) float64 { return float64(apps[i].flows[ids[i]].downGot.Len()) }
	run(2 * time.Second)
	a, b := got(0), got(1)
	run(90 * time.Second)
	return got(0) - a, got(1) - b
}

// Paths that share the client's access line take together about one fair share
// of it beside another client's one path. Control: uncoupled, they take more.
func TestPathsAtOneBottleneckTakeOneShare(t *testing.T) {
	const bound = 0.55
	mean := 0.0
	for _, later := range []time.Duration{0, 300 * time.Millisecond, 1900 * time.Millisecond} {
		a, b := shareOfLine(t, Config{}, later)
		t.Logf("%v later: share of two paths beside one %.3f; line used %.3f", later, a/(a+b), (a+b)/90/2e6)
		mean += a / (a + b) / 3
	}
	if mean > bound {
		t.Errorf("two paths took %.3f of the line", mean)
	}
	c, d := shareOfLine(t, Config{greedy: true}, 0)
	t.Logf("uncoupled %.3f", c/(c+d))
	if c/(c+d) <= bound {
		t.Errorf("control: uncoupled paths took %.3f of the line only", c/(c+d))
	}
}
