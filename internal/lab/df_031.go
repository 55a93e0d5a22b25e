package lab

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/aggregate"
	"github.com/nyxnet/nyx/internal/lab/cpu"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// dailyStatistics is DF-031: how long after the end of a day its statistics are there,
// calculated from what one processor takes in here. Reports are folded into hours as
// they come; what is left for the end of the day is its last hour, should all of it be
// late, and to merge the hours of all processes.
func dailyStatistics(r *Run) error {
	const batch = 64
	at := time.Unix(1_800_000_000, 0)
	bodies, bytes := reportBodies(r.Source("reports").Stream("reports"), r.Scaled("reports")/batch, batch, at)
	day, cores := r.Param("bytes_per_day"), r.Param("processors")
	if !r.Protected {
		perByte := keepAndSort(bodies) / float64(bytes)
		r.Observe("analytics_batch_duration", perByte*day/cores/60)
		r.Note("measured here: %.0f MB/s a processor, all values kept and ranked", 1e-6/perByte)
		return nil
	}
	regions := []string{"ap", "eu", "us"}
	c := telemetry.NewCollector(at, func(id wire.NodeID) (string, uint32, bool) {
		return regions[int(id[0])%len(regions)], 1 << 20, true
	})
	c.Follow(at, nil, regions)
	var failed error
	perByte := processor(func() {
		for i, b := range bodies {
			if err := c.Take(at, wire.NodeID{byte(i), byte(i >> 8), 1}, b); err != nil {
				failed = err
			}
		}
	}) / float64(bytes)
	if failed != nil {
		return failed
	}
	hours := c.Turn(at.Add(4 * time.Hour))
	if len(hours) != 1 {
		return fmt.Errorf("%d hours are over, not 1", len(hours))
	}
	hour := hours[0].Append(nil)
	processes := int(r.Param("processes"))
	merging := processor(func() {
		whole := aggregate.New(aggregate.Span{Start: hours[0].Start, Seconds: aggregate.Day})
		for range 24 * processes {
			part, err := aggregate.Parse(hour)
			if err == nil {
				err = whole.Merge(part)
			}
			if err != nil {
				failed = err
			}
		}
	})
	last := perByte * day / 24 / cores
	r.Observe("analytics_batch_duration", (last+merging)/60)
	r.Observe("share_of_processors_all_day", perByte*day/86400/cores)
	r.Observe("merge_seconds", merging)
	r.Note("measured here: %.0f MB/s a processor from bytes to hours; 24 hours of %d processes of %d bytes merged in %.0f ms; calculated for %g processors", 1e-6/perByte, processes, len(hour), merging*1e3, cores)
	return failed
}

// processor is the processor time of f, in seconds.
func processor(f func()) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := cpu.Thread()
	f()
	return (cpu.Thread() - before).Seconds()
}

// reportBodies are bodies of reports as nodes send them, each of one node, and how many
// bytes they have together.
func reportBodies(draw *prng.Stream, count, each int, at time.Time) (bodies [][]byte, bytes int) {
	for range count {
		var b []byte
		for i := range each {
			t := wire.Telemetry{StandsFor: 10, Millis: at.UnixMilli() + int64(i), Span: 1000, Capacity: 100_000,
				Sent: uint32(draw.IntN(100_000)), Queue: uint16(draw.IntN(100))}
			t.Came = t.Sent
			for place := range uint8(draw.IntN(4)) {
				t.Classes = append(t.Classes, wire.TelemetryClass{Place: 4 + place,
					Routes: uint16(16 * draw.IntN(50)), Use: uint8(5 * draw.IntN(21))})
			}
			b = t.Append(b)
		}
		bodies, bytes = append(bodies, b), bytes+len(b)
	}
	return bodies, bytes
}

// keepAndSort is the control: the values of a day are kept, and ranked after its end.
func keepAndSort(bodies [][]byte) float64 {
	return processor(func() {
		values := map[aggregate.Key][]uint64{}
		for _, b := range bodies {
			for len(b) > 0 {
				t, n, err := wire.ParseTelemetry(b)
				if err != nil {
					panic("lab: " + err.Error())
				}
				b = b[n:]
				keep := func(k aggregate.Key, v uint64) { values[k] = append(values[k], v) }
				keep(aggregate.Key{Name: "load"}, uint64(1000*t.Load()))
				keep(aggregate.Key{Name: "queue"}, uint64(t.Queue))
				for _, c := range t.Classes {
					keep(aggregate.Key{Name: "use", Class: uint16(c.Place)}, uint64(c.Use))
				}
			}
		}
		for _, v := range values { // each by itself: the order reaches nothing
			slices.Sort(v)
		}
	})
}
