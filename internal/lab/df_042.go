package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/wire"
)

// pathFigures is DF-042: routes of sessions end and others take their place all the time,
// while a collector looks at the figures of paths, one look in ten of which is lost. Of a
// path that there is every figure must be there (stream.Cover), and be of the last looks:
// what was seen once says nothing of how the path is now. In the control the collector
// goes by a list of the paths that were there when it was set up.
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
	c := newPathCollector(r.Duration("grace_seconds", time.Second), !r.Protected, func() bool { return draw.IntN(100) < int(100*r.Param("looks_lost")) })
	w.Sim.Every(w.Sim.Now().Add(look), look, func(now machine.Time) bool {
		for u, user := range w.Users {
			for k, st := range user.Core().Figures() {
				judged, told := c.look(now, pathKey{u, k, 0}, &st)
				r.Tally("transport_path_metric_coverage", told, judged)
			}
		}
		c.looks++
		return now < end
	})
	w.Sim.RunUntil(end)
	r.Note("%d looks, %d paths beside each other and one after the other; of those that were there for %v the figures of no more than %[3]v ago must be there", c.looks, c.paths, c.grace)
	return nil
}

// pathKey is a path of a session of a user, as long as it is there.
type pathKey struct {
	user, session int
	path          uint8
}

// pathCollector is who reads the figures of paths.
type pathCollector struct {
	grace time.Duration // for a new path's first figures, and for how long figures are good
	lost  func() bool
	// list is of the paths of the first look, where it is fixed; nil: who is told, is known.
	list        map[pathKey]bool
	told, since map[pathKey]machine.Time // every figure was there; the path is there, and its session moves
	looks       int
	paths       int
}

func newPathCollector(grace time.Duration, fixed bool, lost func() bool) *pathCollector {
	c := &pathCollector{grace: grace, lost: lost, told: map[pathKey]machine.Time{}, since: map[pathKey]machine.Time{}}
	if fixed {
		c.list = map[pathKey]bool{}
	}
	return c
}

// look takes what a session tells, if the look is not lost, and compares it with the paths
// that the session has: so many are judged, and of so many of them all is told.
func (c *pathCollector) look(now machine.Time, at pathKey, st *stream.Stats) (judged, told uint64) {
	if !c.lost() {
		c.take(now, at, st.Paths)
	}
	for id := range uint8(stream.MaxPaths) {
		at.path = id
		since, known := c.since[at]
		switch {
		case st.Known>>id&1 == 0:
			delete(c.since, at)
			delete(c.told, at)
			delete(c.list, at)
		case !known:
			c.since[at] = now
			c.paths++
		case len(st.Paths) == 0: // the session is at rest: its figures begin anew when it moves
			c.since[at] = now
		case now.Sub(since) >= c.grace:
			judged++
			if last, ok := c.told[at]; ok && now.Sub(last) <= c.grace {
				told++
			}
		}
	}
	return judged, told
}

// take notes of which paths every figure is there.
func (c *pathCollector) take(now machine.Time, at pathKey, paths []stream.PathStats) {
	for _, p := range paths {
		at.path = p.ID
		if c.list != nil && c.looks == 0 {
			c.list[at] = true
		}
		if c.list != nil && !c.list[at] {
			continue
		}
		if stream.Cover([]stream.Stats{{Paths: []stream.PathStats{p}}}).Measured == 1 {
			c.told[at] = now
		}
	}
}
