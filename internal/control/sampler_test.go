package control

import (
	"math"
	"testing"

	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// Of ten ordinary reports one is sent, nothing important is left out, and what is sent
// stands for all.
func TestSampler(t *testing.T) {
	s, e := NewSampler(prng.FromUint64(1).Stream("sampler")), NewEstimator()
	sent, dropped, places := 0, uint64(0), map[int]int{}
	const periods = 10_000
	for i := range periods {
		m := wire.Telemetry{Span: 1000, Capacity: 1000, Sent: uint32(500 + 400*math.Sin(float64(i)*2*math.Pi/10))}
		if i%500 == 77 {
			m.Came, m.Dropped = 100, 7
			dropped += 7
		}
		if s.Take(&m) {
			sent++
			places[i%10]++
			e.Take(wire.NodeID{1}, &m)
		} else if m.Dropped > 0 {
			t.Fatal("drops are sampled away")
		}
	}
	f := e.Next()
	rate, ok := f.SamplingError()
	if sent < periods/10 || sent > periods/10+periods/500+1 || f.Dropped != dropped || f.Load.Count < periods-20 || f.Load.Count > periods {
		t.Errorf("%d of %d sent, for %d; %d of %d drops", sent, periods, f.Load.Count, f.Dropped, dropped)
	}
	if off := math.Abs(float64(f.Sent)/(500*periods) - 1); !ok || off > 0.05 || math.Abs(rate-off) > 0.01 {
		t.Errorf("off by %.3f, by what it says itself by %.3f", off, rate)
	}
	for i := range 10 { // a load with the rhythm of the samples would fool it otherwise
		if places[i] < 50 {
			t.Errorf("%d of the samples are in place %d", places[i], i)
		}
	}
	if e.Next().Reports != 0 {
		t.Error("a period begins with the last one's figures")
	}
}

// Being overloaded is told each period, and that it ended once.
func TestSamplerTellsStates(t *testing.T) {
	s := NewSampler(prng.FromUint64(2).Stream("sampler"))
	s.OneIn = 1
	for i, flags := range []wire.TelemetryFlags{0, wire.TelemetryOverloaded, wire.TelemetryOverloaded, 0, wire.TelemetryDraining} {
		m := wire.Telemetry{Flags: flags}
		if !s.Take(&m) || m.StandsFor != 1 {
			t.Errorf("report %d is not sent", i)
		}
	}
}

// What leaves a node is of crowds, coarse, and hides one route more or less.
func TestClassesHideRoutes(t *testing.T) {
	window := func(routes uint64) (r obfs.Report) {
		r.Above[class500] = obfs.Tally{All: routes * 500 * 300, Real: routes * 500 * 300 * 72 / 100}
		r.Above[4] = obfs.Tally{All: 20 * 100 * 300, Real: 1}
		return r
	}
	draw := prng.FromUint64(3).Stream("noise")
	told, sum := map[uint16]int{}, 0
	const windows = 2000
	for range windows {
		c := Classes(window(200), draw)
		if len(c) != 1 || c[0].Place != class500 || c[0].Use != 70 || c[0].Routes%wire.TelemetryRoutesStep != 0 {
			t.Fatalf("told %+v", c)
		}
		told[c[0].Routes]++
		sum += int(c[0].Routes)
	}
	if mean := float64(sum) / windows; math.Abs(mean-200) > 4 || len(told) < 5 || told[192] > windows*2/3 {
		t.Errorf("mean %.1f, %d figures: %v", mean, len(told), told)
	}
}
