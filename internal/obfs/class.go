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
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// Class is a rate of emission λ in cells per second and direction. 0 means no
// shaping: cells leave when they are ready, and nothing else does.
type Class uint16

// Period is the time between two slots at the class's nominal rate. Class 0 has
// none.
func (c Class) Period() time.Duration { return time.Second / time.Duration(c) }

// Classes in order. 5 to 50 are the mobile profiles; 100 is the interactive
// default.
var Classes = [wire.CoverClasses]Class{5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}

// Policy is how a route's class may move.
type Policy struct {
	// Floor is where a route starts and what it never goes below; 0 for FAST.
	Floor Class
	// Ceiling is what it never goes above.
	Ceiling Class
	// Review is the mean time between two looks at the use of a class; each is
	// drawn uniformly within ±25 %, from a stream of its own. 0: nothing moves the
	// class.
	Review time.Duration
	// MinStay is how long a raised class is kept at the least.
	MinStay time.Duration
	// Reserve is what an entry keeps every cell of a client for, so that one which
	// was lost on the client's link can come in time: see mix.Route.Again. A period or
	// two until the loss shows, and a round trip to the entry, fit into it.
	Reserve time.Duration
	// Depth is how much longer than on average the end of a route waits for a cell
	// before it plays out its place (Playout); 0: it takes in what has come, and
	// cells have no places.
	Depth time.Duration
	// Grid is the class whose periods are the places, the floor of the profile: both
	// ends go by it, whatever class either is pinned to.
	Grid Class
	// Noisy has cells of this direction delayed by the noise of plans.
	Noisy bool
	// Region says what the classes emit at present, and counts what was emitted;
	// nil: their nominal rates, and nothing is counted.
	Region *Region
}

// Pinned returns p with the class fixed: no use moves it, and no plan its rate.
func (p Policy) Pinned(c Class) Policy {
	p.Floor, p.Ceiling, p.Region = c, c, nil
	return p
}

// Moving returns p with a class that follows use at every level, as it does at
// STANDARD: a control of tests.
func (p Policy) Moving() Policy {
	like := PolicyOf(wire.Standard)
	p.Ceiling, p.Review, p.MinStay, p.Noisy = like.Ceiling, like.Review, like.MinStay, like.Noisy
	return p
}

// In returns p under the plans of a region.
func (p Policy) In(r *Region) Policy {
	p.Region = r
	return p
}

// For returns p within the bounds of a profile. FAST has none.
func (p Policy) For(profile wire.Profile) Policy {
	switch {
	case p.Floor == 0:
	case profile == wire.ProfileMobile:
		p.Floor, p.Ceiling, p.Grid, p.Noisy, p.Reserve = mobileFloor, mobileMax, mobileFloor, false, 0
	case profile == wire.ProfileLow:
		p.Floor, p.Ceiling, p.Grid, p.Noisy, p.Reserve = lowFloor, lowFloor, lowFloor, false, 0
	}
	return p
}

// Bounds of the profiles. The floors are those of every plan as well.
const (
	lowFloor, mobileFloor, mobileMax, fullFloor Class = 5, 10, 50, 100
)

// PolicyOf is the policy of a level. The later the review, the less a change
// of class says about when a transfer began; the price is how long a transfer
// waits for its rate (docs/performance.md). Who has both ends of a route sees its
// moves there: at HIGH and EXTREME there are none, and a user who needs more pins a
// higher class.
func PolicyOf(l wire.Level) Policy {
	switch l {
	case wire.Standard:
		return Policy{Floor: fullFloor, Ceiling: 5000, Review: 2 * time.Second, MinStay: 30 * time.Second, Reserve: reserveStandard, Noisy: true}
	case wire.High:
		return Policy{Floor: fullFloor, Ceiling: fullFloor, Reserve: reserveLong, Depth: depthOf(l), Grid: fullFloor}
	case wire.Extreme:
		return Policy{Floor: fullFloor, Ceiling: fullFloor, Reserve: reserveLong, Depth: depthOf(l), Grid: fullFloor}
	default:
		return Policy{}
	}
}

// Reserves. Two periods of the floor pass at most between a loss and the next
// datagram, and 3 ms more until it is told; what is left is for the round trip to
// the entry: 27 ms at STANDARD, whose bound on delay has no room for more
// (LatencyBound), and 77 ms above.
const (
	reserveStandard = 50 * time.Millisecond
	reserveLong     = wire.ReserveMax
)

// depthOf is how much longer than on average a cell of a level may take, on links
// that vary by linksVary.
func depthOf(l wire.Level) time.Duration {
	const linksVary = 10 * time.Millisecond
	return l.PathDelayMax() - time.Duration(l.Mixes())*l.MixDelay() + linksVary
}

// Use of a class, in percent. Plans steer the mean of a class to targetUse
// (control.Cover); a route leaves its class for the next when it fills more than
// HighUse, and for the one before when that would be filled to targetUse at
// most. Were the two one figure, every class would lose the upper half of its
// routes, and its mean could not come near.
const (
	targetUse = 70
	HighUse   = 85
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

// rate is what a class emits at present, in cells per second.
func (p Policy) rate(c Class) uint64 {
	if p.Region != nil {
		if i := slices.Index(Classes[:], c); i >= 0 {
			return uint64(p.Region.rates[i])
		}
	}
	return uint64(c)
}
