// Package capacity calculates what the nodes of a network need for so many sessions,
// from what was measured of one hop, one set-up and sessions at rest. It is pure.
package capacity

import "time"

const (
	// Headroom is by how much capacity exceeds the peak (the specification's plan).
	Headroom = 1.5
	// RouteLife is how long a route carries until the next is built, Routes how many a
	// session has, Mixes how many Mix nodes each has unless a cost says otherwise.
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
	// Mixes is how many Mix nodes a route has; 0: Mixes of the plan.
	Mixes int
}

// At is c where every route emits so many cells a second, each way, whatever its user
// does.
func (c Cost) At(floor float64) Cost {
	c.StreamIn, c.MixIn = 2*Routes*2*floor, float64(c.mixes())*Routes*2*floor
	return c
}

func (c Cost) mixes() int {
	if c.Mixes == 0 {
		return Mixes
	}
	return c.Mixes
}

// streamCores and mixCores are the processors of all nodes of a kind for a session.
func (c Cost) streamCores() float64 { return c.cores(c.StreamIn, 2) }

func (c Cost) mixCores() float64 { return c.cores(c.MixIn, float64(c.mixes())) }

func (c Cost) cores(datagrams, hops float64) float64 {
	return datagrams*c.Hop.Seconds() + hops*setups*c.Setup.Seconds()
}

// setups are those of a session in a second, each at so many nodes as a route has.
const setups = float64(Routes) / (float64(RouteLife) / float64(time.Second))

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
	routes := perMix * Routes * float64(c.mixes())
	return Need{
		Sessions: perStream, Routes: routes,
		StreamBytes: perStream * c.SessionBytes, MixBytes: routes * RouteBytes,
		StreamCores: perStream * c.streamCores(), MixCores: perMix * c.mixCores(),
		MixDatagrams: perMix * c.MixIn, MixSetups: perMix * float64(c.mixes()) * setups,
	}
}
