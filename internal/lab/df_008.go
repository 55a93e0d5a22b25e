package lab

import (
	"context"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/pipeline"
)

const (
	// auditTick is how often events are published, and depthTick how often the depth
	// of the bus is looked at.
	auditTick = 100 * time.Millisecond
	depthTick = time.Second
	// auditWatch is for how long the backlog is watched after the surge: longer than
	// the objective, so that missing it shows.
	auditWatch = 35 * time.Second
)

// auditSurge is DF-008: so many audit events as the compliance store takes with many
// slots only, over a bus on this machine's disk.
func auditSurge(r *Run) error {
	slots := 0
	if !r.Protected {
		slots = 1
	}
	trail, err := startTrail(r.Duration("store_delay_ms", time.Millisecond), slots)
	if err != nil {
		return err
	}
	defer trail.close()
	rate := r.Param("normal_per_second") * r.Param("surge_factor")
	length := time.Duration(r.Param("surge_seconds") * r.Scale * float64(time.Second))
	var events []audit.Event
	begun := time.Now()
	for looked := begun; time.Since(begun) < length; time.Sleep(auditTick) {
		due := int(rate*time.Since(begun).Seconds()) - len(events)
		some := trail.events(audit.AdminAction, due)
		if err := trail.publish(pipeline.Ordinary, some); err != nil {
			return err
		}
		events = append(events, some...)
		if time.Since(looked) < depthTick {
			continue
		}
		looked = time.Now()
		d, err := trail.bus.Depth(context.Background())
		if err != nil {
			return err
		}
		r.Observe("audit_queue_depth", float64(d.Waiting[pipeline.Ordinary]))
	}
	offered := float64(len(events)) / time.Since(begun).Seconds()
	trail.await(len(events), auditWatch)
	missing := uint64(0)
	for i := range events {
		d, there := trail.store.delay(events[i].ID, events[i].Time)
		if !there {
			missing++
		}
		r.ObserveTime("audit_delay", d)
	}
	if d, err := trail.bus.Depth(context.Background()); err == nil { // what waits is not lost
		missing -= min(missing, d.Waiting[pipeline.Ordinary])
	}
	r.Tally("audit_event_lost", missing, uint64(len(events)))
	f := trail.pump.Figures()
	r.Note("%d events at %.0f a second; %d slots at the most, %d events came to the store again", len(events), offered, f.SlotsPeak[pipeline.Ordinary], trail.store.double)
	return nil
}
