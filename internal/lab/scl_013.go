package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
)

// consumeEvery is how often a consumer takes its due.
const consumeEvery = 10 * time.Millisecond

// queue is the requests of one producer on their way to its consumer, on one
// stream: at has when each was taken over, read counts those consumed.
type queue struct {
	p         *pair
	id        uint64
	size      int
	at        []machine.Time
	read      int
	unwritten int // bytes that Write had no room for
	part      int // bytes of the next request that the consumer has
}

// write passes on what Write has room for.
func (q *queue) write() {
	e := q.p.client
	q.p.net.Do(e.Node, func(now machine.Time) {
		for q.unwritten > 0 {
			n, err := e.Write(now, e.ref(q.id), e.buf[:min(q.unwritten, len(e.buf))])
			if q.unwritten -= n; err != nil {
				return
			}
		}
	})
}

// take has the consumer read one request, and reports whether there was one.
func (q *queue) take() (whole bool) {
	e := q.p.server
	q.p.net.Do(e.Node, func(now machine.Time) {
		n, _ := e.Read(now, e.ref(q.id), e.buf[:q.size-q.part])
		if q.part += n; q.part == q.size {
			q.part, whole = 0, true
			q.read++
		}
	})
	return whole
}

// backpressure is SCL-013: producers whose requests cross a session each, half of
// them to a consumer that takes half of what comes. A request's time in the queue
// is from when it was taken over until its consumer has read it; stream_queue_latency is
// what of that the streams tell themselves: until they left, and until they were read.
func backpressure(r *Run) error {
	full, sessions := r.Param("sessions"), r.Scaled("sessions")
	perSecond := r.Param("requests_per_second") / full
	deepest, held := 0, 0
	queued := func(e trace.Event) {
		if e.Kind == trace.StreamQueued {
			r.Observe("stream_queue_latency", time.Duration(e.A).Seconds())
		}
	}
	for i := range sessions {
		p, err := r.newPair(stream.Config{Sink: queued}, sim.Link{Latency: 20 * time.Millisecond, Rate: 4 << 20})
		if err != nil {
			return err
		}
		p.server.fetches = nil // the consumer reads when it can
		q := &queue{p: p, size: int(r.Param("request_bytes"))}
		p.net.Do(p.client.Node, func(now machine.Time) { q.id, err = p.client.core().OpenStream(now, stream.PriorityNormal) })
		if err != nil {
			return err
		}
		end := p.net.Now().Add(r.Duration("seconds", time.Second))
		poissonTimes(p.net, p.net.Rand("requests"), perSecond, end, func(now machine.Time, _ int) {
			q.write()
			if r.Protected && q.unwritten > 0 {
				held++
				return // Write holds the producer back
			}
			q.at = append(q.at, now)
			q.unwritten += q.size
			q.write()
			deepest = max(deepest, len(q.at)-q.read)
		})
		takes := 2 * perSecond
		if float64(i) < r.Param("slow_share")*float64(sessions) {
			takes = perSecond * r.Param("slow_rate")
		}
		due := 0.0
		p.net.Every(p.net.Now().Add(consumeEvery), consumeEvery, func(now machine.Time) bool {
			q.write()
			for due += takes * consumeEvery.Seconds(); due >= 1; due-- {
				if !q.take() {
					due = 0
					break
				}
				r.Observe("request_queue_latency", now.Sub(q.at[q.read-1]).Seconds())
			}
			return now < end
		})
		p.net.RunUntil(end)
		for _, at := range q.at[q.read:] { // still waiting: at least this long
			r.Observe("request_queue_latency", end.Sub(at).Seconds())
		}
	}
	r.Observe("stream_queue_depth", float64(deepest))
	r.Note("%d of %d consumers are slow; %d times a producer made no request, because Write had no room for the last",
		int(r.Param("slow_share")*float64(sessions)), sessions, held)
	return nil
}
