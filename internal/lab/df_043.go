package lab

import (
	"context"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/wire"
)

// detectMost is for how long the simulated network is watched after the last failure.
const detectMost = 2 * time.Minute

// captureWatch bounds the wait for incidents in the store: longer than the objective,
// so that missing it shows.
const captureWatch = 65 * time.Second

// incidentCapture is DF-043: nodes fail one after the other, and each failure is to
// stand in the compliance store soon. How long the neighbours take to find it is of
// the real cores on virtual time; how long it then takes to the store is of a node's
// outbox and a bus on this machine's disk, behind a backlog of other events. The two
// are added. In the control there is one lane, and one slot.
func incidentCapture(r *Run) error {
	found, err := r.findFailures()
	if err != nil {
		return err
	}
	slots := 0
	if !r.Protected {
		slots = 1
	}
	trail, err := startTrail(r.Duration("store_delay_ms", time.Millisecond), slots)
	if err != nil {
		return err
	}
	defer trail.close()
	backlog := trail.events(audit.AdminAction, r.Scaled("backlog"))
	if err := trail.publish(pipeline.Ordinary, backlog); err != nil {
		return err
	}
	node, err := trail.outbox(r.Protected)
	if err != nil {
		return err
	}
	defer node.Close()
	ctx, end := context.WithCancel(context.Background())
	defer end()
	var sending sync.WaitGroup
	sending.Go(func() { node.Run(ctx) })
	incidents := trail.events(audit.Incident, len(found))
	for i := range incidents { // each is told of by itself
		incidents[i].Time = time.Now().UTC()
		if err := node.Record(ctx, incidents[i]); err != nil {
			return err
		}
	}
	trail.await(len(backlog)+len(incidents), captureWatch)
	end()
	sending.Wait()
	for i := range incidents {
		d, there := trail.store.delay(incidents[i].ID, incidents[i].Time)
		r.Trial("incident_not_recorded", !there)
		r.ObserveTime("audit_incident_capture_latency", found[i]+d)
		r.ObserveTime("from_node_to_store", d)
	}
	capture := trail.pump.Figures().Capture
	r.Note("%d events waited before %d incidents; audit_incident_capture_latency as the control plane counts it, from when a neighbour was found lost: %d incidents, %d ms at most", len(backlog), len(incidents), capture.Count, capture.Quantile(1)/1000)
	return nil
}

// findFailures has nodes of a simulated network fail, and returns after how long the
// first neighbour of each has found it.
func (r *Run) findFailures() ([]time.Duration, error) {
	var w *Network
	foundAt := map[wire.NodeID]machine.Time{}
	lost := func(peer wire.NodeID, _ link.Reason) {
		if _, known := foundAt[peer]; !known {
			foundAt[peer] = w.Sim.Now()
		}
	}
	var err error
	w, err = r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Mixes: int(r.Param("mix_nodes")), Level: wire.Fast, Hop: wan,
		Gateway: func(c *gateway.Config) { c.Hop.Lost = lost },
		Mix:     func(c *hop.Config) { c.Lost = lost },
	})
	if err != nil {
		return nil, err
	}
	w.AddUsers(int(r.Param("users")))
	if err := w.WaitReadyOrOpen(time.Minute); err != nil {
		return nil, err
	}
	failures := int(r.Param("failures"))
	gap := r.Duration("cascade_gap_s", time.Second)
	begun := w.Sim.Now().Add(10 * time.Second)
	end := begun.Add(time.Duration(failures)*gap + detectMost)
	w.Poisson("messages", r.Param("messages_per_second"), end, func(_ machine.Time, i int) {
		w.Users[i%len(w.Users)].Ask("a", make([]byte, 256), func(machine.Time, []byte, error) {})
	})
	for i, m := range w.Relays[:failures] {
		w.Sim.RunUntil(begun.Add(time.Duration(i) * gap))
		w.Sim.Crash(m.Node)
	}
	w.Sim.RunUntil(end)
	var out []time.Duration
	for i, m := range w.Relays[:failures] {
		at, ok := foundAt[m.ID]
		if !ok {
			at = end
		}
		took := at.Sub(begun.Add(time.Duration(i) * gap))
		r.ObserveTime("failure_detection", took)
		out = append(out, took)
	}
	return out, nil
}
