package client

import (
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Params is what changes a running client from outside of its protocol.
type Params struct {
	// Plan is a cover plan; nil: none.
	Plan *wire.CoverPlan
	// Profile is for what kind of machine routes are to be shaped; nil: as before.
	Profile *wire.Profile
}

// HandleParams takes a change. A plan holds from its epoch on, a profile from the
// next full minute of the clock: when a screen went off does not show, nor when
// routes were used. It says why the plan is not followed, or 0.
func (c *Client) HandleParams(now machine.Time, p Params) (why obfs.Refusal) {
	if p.Plan != nil {
		why = c.cover.Offered(now, p.Plan, &c.Counts, c.cfg.Sink)
	}
	if p.Profile != nil && p.Profile.Valid() {
		profile := *p.Profile
		c.profiling.Value = func(now machine.Time) { c.changeProfile(now, profile) }
		c.timers.Set(&c.profiling, c.cover.Instant(now))
	}
	return why
}

// changeProfile has every route replaced by one that both ends shape as the
// profile says. Those whose set-up is under way follow when they stand.
func (c *Client) changeProfile(now machine.Time, p wire.Profile) {
	if c.cfg.Profile == p || c.cfg.Level == wire.Fast {
		return
	}
	c.cfg.Profile = p
	for _, r := range c.allRoutes() {
		c.conform(now, r)
	}
}

// conform replaces a route that is shaped for another profile than the client's.
func (c *Client) conform(now machine.Time, r *route) {
	if r.ready && !r.gone && r.profile != c.cfg.Profile && !r.replaced && r.circuit.purpose != answering {
		c.renew(now, r)
	}
}

// weighMax bounds the paths that are drawn for one: with the greatest and the
// least weight that plans may have, one more than that is needed once in 60 draws.
const weighMax = 64

// weighed draws a path, its exit by the weights of the plan in force. Everybody
// follows the same weights, within bounds that the client checks itself: they say
// where cover goes, and decide nobody's path.
func (c *Client) weighed(req directory.Request) (plan directory.Plan, err error) {
	for range weighMax {
		plan, err = c.view.Plan(c.paths, req)
		if err != nil || req.Exit != nil {
			return plan, err
		}
		weight, most := c.cover.Weight(plan.Exit().Region)
		if weight == most || c.weights.Uint64N(uint64(most)) < uint64(weight) {
			return plan, nil
		}
	}
	return plan, err
}

// jitter notes by how much the moment of a cell was drawn.
func (c *Client) jitter(wait time.Duration, noise *[wire.CoverSegments]time.Duration) {
	for _, n := range noise {
		wait += n
	}
	c.Distributions.ObserveTime(trace.TimingJitter, wait)
}

// CoverReports are what the client's routes emitted in the last minutes, by the
// regions of their entries. They are one user's, and leave the process never.
func (c *Client) CoverReports(now machine.Time) []obfs.Report { return c.cover.Reports(now) }
