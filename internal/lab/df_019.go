package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/directory/query"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/sim"
)

// lateAnswers is DF-019: the round trips to the directory's servers grow; do
// look-ups still find what they ask for, in a time in which a session can begin?
func lateAnswers(r *Run) error {
	n := r.Network(sim.Link{})
	w := &slowDirectory{
		Run: r, sim: n, before: r.Duration("rtt_before_ms", time.Millisecond), mean: r.Duration("rtt_mean_ms", time.Millisecond),
		limit: r.Duration("limit_ms", time.Millisecond), draw: n.Rand("rtt"),
		servers: query.New(int(r.Param("replicas")), int(r.Param("authorities")), r.Source("query").Stream("draw")),
	}
	if !r.Protected {
		w.servers.Fixed = r.Duration("fixed_ms", time.Millisecond)
	}
	lookups := r.Scaled("lookups")
	gap := time.Duration(float64(time.Second) / r.Param("lookups_per_second"))
	w.slow = machine.Time(lookups/10) * machine.Time(gap) // the first tenth is before it
	for i := range lookups {
		n.At(machine.Time(i)*machine.Time(gap), w.begin)
	}
	n.RunUntil(machine.Time(lookups)*machine.Time(gap) + machine.Time(time.Minute))
	s := w.servers.Stats
	r.Tally("directory_timeout_events", s.Faults[query.Timeout], s.Queries)
	r.Note("%d look-ups with %d queries, of which %d were late; a client asks one of %d servers at a time", lookups, s.Queries, s.Faults[query.Timeout], int(r.Param("replicas")+r.Param("authorities")))
	return nil
}

// slowDirectory is the servers of a directory, seen by one client.
type slowDirectory struct {
	*Run
	sim                 *sim.Network
	servers             *query.Servers
	before, mean, limit time.Duration
	slow                machine.Time // when round trips grow
	draw                *prng.Stream
}

// roundTrip is two thirds a way that does not change, one that waits in queues.
func (w *slowDirectory) roundTrip(now machine.Time) time.Duration {
	mean := w.before
	if now >= w.slow {
		mean = w.mean
	}
	return mean*2/3 + w.draw.Exp(mean/3)
}

// lookup is one search, with what is asked now.
type lookup struct {
	query.Lookup
	begun machine.Time
	done  bool
	asked int // queries so far
}

func (w *slowDirectory) begin(now machine.Time) {
	l := &lookup{begun: now}
	counted := now >= w.slow
	w.sim.At(now.Add(w.limit), func(machine.Time) {
		if counted {
			w.Trial("lookup_success", l.done)
		}
	})
	w.ask(now, l)
}

func (w *slowDirectory) ask(now machine.Time, l *lookup) {
	i, patience, ok := w.servers.Next(now, &l.Lookup)
	if !ok {
		return
	}
	l.asked++
	number, answered := l.asked, false
	took := w.roundTrip(now)
	w.sim.At(now.Add(took), func(now machine.Time) {
		late := took > patience
		if late && !w.Protected {
			return // nobody waits for it any more
		}
		answered = true
		w.servers.Answered(i, took)
		if !l.done {
			l.done = true
			w.ObserveTime("lookup_latency", now.Sub(l.begun))
		}
	})
	w.sim.At(now.Add(patience), func(now machine.Time) {
		if answered || l.done {
			return
		}
		w.servers.Fault(now, i, query.Timeout)
		if number == l.asked {
			w.ask(now, l)
		}
	})
}
