package daemon

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/machine"
)

// gauge measures what a node reports of itself.
type gauge struct {
	mu       sync.Mutex // read is called under it
	draining atomic.Bool
	sent     uint64 // datagrams, at the last report
	at       time.Time
	waits    time.Duration // the longest that the loop kept a caller waiting since
	cover    window
}

// gaugeEvery is how often the loop is asked for its turn, which takes as long as a
// datagram waits for it. In it the round trip to one neighbour is measured: as
// often however many there are and whatever they carry.
const gaugeEvery = time.Second

// sample waits for the loop's turn, in which it calls then with how long it waited.
func (g *gauge) sample(do func(func(machine.Time)) bool, then func(now machine.Time, waited time.Duration)) {
	begun := time.Now()
	do(func(now machine.Time) { then(now, time.Since(begun)) })
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waits = max(g.waits, time.Since(begun))
}

// read makes the figures of a report, and begins anew. The first has no load.
func (g *gauge) read(now time.Time, s drive.Stats, capacity uint32) (load uint8, queue uint16) {
	if elapsed := now.Sub(g.at).Seconds(); !g.at.IsZero() && elapsed > 0 && capacity > 0 {
		used := float64(s.DatagramsOut-g.sent) / elapsed / float64(capacity)
		load = uint8(min(used*directory.LoadMax, directory.LoadMax))
	}
	const step = directory.QueueStep * time.Millisecond
	queue = uint16(min(g.waits/step*directory.QueueStep, directory.QueueMax))
	g.sent, g.at, g.waits = s.DatagramsOut, now, 0
	return load, queue
}

// keepReporting reports to every directory process each round. What is not taken
// is not tried again: the next round says more.
func (n *Node) keepReporting(ctx context.Context) {
	client := n.cfg.client
	if client == nil {
		client = newHTTP()
	}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(gaugeEvery)
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-n.drained:
			i = 0
		case <-tick.C:
			n.gauge.sample(n.host.Do, func(now machine.Time, waited time.Duration) {
				n.links.Measure()
				n.look(now, waited)
			})
			n.tell(time.Now())
		}
		if i%int(directory.RoundLength/gaugeEvery) == 0 {
			n.report(ctx, client)
		}
	}
}

func (n *Node) report(ctx context.Context, client *http.Client) {
	now := time.Now()
	r := &directory.Report{Network: n.cfg.Network, Node: n.id, Time: now.Unix(), Draining: n.gauge.draining.Load()}
	n.gauge.mu.Lock()
	r.Load, r.Queue = n.gauge.read(now, n.host.Snapshot(), n.cfg.Capacity)
	r.Cover = n.gauge.cover.read(now.Unix(), n.covered)
	n.gauge.mu.Unlock()
	if n.overloaded() {
		r.Load = directory.LoadMax
	}
	r.Delays = n.measuredDelays()
	b, err := directory.SignReport(n.cfg.Identity, r)
	if err != nil {
		n.log.Warn("no report", "why", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, directory.RoundLength/2)
	defer cancel()
	var posting sync.WaitGroup
	for _, url := range n.cfg.Directories {
		posting.Go(func() {
			if _, err := exchange(ctx, client, request{server: url, path: reportPath, post: b}); err != nil {
				n.log.Debug("report not taken", "why", err)
			}
		})
	}
	posting.Wait()
}

// Drain says that the node is about to stop: it refuses new sessions and tells
// the authorities, so that routes leave it within half a minute.
func (n *Node) Drain() {
	n.host.Do(func(machine.Time) { n.drain() })
	if !n.gauge.draining.Swap(true) {
		select {
		case n.drained <- struct{}{}:
		default:
		}
	}
}
