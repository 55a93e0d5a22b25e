package directory

import (
	"time"

	"github.com/nyxnet/nyx/internal/prng"
)

// QoS is what a route is for.
type QoS uint8

const (
	// Interactive routes favour short delays.
	Interactive QoS = iota
	// Bulk routes favour nodes with capacity to spare.
	Bulk
)

// String is the name as written in configuration.
func (q QoS) String() string {
	if q == Bulk {
		return "bulk"
	}
	return "interactive"
}

// ParseQoS returns the QoS of a name.
func ParseQoS(name string) (QoS, bool) {
	switch name {
	case "interactive":
		return Interactive, true
	case "bulk":
		return Bulk, true
	}
	return 0, false
}

// RouteTTL is the life of a route that a request names none for: short enough
// that an observer who takes over nodes learns of minutes, long enough that
// set-ups are a small part of what a route costs.
const RouteTTL = 10 * time.Minute

// Plan is what answers a Request (ROUTE_PLAN): a path, for how long a route
// over it is kept, and the round trip over its hops by the conditions; 0 if
// they do not tell.
type Plan struct {
	Path
	TTL       time.Duration
	RoundTrip time.Duration
}

// Plan draws the path of a route (see Draw) and says what is known of it.
func (v *View) Plan(rng *prng.Stream, req Request) (Plan, error) {
	d, err := v.draw(rng, req)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Path: d.path(), TTL: req.TTL}
	if p.TTL == 0 {
		p.TTL = RouteTTL
	}
	if c := d.conditions(); c != nil {
		trip := c.roundTrip(d.chosen[:d.hops])
		for _, n := range d.chosen[:d.hops] {
			trip += uint32(c.states[n].Queue)
		}
		p.RoundTrip = time.Duration(trip) * time.Millisecond
	}
	return p, nil
}
