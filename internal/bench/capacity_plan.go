package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// capacityHeadroom is by how much the plan's capacity exceeds the peak.
	capacityHeadroom = 1.5
	// capacityRouteLife is how long a route carries until the next is built, of
	// which a session has capacityRoutes.
	capacityRouteLife = 8 * time.Minute
	capacityRoutes    = 2
	// capacityIdle is how many idle sessions are measured, and capacityRouteBytes
	// what a route at rest takes at a Mix node (docs/protocol.md, section 6.6).
	capacityIdle       = 2000
	capacityRouteBytes = 287
)

// nodeCost is what the calculation starts from.
type nodeCost struct {
	hop             time.Duration // processor time of a datagram at a node
	setup           time.Duration // of a set-up
	sessionBytes    float64       // resident at a Stream node, entry and exit of it
	streamIn, mixIn float64       // datagrams a second and session
}

// measureNodes measures what the simulator cannot tell: time and memory of a
// node that runs alone.
func measureNodes(ctx context.Context, c *capacityRun) (*nodeCost, error) {
	hop, err := runHop(ctx, Options{Seconds: 1})
	if err != nil {
		return nil, err
	}
	setup, err := runSetup(ctx, Options{Seconds: 1})
	if err != nil {
		return nil, err
	}
	idle, err := runIdle(ctx, Options{Sessions: capacityIdle})
	if err != nil {
		return nil, err
	}
	of := func(f Figure) time.Duration { return time.Duration(f.Value * float64(time.Microsecond)) }
	return &nodeCost{hop: of(hop[0]), setup: of(setup[0]), sessionBytes: idle[0].Value, streamIn: c.streamIn, mixIn: c.mixIn}, nil
}

// needs calculates what the nodes of a phase need at the plan's head-room.
func (c *nodeCost) needs(p phase) []Figure {
	sessions := capacityHeadroom * float64(p.sessions)
	perStream, perMix := sessions/float64(p.streams), sessions/float64(p.mixes)
	setups := capacityRoutes / capacityRouteLife.Seconds() // a second and session
	cores := func(per, datagrams, setupsEach float64) float64 {
		return per * (datagrams*c.hop.Seconds() + setupsEach*c.setup.Seconds())
	}
	floor := float64(obfs.PolicyOf(wire.Standard).Floor)
	name := func(what string) string { return "phase " + p.name + ", calculated: " + what }
	return []Figure{
		{Name: name("sessions at a Stream node"), Value: perStream, Unit: "sessions", Note: fmt.Sprintf("%d sessions, %d Stream and %d Mix nodes, %.1f-fold", p.sessions, p.streams, p.mixes, capacityHeadroom)},
		{Name: name("memory of a Stream node for them"), Value: perStream * c.sessionBytes / 1e6, Unit: "MB", Note: fmt.Sprintf("%.0f bytes each, measured of %d", c.sessionBytes, capacityIdle)},
		{Name: name("processors of a Stream node"), Value: cores(perStream, c.streamIn, 2*setups), Unit: "cores", Note: fmt.Sprintf("%.2f datagrams a second and session at %v, two ends of a set-up at %v", c.streamIn, c.hop, c.setup)},
		{Name: name("routes at a Mix node"), Value: perMix * capacityRoutes * 3, Unit: "routes"},
		{Name: name("memory of a Mix node for them"), Value: perMix * capacityRoutes * 3 * capacityRouteBytes / 1e6, Unit: "MB", Note: "at rest"},
		{Name: name("processors of a Mix node"), Value: cores(perMix, c.mixIn, 3*setups), Unit: "cores", Note: fmt.Sprintf("%.0f datagrams and %.1f set-ups a second", perMix*c.mixIn, perMix*3*setups)},
		{Name: name("processors of a Stream node, level standard"), Value: cores(perStream, 2*capacityRoutes*2*floor, 2*setups), Unit: "cores", Note: fmt.Sprintf("every route at its floor, %.0f cells a second each way", floor)},
		{Name: name("processors of a Mix node, level standard"), Value: cores(perMix, 3*capacityRoutes*2*floor, 3*setups), Unit: "cores", Note: fmt.Sprintf("%.0f datagrams a second", perMix*3*capacityRoutes*2*floor)},
	}
}
