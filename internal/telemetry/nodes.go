package telemetry

import (
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/wire"
)

// HeardFor is how long what a node said last is taken for what it does: three samples of
// ordinary reports, and what they may be apart.
const HeardFor = 30 * time.Second

// NodeFigures are what the reports of one node come to. Of ten ordinary reports one
// comes: counts of datagrams go on at the rate of the last one, as long as it counts.
type NodeFigures struct {
	// In and Out are datagrams a second, by the last report.
	In, Out float64
	// Came, Sent and Dropped are datagrams, since the first report of RetryWindow.
	Came, Sent float64
	Dropped    uint64
	Strain     float64
	Flags      wire.TelemetryFlags
}

// after are the figures with a report that came some time after the last.
func (f NodeFigures) after(passed time.Duration, t *wire.Telemetry) NodeFigures {
	f = f.now(passed)
	each := 1000 / float64(t.Span)
	f.In, f.Out = float64(t.Came)*each, float64(t.Sent)*each
	f.Dropped += uint64(t.Dropped) * uint64(t.StandsFor)
	f.Strain, f.Flags = control.StrainOf(t), t.Flags
	return f
}

// now are the figures some time after the last report.
func (f NodeFigures) now(passed time.Duration) NodeFigures {
	seconds := min(passed, HeardFor).Seconds()
	f.Came, f.Sent = f.Came+f.In*seconds, f.Sent+f.Out*seconds
	return f
}

// Nodes are what nodes do, by their reports; of one of which nothing counts any more,
// none.
func (c *Collector) Nodes(now time.Time) map[wire.NodeID]NodeFigures {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[wire.NodeID]NodeFigures, len(c.newest))
	for id, h := range c.newest {
		if passed := now.Sub(h.at); passed <= HeardFor {
			out[id] = h.figures.now(passed)
		}
	}
	return out
}

// NetworkFigures are what reports say of the network as a whole.
type NetworkFigures struct {
	// Cover is the cover ratio; negative: too few routes are above their floors.
	Cover float64
	// Lag is how long nine of ten reports take at the most.
	Lag time.Duration
	// Held are sessions that nodes refused for want of room, since the collector began.
	Held uint64
	// Safe are the regions of which nothing is heard.
	Safe []string
}

// Network returns the figures of the network as a whole.
func (c *Collector) Network() NetworkFigures {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := NetworkFigures{Cover: -1, Held: c.held, Lag: time.Duration(c.scheduler.Lag.Quantile(0.9)) * time.Millisecond, Safe: c.scheduler.Safe()}
	if cover, ok := c.scheduler.Cover(); ok {
		f.Cover = cover
	}
	return f
}
