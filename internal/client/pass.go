package client

import (
	"errors"
	"slices"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// ErrNoPass means that an entry admits by unlinkable tokens, and that the client has
// none that is good there.
var ErrNoPass = errors.New("client: the network admits by unlinkable tokens, and none is left that is good at this entry: get some with nyx token get")

// passesMax bounds the passes that a client holds for one entry: a day of renewals.
const passesMax = 32

// HandlePasses gives the client passes for an entry. Each is shown once: with one
// SESSION_INIT and its repetitions, whatever becomes of it. An entry that refused the
// client for want of one is asked again.
func (c *Client) HandlePasses(now machine.Time, entry wire.NodeID, passes ...wire.Pass) {
	have := append(c.passes[entry], passes...)
	c.passes[entry] = have[max(len(have)-passesMax, 0):]
	if e := c.entries[entry]; e != nil && e.refused == ErrNoPass {
		c.refusing.remove(entry)
		c.sendInit(now, e)
	}
	for _, e := range c.allEntries() { // what waits at those without leads by this one
		if e.node == entry || e.refused != ErrNoPass {
			continue
		}
		for _, r := range slices.Clone(e.waiting) {
			c.fail(now, r, ErrNoPass)
		}
	}
	if c.view != nil {
		c.timers.Set(&c.plan, now)
	}
}

// View is the directory by which the client draws, nil before the first.
func (c *Client) View() *directory.View { return c.view }

// Passes is how many the client has for an entry.
func (c *Client) Passes(entry wire.NodeID) int { return len(c.passes[entry]) }

// TakePasses takes back what was not shown, for who keeps it until the next process.
func (c *Client) TakePasses() map[wire.NodeID][]wire.Pass {
	out := c.passes
	c.passes = map[wire.NodeID][]wire.Pass{}
	return out
}

// DrawEntries draws entries for which passes are to be had, as paths draw theirs, in the
// number of n, some more than once. They say nothing of what the client does: the draws
// are a stream of their own, and nothing of its routes is known to them.
func (c *Client) DrawEntries(n int) (out []wire.NodeID, err error) {
	if c.view == nil {
		return nil, ErrNoDirectory
	}
	req := directory.Request{Level: c.cfg.Level, QoS: c.cfg.QoS, TTL: c.cfg.RouteTTL, Conditions: c.conditions, AvoidEntry: c.abroad}
	for range n {
		plan, err := c.view.Plan(c.passing, req)
		if err != nil && req.AvoidEntry != nil {
			req.AvoidEntry = nil
			plan, err = c.view.Plan(c.passing, req)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, plan.Nodes()[0].ID)
	}
	return out, nil
}

// passless lists the entries that would refuse the client for want of a pass.
func (c *Client) passless() (out []wire.NodeID) {
	if !c.cfg.Passes {
		return nil
	}
	for i := range c.view.Len() {
		n := c.view.At(i)
		if e := c.entries[n.ID]; n.Roles.Has(directory.RoleEntry) && len(c.passes[n.ID]) == 0 && (e == nil || !e.admitted && e.pass == nil) {
			out = append(out, n.ID)
		}
	}
	return out
}

// showPass puts a pass for the entry into a SESSION_INIT: the same with its repetitions.
func (c *Client) showPass(e *entry, m *wire.SessionInit) {
	if have := c.passes[e.node]; e.pass == nil && len(have) > 0 && m.Version > 2 {
		e.pass, c.passes[e.node] = &have[0], have[1:]
	}
	if e.pass != nil && m.Version > 2 {
		m.Passed, m.Pass = true, *e.pass
	}
}
