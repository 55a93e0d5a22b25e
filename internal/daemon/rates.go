package daemon

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// The way of rates (docs/control-plane.md):
//
//  1. teller.telemetry: a node posts its TELEMETRY_REPORTs (strain.go).
//  2. Control.keepRates: a control process steers λ′ by them, under the plans that
//     machines follow.
//  3. Authority.askRates: an authority asks for ADJUST_RATE, its planner proposes.

// rateAnswerMax is the size of ADJUST_RATE for every class of every region.
const rateAnswerMax = wire.CoverRegionsMax * wire.CoverClasses * 80

// ratesAsked is how often an authority asks.
const ratesAsked = 30 * time.Second

// telemetry posts a body of reports.
func (t *teller) telemetry(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	r, err := t.plane.ask(ctx, request{path: telemetry.ReportPath, post: body, most: 1 << 10})
	switch {
	case err != nil:
		return err
	case r.StatusCode == http.StatusBadRequest || r.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: %s", telemetry.ErrRefused, r.said())
	case !r.ok():
		return fmt.Errorf("the control process answers %s", r.Status)
	}
	return nil
}

// listed is what the directory says of a node.
func (g *guests) listed(id wire.NodeID) (region string, capacity uint32, ok bool) {
	v := g.view.Load()
	if v == nil {
		return "", 0, false
	}
	n, ok := v.Node(id)
	if !ok {
		return "", 0, false
	}
	return n.Region, n.Capacity, true
}

// regions are those in which there are exits, by the newest document.
func (g *guests) regions() (out []string) {
	if v := g.view.Load(); v != nil {
		for _, n := range v.Document().Nodes {
			if n.Roles.Has(directory.RoleExit) && !slices.Contains(out, n.Region) {
				out = append(out, n.Region)
			}
		}
	}
	return out
}

// followPlans has the control process know which plan is in force, as machines do.
func (c *Control) followPlans(ctx context.Context) error {
	asker, err := newAsker(nil, c.cfg.Authorities, c.cfg.client, systemEntropy().Stream("bulletins"), c.log)
	if err != nil {
		return err
	}
	l, err := newListener(c.cfg.Trust, asker)
	if err != nil {
		return err
	}
	l.every, l.plan = directory.RoundLength, func(p *wire.CoverPlan) { c.judge(p) }
	l.deliver = func(known *directory.Conditions, _ time.Duration) { c.conditions.Store(known) }
	c.bulletins = l
	c.running.Go(func() { l.run(ctx) })
	return nil
}

// judge offers a plan, if there is one, and returns the one in force.
func (c *Control) judge(p *wire.CoverPlan) *wire.CoverPlan {
	now := machine.Time(time.Now().UnixNano()) // its time begins in 1970
	c.planMu.Lock()
	defer c.planMu.Unlock()
	if p != nil {
		tellJudged(c.log, p, c.plans.Offer(now, p))
	}
	c.plans.Turn(now)
	return c.plans.Present()
}

// keepRates has the rate loop make its steps until ctx ends.
func (c *Control) keepRates(ctx context.Context) {
	tick := time.NewTicker(control.SchedulePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			c.rates.Follow(now, c.judge(nil), c.known.regions())
			for _, a := range c.rates.Turn(now) {
				c.log.Debug("telemetry summed up", "from", time.Unix(a.Start, 0).UTC(), "seconds", a.Seconds, "quantities", len(a.Keys()))
			}
		}
	}
}

// consult has an authority that runs already ask control processes for rates, as one
// does that knew of them when it started.
func (a *Authority) consult(controls []string) error {
	p, err := newPlane(a.cfg.Network, controls, a.cfg.Signers[0])
	if err == nil {
		a.plane.Store(p)
	}
	return err
}

// askRates asks the control plane what it would have changed, and has the planner take
// it. Without an answer the planner goes by what nodes report to it, as ever.
func (a *Authority) askRates(ctx context.Context) {
	all := a.wantedRates(ctx)
	a.crier.mu.Lock()
	defer a.crier.mu.Unlock()
	a.adjust(time.Now().Unix(), all)
}

// adjust has the planner take what the control plane would have changed at a second
// since 1970. The crier's lock is held.
func (a *Authority) adjust(unix int64, all []wire.AdjustRate) {
	for _, one := range all {
		a.crier.planner.Adjust(unix, one)
	}
}

// wantedRates is what the control plane would have changed, nothing without an answer.
func (a *Authority) wantedRates(ctx context.Context) (all []wire.AdjustRate) {
	plane := a.plane.Load()
	if plane == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, bulletinPoll)
	defer cancel()
	r, err := plane.ask(ctx, request{path: telemetry.RatesPath, most: rateAnswerMax})
	if err == nil && !r.ok() {
		err = fmt.Errorf("the control process answers %s", r.Status)
	}
	for b := r.body; err == nil && len(b) > 0; {
		var one wire.AdjustRate
		var n int
		if one, n, err = wire.ParseAdjustRate(b); err == nil {
			all, b = append(all, one), b[n:]
		}
	}
	if err != nil {
		a.log.Debug("no word of the control plane on rates", "why", err)
		return nil
	}
	return all
}
