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
// of it beside another client's one path. Control: uncoupled, they take more.
func TestPathsAtOneBottleneckTakeOneShare(t *testing.T) {
	const bound = 0.55
	a, b := shareOfLine(t, 1, Config{}, 2)
	c, d := shareOfLine(t, 1, Config{greedy: true}, 2)
	t.Logf("share of two paths beside one %.3f, uncoupled %.3f; line used %.3f", a/(a+b), c/(c+d), (a+b)/30/2e6)
	if a/(a+b) > bound {
		t.Errorf("two paths took %.3f of the line", a/(a+b))
	}
	if c/(c+d) <= bound {
		t.Errorf("control: uncoupled paths took %.3f of the line only", c/(c+d))
	}
}
