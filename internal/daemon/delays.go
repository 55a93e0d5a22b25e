package daemon

import (
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/metric"
)

// delays are what a part knows of the round trips between regions. It is safe for
// concurrent use.
type delays struct {
	known atomic.Pointer[[]directory.Delay]
}

func (d *delays) set(known []directory.Delay) { d.known.Store(&known) }

func (d *delays) get() []directory.Delay {
	if p := d.known.Load(); p != nil {
		return *p
	}
	return nil
}

// measuredDelays are what the node has found out of the way to its neighbours.
func (n *Node) measuredDelays() (found []directory.RegionDelay) {
	n.host.Do(func(machine.Time) {
		if n.view != nil {
			found = directory.RegionDelays(n.view, n.links.RoundTrips())
		}
	})
	told := make([]directory.Delay, len(found))
	for i, d := range found {
		told[i] = directory.Delay{From: n.cfg.Region, To: d.Region, Millis: d.Millis}
	}
	n.delays.set(told)
	return found
}

// writeDelays writes the delays between different regions that parts know.
func writeDelays(to *metric.Page, parts []part) {
	for i := range parts {
		for _, d := range parts[i].delays {
			if d.From != d.To {
				to.Add("latency_cross_region", (time.Duration(d.Millis) * time.Millisecond).Seconds(), "part", parts[i].Name, "from", d.From, "to", d.To)
			}
		}
	}
}
