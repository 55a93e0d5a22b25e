package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
)

// Answers of the two classes: small ones that somebody waits for, and larger.
const (
	highBytes     = 4 << 10
	standardBytes = 16 << 10
)

// classes is DF-005: two classes share sessions that carry as much as they can.
func classes(r *Run) error {
	rate := r.Param("session_bytes_per_second")
	high := stream.PriorityHigh
	if !r.Protected {
		high = stream.PriorityNormal
	}
	cfg := stream.Config{Congestion: congestion.Fixed, FixedRate: uint64(rate), Sink: func(e trace.Event) {
		if e.Kind == trace.StreamAnswered && e.B == uint64(high) {
			r.ObserveTime("stream_latency_p95", time.Duration(e.A))
		}
	}}
	for range r.Scaled("sessions") {
		p, err := r.newPair(cfg, sim.Link{Latency: r.Duration("network_rtt_ms", time.Millisecond) / 2})
		if err != nil {
			return err
		}
		end := p.net.Now().Add(r.Duration("seconds", time.Second))
		refused := 0
		waiting := map[uint64]machine.Time{} // of the high class
		load := func(label string, l stream.Lane, share, size float64, waits map[uint64]machine.Time, series string) {
			poissonTimes(p.net, p.net.Rand(label), share*rate/size, end, func(now machine.Time, _ int) {
				var id uint64
				id, ok := p.fetch(l, int(size), func(done machine.Time, _ int) {
					delete(waits, id)
					r.ObserveTime(series, done.Sub(now))
				})
				if !ok {
					refused++
				} else if waits != nil {
					waits[id] = now
				}
			})
		}
		load("high", high, r.Param("high_share"), highBytes, waiting, "high_answer_whole")
		load("standard", stream.PriorityNormal, r.Param("standard_share"), standardBytes, nil, "standard_answer_whole")
		p.net.RunUntil(end)
		for _, begun := range waiting { // at least this long
			r.ObserveTime("high_answer_whole", end.Sub(begun))
		}
		if refused > 0 {
			r.Note("%d requests found no room for a stream", refused)
		}
	}
	r.Note("content alone fills the session's rate; headers make it some 3 %% more, so that the standard class queues. Answers of %d bytes (high) and %d", highBytes, standardBytes)
	return nil
}
