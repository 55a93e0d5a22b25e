package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// floorClass is where the control pins every route: the lowest of the classes.
const floorClass obfs.Class = 5

// baseline is SCL-001: small requests through STANDARD routes, in the
// interactive default class, over a network of 100 ms.
func baseline(r *Run) error {
	hop := sim.Link{Latency: r.Duration("network_rtt_ms", time.Millisecond) / 2 / 5}
	began := false
	answered := func(e trace.Event) {
		if began && e.Kind == trace.StreamAnswered {
			r.ObserveTime("stream_latency_p95", time.Duration(e.A))
		}
	}
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Mixes: int(r.Param("mix_nodes")),
		Level: wire.Standard, Hop: hop,
		Gateway: func(c *gateway.Config) {
			if !r.Protected {
				c.Class = floorClass
			}
		},
		Client: func(c *client.Config) {
			c.Ahead, c.Stream.Sink = -1, answered
			if !r.Protected {
				c.Class = floorClass
			}
		}})
	if err != nil {
		return err
	}
	users := int(r.Param("requests_per_second")) / requestsPerUser
	w.AddUsers(users)
	if err := w.WaitReadyOrOpen(60 * time.Second); err != nil {
		return err
	}
	length := time.Duration(float64(r.Duration("seconds", time.Second)) * r.Scale)
	end := w.Sim.Now().Add(length)
	began = true
	open, payload := map[int]machine.Time{}, make([]byte, int(r.Param("payload_bytes")))
	failed, sent := 0, 0
	w.Poisson("requests", r.Param("requests_per_second"), end, func(now machine.Time, i int) {
		open[i] = now
		sent++
		w.Users[i%users].Ask("a", payload, func(_ machine.Time, _ []byte, err error) {
			delete(open, i)
			if err != nil {
				failed++
			}
		})
	})
	w.Sim.RunUntil(end.Add(2 * time.Second))
	for i := range sent {
		if at, ok := open[i]; ok { // still waiting: at least this long
			r.ObserveTime("stream_latency_p95", w.Sim.Now().Sub(at))
		}
	}
	r.Tally("request_error", uint64(failed), uint64(sent))
	r.Note("%d users with one session each, %d requests a second each; those unanswered at the end count with their age", users, requestsPerUser)
	r.Note("no cache of connection information lies on this path: the precondition on its hit rate holds without effect")
	return nil
}

// requestsPerUser is the request rate of one session.
const requestsPerUser = 20
