package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/control/capacity"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// capacityIdle is how many idle sessions are measured.
const capacityIdle = 2000

// measureNodes measures what the simulator cannot tell: time and memory of a
// node that runs alone.
func measureNodes(ctx context.Context, c *capacityRun) (capacity.Cost, error) {
	hop, err := runHop(ctx, Options{Seconds: 1})
	if err != nil {
		return capacity.Cost{}, err
	}
	setup, err := runSetup(ctx, Options{Seconds: 1})
	if err != nil {
		return capacity.Cost{}, err
	}
	idle, err := runIdle(ctx, Options{Sessions: capacityIdle})
	if err != nil {
		return capacity.Cost{}, err
	}
	of := func(f Figure) time.Duration { return time.Duration(f.Value * float64(time.Microsecond)) }
	return capacity.Cost{Hop: of(hop[0]), Setup: of(setup[0]), SessionBytes: idle[0].Value, StreamIn: c.streamIn, MixIn: c.mixIn}, nil
}

// needs is what the nodes of a phase need at the plan's head-room.
func needs(c capacity.Cost, p capacity.Phase) []Figure {
	floor := float64(obfs.PolicyOf(wire.Standard).Floor)
	n, standard := c.Of(p), c.At(floor).Of(p)
	name := func(what string) string { return "phase " + p.Name + ", calculated: " + what }
	return []Figure{
		{Name: name("sessions at a Stream node"), Value: n.Sessions, Unit: "sessions", Note: fmt.Sprintf("%d sessions, %d Stream and %d Mix nodes, %.1f-fold", p.Sessions, p.Streams, p.Mixes, capacity.Headroom)},
		{Name: name("memory of a Stream node for them"), Value: n.StreamBytes / 1e6, Unit: "MB", Note: fmt.Sprintf("%.0f bytes each, measured of %d", c.SessionBytes, capacityIdle)},
		{Name: name("processors of a Stream node"), Value: n.StreamCores, Unit: "cores", Note: fmt.Sprintf("%.2f datagrams a second and session at %v, two ends of a set-up at %v", c.StreamIn, c.Hop, c.Setup)},
		{Name: name("routes at a Mix node"), Value: n.Routes, Unit: "routes"},
		{Name: name("memory of a Mix node for them"), Value: n.MixBytes / 1e6, Unit: "MB", Note: "at rest"},
		{Name: name("processors of a Mix node"), Value: n.MixCores, Unit: "cores", Note: fmt.Sprintf("%.0f datagrams and %.1f set-ups a second", n.MixDatagrams, n.MixSetups)},
		{Name: name("processors of a Stream node, level standard"), Value: standard.StreamCores, Unit: "cores", Note: fmt.Sprintf("every route at its floor, %.0f cells a second each way", floor)},
		{Name: name("processors of a Mix node, level standard"), Value: standard.MixCores, Unit: "cores", Note: fmt.Sprintf("%.0f datagrams a second", standard.MixDatagrams)},
	}
}
