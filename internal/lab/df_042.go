package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/wire"
)

// pathFigures is DF-042: routes of sessions end and others take their place all the time,
// while a collector looks at the figures of paths, one look in ten of which is lost. A
// path that there is must have its figures as soon as it has carried something. In the
// control the collector knows the paths that were there when it was set up.
func pathFigures(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: 4, Mixes: 12, Level: wire.Fast, Hop: wan,
		Client: func(c *client.Config) {
			c.RoutesPerSession, c.RouteTTL = int(r.Param("paths")), r.Duration("route_ttl_seconds", time.Second)
		}})
	if err != nil {
		return err
	}
	w.AddUsers(int(r.Param("sessions")))
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	end := w.Sim.Now().Add(time.Duration(r.Scale * float64(r.Duration("seconds", time.Second))))
	w.Poisson("messages", r.Param("messages_per_second"), end, func(_ machine.Time, i int) {
		w.Users[i%len(w.Users)].Ask("a", make([]byte, 4096), func(machine.Time, []byte, error) {})
	})
	look := r.Duration("look_seconds", time.Second)
	draw := w.Sim.Rand("looks")
	c := &pathCollector{lost: func() bool { return draw.IntN(100) < int(100*r.Param("looks_lost")) }, fixed: !r.Protected,
		seen: map[pathKey]machine.Time{}, since: map[pathKey]machine.Time{}, grace: r.Duration("grace_seconds", time.Second)}
	w.Sim.Every(w.Sim.Now().Add(look), look, func(now machine.Time) bool {
		for u, user := range w.Users {
			for k, st := range user.Core().Figures() {
				c.look(now, pathKey{u, k, 0}, &st, r)
			}
		}
		c.looks++
		return now < end
	})
	w.Sim.RunUntil(end)
	r.Note("%d looks, %d paths beside each other and one after the other; of those that had carried something for %v the figures must be there", c.looks, c.paths, c.grace)
	return nil
}

// pathKey is a path of a session of a user, as long as it is there.
type pathKey struct {
	user, session int
	path          uint8
}

// pathCollector is who reads the figures of paths.
type pathCollector struct {
	lost        func() bool
	fixed       bool // knows the paths of its first look only
	grace       time.Duration
	seen, since map[pathKey]machine.Time // figures last seen; path there since
	looks       int
	paths       int
}

// look compares the figures that a session tells with the paths that it has.
func (c *pathCollector) look(now machine.Time, at pathKey, st *stream.Stats, r *Run) {
	if !c.lost() {
		for _, p := range st.Paths {
			at.path = p.ID
			if _, known := c.since[at]; p.RTT > 0 && p.Sent > 0 && (!c.fixed || c.looks == 0 || known && c.seen[at] != 0) {
				c.seen[at] = now
			}
		}
	}
	for id := range uint8(16) {
		at.path = id
		there := st.Known>>id&1 == 1
		since, known := c.since[at]
		switch {
		case !there:
			delete(c.since, at)
			delete(c.seen, at)
		case !known:
			c.since[at] = now
			c.paths++
		case now.Sub(since) >= c.grace && len(st.Paths) > 0: // a session at rest has no figures, and needs none
			r.Trial("transport_path_metric_coverage", c.seen[at] != 0)
		}
	}
}
