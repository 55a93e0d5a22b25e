// Package capacity calculates what the nodes of a network need for so many sessions,
// from what was measured of one hop, one set-up and sessions at rest. It is pure.
package capacity

import (
	"math"
	"time"
)

const (
	// Headroom is by how much capacity exceeds the peak (the specification's plan).
	Headroom = 1.5
	// RouteLife is how long a route carries until the next is built, Routes how many a
	// session has, Mixes how many Mix nodes each has.
	RouteLife = 8 * time.Minute
	Routes    = 2
	Mixes     = 3
	// RouteBytes is what a route at rest takes at a Mix node (docs/protocol.md, section
	// 6.6).
	RouteBytes = 287
)

// Phase is a step of the specification's plan.
type Phase struct {
	Name                     string
	Sessions, Streams, Mixes int
}

// Phases are those of the plan, the smallest first.
var Phases = []Phase{
	{"alpha", 10_000, 10, 15}, {"beta", 100_000, 50, 75}, {"gamma", 500_000, 200, 300}, {"delta", 1_000_000, 400, 600},
}

// Cost is what was measured.
type Cost struct {
	Hop          time.Duration // processor time of a datagram at a node
	Setup        time.Duration // of a set-up
	SessionBytes float64       // of one at rest at a Stream node, entry and exit of it
	// StreamIn and MixIn are the datagrams that the nodes of a kind take in, a second
	// and session.
	StreamIn, MixIn float64
}

// At is c where every route emits so many cells a second, each way, whatever its user
// does.
func (c Cost) At(floor float64) Cost {
	c.StreamIn, c.MixIn = 2*Routes*2*floor, Mixes*Routes*2*floor
	return c
}

// Need is what one node of each kind needs at the plan's head-room.
type Need struct {
	Sessions, Routes        float64 // at a Stream node; at a Mix node
	StreamBytes, MixBytes   float64 // resident for them
	StreamCores, MixCores   float64 // processors
	MixDatagrams, MixSetups float64 // a second
}

// Of is what the nodes of a phase need.
func (c Cost) Of(p Phase) Need {
	sessions := Headroom * float64(p.Sessions)
	perStream, perMix := sessions/float64(p.Streams), sessions/float64(p.Mixes)
	setups := Routes / RouteLife.Seconds() // a second and session
	cores := func(per, datagrams, setupsEach float64) float64 {
		return per * (datagrams*c.Hop.Seconds() + setupsEach*c.Setup.Seconds())
	}
	return Need{
		Sessions: perStream, Routes: perMix * Routes * Mixes,
		StreamBytes: perStream * c.SessionBytes, MixBytes: perMix * Routes * Mixes * RouteBytes,
		StreamCores: cores(perStream, c.StreamIn, 2*setups), MixCores: cores(perMix, c.MixIn, Mixes*setups),
		MixDatagrams: perMix * c.MixIn, MixSetups: perMix * Mixes * setups,
	}
}

// For returns the nodes for so many sessions: as many to each as in the plan's phase
// that reaches so far, and more where nodes of so many processors would not do.
func (c Cost) For(sessions int, cores float64) Phase {
	p := Phases[len(Phases)-1]
	for _, one := range Phases {
		if one.Sessions >= sessions {
			p = one
			break
		}
	}
	share := func(nodes int) int {
		return int(math.Ceil(float64(sessions) * float64(nodes) / float64(p.Sessions)))
	}
	out := Phase{p.Name, sessions, max(2, share(p.Streams)), max(Mixes, share(p.Mixes))}
	if n := c.Of(out); cores > 0 {
		out.Streams = max(out.Streams, int(math.Ceil(float64(out.Streams)*n.StreamCores/cores)))
		out.Mixes = max(out.Mixes, int(math.Ceil(float64(out.Mixes)*n.MixCores/cores)))
	}
	return out
}
