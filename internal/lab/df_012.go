package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/query"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// alternateWithin is how long a route request may take to find another route:
// two set-ups that time out, and one that stands.
const alternateWithin = 10 * time.Second

// splitDirectory is DF-012: the regions are cut apart, half of the nodes cannot
// be reached nor learnt, and a directory answers seven times of ten.
func splitDirectory(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: 10, Mixes: 15, Level: wire.Fast, Hop: wan, Regions: []string{"near", "far"},
		Client: func(c *client.Config) { c.RoutesPerSession, c.Ahead = 1, 1 }})
	if err != nil {
		return err
	}
	w.Sim.CutRegions("near", "far")
	w.Sim.CutRegions("far", "near")
	for i := range w.nodes { // they have published again, as they do each hour
		if err := w.describe(i, func(n *directory.Node) { n.Version++ }); err != nil {
			return err
		}
	}
	newer, err := w.ViewOf(nil)
	if err != nil {
		return err
	}
	s := &splitShards{Run: r, w: w, before: w.View.Document(), now: newer.Document(), answers: uint64(r.Param("node_response_success") * 1e6)}
	routes := r.Scaled("routes")
	end := w.Sim.Now().Add(time.Duration(routes) * time.Second / routeRate)
	w.Poisson("routes", routeRate, end, func(_ machine.Time, i int) {
		s.requestRoute()
		if i%200 == 0 {
			r.Progress("%d of %d route requests", i, routes)
		}
	})
	w.Sim.RunUntil(end.Add(2 * alternateWithin))
	concentration(r, w)
	if r.Protected {
		r.Note("%d of the views hold a bucket of the document before the split", s.stale)
	}
	return nil
}

// routeRate is the route requests of a second.
const routeRate = 20

// directoryServers is how many servers a user knows; the wait for an answer is a
// round trip of one of them.
const (
	directoryServers = 5
	answerAfter      = 100 * time.Millisecond
)

// splitShards is the directory during the split: of the present document one
// bucket can be had, that of the near region, from servers that answer now and
// then. Of the other the users have what it was before.
type splitShards struct {
	*Run
	w           *Network
	before, now *directory.Document
	answers     uint64 // in a million
	stale       int
}

// requestRoute is one user that needs a route.
func (s *splitShards) requestRoute() {
	w, u := s.w, s.w.AddUser()
	done := false
	end := func(now machine.Time, found bool) {
		if !done {
			done = true
			s.Trial("alternate_route", found)
			w.Sim.At(now, func(machine.Time) { w.Sim.Crash(u.Node) })
		}
	}
	start := w.Sim.Now()
	w.Sim.At(start.Add(alternateWithin), func(now machine.Time) { end(now, false) })
	// A route that stands must carry a request, or it does not count.
	w.Sim.Every(start, 50*time.Millisecond, func(machine.Time) bool {
		if !done && u.Core().Ready() {
			u.Ask("a", make([]byte, 64), func(now machine.Time, _ []byte, err error) { end(now, err == nil) })
			return false
		}
		return !done
	})
	source := s.Source("directory/" + u.Node.Name)
	l := &shardLookup{splitShards: s, user: u, rng: source.Stream("answers"), done: &done,
		servers: query.New(directoryServers, 0, source.Stream("servers")), sample: directory.NewSample(source.Stream("sample"))}
	if s.Protected {
		l.know(s.before, start) // the cache of before the split
	}
	for place, row := range s.now.Rows() {
		l.ask(start, place, row.Region == "near", &query.Lookup{})
	}
}

// shardLookup is a user's search for the buckets of the present document.
type shardLookup struct {
	*splitShards
	user    *User
	rng     *prng.Stream
	servers *query.Servers
	sample  *directory.Sample
	done    *bool
	got     [2]*directory.Bucket // by place
}

// ask asks one server for a bucket, which it has or has lost.
func (l *shardLookup) ask(now machine.Time, place int, there bool, look *query.Lookup) {
	i, patience, ok := l.servers.Next(now, look)
	if !ok || *l.done {
		return
	}
	answered := l.rng.Chance(l.answers) && there
	l.Trial("directory_query_success_ratio", answered)
	if answered {
		l.w.Sim.At(now.Add(answerAfter), func(now machine.Time) {
			l.servers.Answered(i, answerAfter)
			l.got[place] = l.bucket(l.now, place)
			l.know(l.now, now)
		})
		return
	}
	if l.Protected { // without, the answer that did not come is what it knows
		l.w.Sim.At(now.Add(patience), func(now machine.Time) {
			l.servers.Fault(now, i, query.Timeout)
			l.ask(now, place, there, look)
		})
	}
}

func (l *shardLookup) bucket(d *directory.Document, place int) *directory.Bucket {
	b, err := directory.ParseBucket(d.Bucket(place), &d.Header)
	if err != nil {
		panic("lab: bucket of a document that was made here: " + err.Error())
	}
	return b
}

// know gives the user a view of what it has of a document.
func (l *shardLookup) know(d *directory.Document, now machine.Time) {
	v, err := directory.NewPartial(d, l.sample.Picks(d), func(place int) *directory.Bucket {
		switch {
		case d == l.now && l.got[place] != nil:
			return l.got[place]
		case !l.Protected:
			return nil
		case d == l.now:
			l.stale++
		}
		return l.bucket(l.before, place) // places are the same: the nodes are
	})
	if err == nil && !*l.done {
		l.w.Sim.Do(l.user.Node, func(now machine.Time) { l.user.Core().SetView(now, v) })
	}
}

// concentration observes how far routes gather on few mixes: the share of the
// busiest reachable one, as a multiple of an even share.
func concentration(r *Run, w *Network) {
	var most, all, reachable float64
	for i, m := range w.Relays {
		if i%2 != 0 {
			continue
		}
		counts := m.Core().Stats()
		n := float64(counts[trace.SetupDone])
		most, all, reachable = max(most, n), all+n, reachable+1
	}
	if all > 0 {
		r.Observe("route_concentration_index", most*reachable/all)
	}
}
