// Package obfs decides when a route emits: regular sending slots whose rate λ
// is that of a class, whatever the user does.
//
// A real cell takes the place of a dummy in a slot that comes anyway, so the
// times of emission are a function of the level, the class and a labelled
// random stream only. They are regular because a pattern of their own would
// mark the user: real cells carry the times of their slots through the network
// to the exit, blurred by the mixes. Of a clock, whose phase is drawn, next to
// nothing is left there, and nothing at all once the exit takes cells in by its
// own clock. A client sends at drawn moments all the same, since a clock on its
// link shows how late a busy process is; the first mix restores the clock
// (Shaper.Spread). What a user's load can move is the class, and that only
// at reviews on a schedule of their own, with a minimum stay
// (docs/protocol.md, section 8).
package obfs

import (
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// Class is a rate of emission λ in cells per second and direction. 0 means no
// shaping: cells leave when they are ready, and nothing else does.
type Class uint16

// Period is the time between two slots. Class 0 has none.
func (c Class) Period() time.Duration { return time.Second / time.Duration(c) }

// Classes in order. 5 to 50 are the mobile profiles; 100 is the interactive
// default.
var Classes = []Class{5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}

// Policy is how a route's class may move.
type Policy struct {
	// Floor is where a route starts and what it never goes below; 0 for FAST.
	Floor Class
	// Ceiling is what it never goes above.
	Ceiling Class
	// Review is the mean time between two looks at the use of a class; each is
	// drawn uniformly within ±25 %, from a stream of its own.
	Review time.Duration
	// MinStay is how long a raised class is kept at the least.
	MinStay time.Duration
}

// Pinned returns p with the class fixed: no use moves it.
func (p Policy) Pinned(c Class) Policy {
	p.Floor, p.Ceiling = c, c
	return p
}

// PolicyOf is the policy of a level. The later the review, the less a change
// of class says about when a transfer began; the price is how long a transfer
// waits for its rate (docs/performance.md).
func PolicyOf(l wire.Level) Policy {
	switch l {
	case wire.Standard:
		return Policy{Floor: 100, Ceiling: 5000, Review: 2 * time.Second, MinStay: 30 * time.Second}
	case wire.High:
		return Policy{Floor: 100, Ceiling: 2000, Review: 15 * time.Second, MinStay: 3 * time.Minute}
	case wire.Extreme:
		return Policy{Floor: 100, Ceiling: 500, Review: time.Minute, MinStay: 10 * time.Minute}
	default:
		return Policy{}
	}
}

// targetUse is the use of a class that steering aims at, in percent: the rest,
// 30 %, is cover. Below lowUse a class is left again after its minimum stay.
const (
	targetUse = 70
	lowUse    = 20
)

// above returns the next class after c within the policy.
func (p Policy) above(c Class) Class {
	for _, k := range Classes {
		if k > c {
			return min(k, p.Ceiling)
		}
	}
	return c
}

// below returns the next class before c within the policy.
func (p Policy) below(c Class) Class {
	for i := len(Classes) - 1; i >= 0; i-- {
		if Classes[i] < c {
			return max(Classes[i], p.Floor)
		}
	}
	return c
}
