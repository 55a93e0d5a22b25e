package trace

import (
	"math/bits"
	"time"
)

// Distribution names one thing of which a machine counts how often it came out
// how large.
type Distribution uint8

// Distributions. All of them but TimingJitter tell content from cover, as counters
// do of which Counter.TellsContent says so.
const (
	// StreamLatency is how long after the last byte that this side wrote to a
	// stream that it opened the next byte came back, in µs: here of streams in lane
	// 0, then in lanes 1, 2, and all others (LatencyOf).
	StreamLatency      Distribution = iota
	_                               // lane 1
	_                               // lane 2
	_                               // lanes above
	StreamQueueOut                  // µs from when bytes were written until they first left
	StreamQueueIn                   // µs from when bytes arrived in order until they were read
	DropDetect                      // µs from the sending of a packet until the word of the hop that dropped it
	MetadataSize                    // bytes of a session packet received that are neither content nor padding
	FECEncode                       // µs from the sending of the first packet without a repair until one of it is sent
	RoutePlanLatency                // µs from when a route was wanted until a path for it was found
	RouteUpdateLatency              // µs from when a route was to leave a node until another carried on in its place
	TimingJitter                    // µs by which the moment of a cell was drawn: before it is sent, and at mixes as a plan has it
	SessionHandshake                // µs from a SESSION_INIT until it was admitted: since it came, or was first sent
	SessionCloseLag                 // µs from the last sign of life of a session until an entry released what it held
	PathFailover                    // µs from when a session's path was last heard until another took its place
	NumDistributions
)

// LatencyLanes is how many distributions latencies have.
const LatencyLanes = StreamQueueOut - StreamLatency

// LatencyOf is the latency of streams in a lane (docs/protocol.md, section 12.7).
func LatencyOf(lane uint8) Distribution {
	return StreamLatency + min(Distribution(lane), LatencyLanes-1)
}

// Distributions are those of one machine, owned by that machine.
type Distributions [NumDistributions]Values

// Observe adds a value; nil takes none.
func (d *Distributions) Observe(of Distribution, value uint64) {
	if d != nil {
		d[of].Observe(value)
	}
}

// ObserveTime adds a duration, in µs; nil takes none.
func (d *Distributions) ObserveTime(of Distribution, t time.Duration) {
	d.Observe(of, uint64(max(t, 0)/time.Microsecond))
}

// Values is how often a thing came out how large, four classes to each doubling,
// up to a minute of µs. It has one owner.
type Values struct {
	Sum, Count uint64
	classes    [classes]uint64
}

const classes = 104

// classOf is the class of a value: values below 4 have one each, then each is told
// by its three highest bits.
func classOf(v uint64) int {
	if v < 4 {
		return int(v)
	}
	e := bits.Len64(v) - 3
	return min(4*e+int(v>>e), classes-1)
}

// classEnd is the least value above a class.
func classEnd(class int) uint64 {
	if class++; class < 4 {
		return uint64(class)
	}
	return uint64(4+class%4) << (class/4 - 1)
}

// Observe adds a value.
func (v *Values) Observe(value uint64) {
	v.classes[classOf(value)]++
	v.Sum += value
	v.Count++
}

// Under is how many values lie below the end of a class: any power of two from 4 on,
// and what divides the way to the next in four.
func (v *Values) Under(end uint64) (n uint64) {
	for class, in := range v.classes {
		if classEnd(class) > end {
			break
		}
		n += in
	}
	return n
}

// Quantile is what q of all values do not exceed, to a quarter of it; 0 without
// values.
func (v *Values) Quantile(q float64) uint64 {
	if v.Count == 0 {
		return 0
	}
	n, want := uint64(0), q*float64(v.Count)
	class := 0
	for ; class < classes-1; class++ {
		if n += v.classes[class]; float64(n) >= want && n > 0 {
			break
		}
	}
	return classEnd(class) - 1
}

// Since returns what was observed after an earlier state of the same values.
func (v *Values) Since(earlier *Values) Values {
	d := Values{Sum: v.Sum - earlier.Sum, Count: v.Count - earlier.Count}
	for i := range d.classes {
		d.classes[i] = v.classes[i] - earlier.classes[i]
	}
	return d
}

// Add adds what other has observed.
func (v *Values) Add(other *Values) {
	v.Sum, v.Count = v.Sum+other.Sum, v.Count+other.Count
	for i := range v.classes {
		v.classes[i] += other.classes[i]
	}
}
