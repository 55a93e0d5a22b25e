package daemon

import (
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/telemetry"
)

// keyLook is how often a node looks whether a period of onion keys has begun and
// whether its fleet key was replaced: well within the 5 s that a reload may take.
const keyLook = time.Second

// reloadFleet takes the fleet key from where it is kept if it is another than the
// node has. While none can be read the node goes on with its own.
func (n *Node) reloadFleet(now time.Time) error {
	if n.cfg.LoadFleet == nil || n.rotateFleet == nil {
		return nil
	}
	key, placed, err := n.cfg.LoadFleet()
	if err != nil {
		return err
	}
	if seal.Equal(key[:], n.cfg.Fleet[:]) {
		key.Clear()
		return nil
	}
	n.host.Do(func(now machine.Time) { n.rotateFleet(now, key) })
	n.cfg.Fleet.Clear()
	n.cfg.Fleet = key
	n.reloads.observe(now.Sub(placed))
	n.log.Info("fleet key replaced", telemetry.Important())
	n.teller.tell(audit.Event{Kind: audit.KeyEvent, Action: "rotate", Subject: "fleet"})
	return nil
}

// reloadBounds are the times by which reloads are classed.
var reloadBounds = [...]time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, time.Minute}

// reloads are the keys that a node has taken while it ran, by the time from when
// they were due to when the machine had them.
type reloads struct {
	mu      sync.Mutex
	classes [len(reloadBounds) + 1]uint64
	time    time.Duration
}

func (r *reloads) observe(d time.Duration) {
	d = max(d, 0) // another clock may have set the file's time
	r.mu.Lock()
	defer r.mu.Unlock()
	i := 0
	for i < len(reloadBounds) && d > reloadBounds[i] {
		i++
	}
	r.classes[i]++
	r.time += d
}

// writeReloads writes the reloads of nodes.
func writeReloads(to *metric.Page, parts []part) {
	for _, p := range parts {
		if p.reloads != nil {
			to.Distribute("key_reload_duration", p.reloads.distribution(), "part", p.Name)
		}
	}
}

func (r *reloads) distribution() metric.Distribution {
	r.mu.Lock()
	defer r.mu.Unlock()
	return classed(r.classes[:], func(class int) time.Duration { return reloadBounds[class] }, r.time)
}
