package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
)

// beatBytes is a heartbeat as the control sends it: what an application that
// keeps its own puts into a message.
const beatBytes = 100

// answerFrames is the STREAM frames of an answer of standardBytes.
const answerFrames = 17

// heartbeats is DF-046: the same requests with and without heartbeats, of which
// there are as many as 40 % of all frames.
func heartbeats(r *Run) error {
	alone, err := underHeartbeats(r, false)
	if err != nil {
		return err
	}
	with, err := underHeartbeats(r, true)
	if err != nil {
		return err
	}
	for i, took := range with {
		if before, ok := alone[i]; ok {
			r.Observe("data_delay_increase", float64(took-before)/float64(before))
		}
	}
	r.Note("the same requests at the same times in both runs, the increase taken of each")
	return nil
}

// underHeartbeats returns how long each request took.
func underHeartbeats(r *Run, beats bool) (map[int]time.Duration, error) {
	rate := r.Param("session_bytes_per_second")
	cfg := stream.Config{Congestion: congestion.Fixed, FixedRate: uint64(rate)}
	p, err := r.newPair(cfg, sim.Link{Latency: r.Duration("network_rtt_ms", time.Millisecond) / 2})
	if err != nil {
		return nil, err
	}
	length := time.Duration(float64(r.Duration("seconds", time.Second)) * r.Scale)
	end := p.net.Now().Add(length)
	took := map[int]time.Duration{}
	arrivals := r.Source("requests").Stream("arrivals")
	perSecond := r.Param("load") * rate / standardBytes
	poissonTimes(p.net, arrivals, perSecond, end, func(now machine.Time, i int) {
		p.fetch(stream.PriorityNormal, standardBytes, func(done machine.Time, _ int) { took[i] = done.Sub(now) })
	})
	if beats {
		share := r.Param("heartbeat_share")
		frames := perSecond * answerFrames
		poissonTimes(p.net, r.Source("requests").Stream("heartbeats"), frames*share/(1-share), end, func(machine.Time, int) {
			p.net.Do(p.server.Node, func(now machine.Time) {
				e := p.server
				if !r.Protected {
					id, err := e.core().OpenStream(now, stream.PriorityNormal)
					if err == nil {
						e.Write(now, e.ref(id), e.buf[:beatBytes])
						e.CloseWrite(now, e.ref(id))
						e.StopReading(now, e.ref(id), 0)
					}
					return
				}
				e.core().SendHeartbeat(now)
				e.Touch(e.member)
			})
		})
	}
	before := p.server.counts
	p.net.RunUntil(end.Add(2 * time.Second))
	if beats {
		after := &p.server.counts
		n, content := after[trace.HeartbeatOut]-before[trace.HeartbeatOut], after[trace.ContentOut]-before[trace.ContentOut]
		r.Tally("stream_heartbeat_queue_share", n, n+content)
	}
	return took, nil
}
