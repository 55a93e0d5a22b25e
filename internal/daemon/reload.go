package daemon

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
)

// keyLook is how often a node looks whether a period of onion keys has begun and
// whether its fleet key was replaced: well within the 5 s that a reload may take.
const keyLook = time.Second

// reloadFleet takes the fleet key from the key directory if it is another than
// the node has. While none can be read the node goes on with its own.
func (n *Node) reloadFleet(now time.Time) error {
	if n.cfg.FleetDir == "" || n.rotateFleet == nil {
		return nil
	}
	key, placed, err := setup.LoadFleet(n.cfg.FleetDir)
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
	n.log.Info("fleet key replaced")
	return nil
}

// reloadBounds are the seconds by which reloads are classed.
var reloadBounds = [...]int{1, 2, 5, 10, 60}

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
	for i < len(reloadBounds) && d > time.Duration(reloadBounds[i])*time.Second {
		i++
	}
	r.classes[i]++
	r.time += d
}

// writeReloads writes the reloads of nodes as histograms.
func writeReloads(w io.Writer, parts []part) {
	const name = "key_reload_duration"
	header := "# HELP " + name + " Seconds from when a key was due to when the node had it.\n# TYPE " + name + " histogram\n"
	for _, p := range parts {
		if p.reloads == nil {
			continue
		}
		fmt.Fprint(w, header)
		header = ""
		p.reloads.write(w, name, p.Name)
	}
}

func (r *reloads) write(w io.Writer, name, part string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := uint64(0)
	for i, in := range r.classes {
		n += in
		le := "+Inf"
		if i < len(reloadBounds) {
			le = strconv.Itoa(reloadBounds[i])
		}
		fmt.Fprintf(w, "%s_bucket{part=%q,le=%q} %d\n", name, part, le, n)
	}
	fmt.Fprintf(w, "%s_sum{part=%q} %g\n%s_count{part=%q} %d\n", name, part, r.time.Seconds(), name, part, n)
}
