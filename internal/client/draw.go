package client

import (
	"slices"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// What a client keeps out of the paths that it draws, and in what order these wishes
// yield where no path satisfies them all (docs/protocol.md, section 7.6).

// wishes are nodes that are kept out of a path, by the reason.
type wishes struct {
	// Of entries: those that do not answer or would refuse; for which there is no pass;
	// those of the circuit's other routes; those far from the user.
	silent, passless, entries, abroad []wire.NodeID
	// Of all nodes: those at which set-ups failed, the oldest first, of which so many
	// did lately; those that do wrong; those of the circuit's other routes, and other
	// sessions' exits.
	failing           []wire.NodeID
	lately            int
	wrong, own, apart []wire.NodeID
}

// wish collects what is known against nodes.
func (c *Client) wish(now machine.Time, k *circuit, req *directory.Request) (w wishes) {
	if req.Entry == nil {
		w.passless = c.passless()
		w.silent = slices.Concat(c.mute.nodes(now), c.refusing.nodes(now))
		w.abroad = c.abroad
	}
	for _, r := range k.routes {
		if r == nil || r == k.leaves && r.near > 0 {
			continue
		}
		nodes := r.path.Nodes()
		if req.Entry == nil {
			w.entries = append(w.entries, nodes[0].ID)
		}
		for _, n := range nodes[1 : len(nodes)-1] {
			w.own = append(w.own, n.ID)
		}
	}
	w.failing = c.failing.nodes(now)
	w.wrong = append(c.suspected(now), c.dead.nodes(now)...)
	if k.rescued {
		// All routes are silent: most likely by a node that all have.
		common := k.common()
		w.wrong = append(w.wrong, common...)
		if req.Entry == nil {
			w.silent = append(w.silent, common...)
		}
	} else {
		w.own = append(w.own, w.entries...)
	}
	fixed := func(n wire.NodeID) bool {
		return req.Exit != nil && n == *req.Exit || req.Entry != nil && n == *req.Entry
	}
	w.wrong, w.failing = without(w.wrong, fixed), without(w.failing, fixed)
	w.lately = min(c.failing.since(now, failingShun-failedNow), len(w.failing))
	if k.exit == nil {
		w.apart = c.elsewhere()
	}
	return w
}

// draw plans a circuit's next route: to its exit, and through no node that another of
// its routes has, nor to an exit of another session. Where the network is too small for
// that, sessions share exits, nodes that are avoided come back, then routes may share
// mixes, then the entry, and at last nodes are taken that are overloaded or drain. While
// nodes seem dead routes share others before they lead by one of those.
func (c *Client) draw(now machine.Time, k *circuit) (plan directory.Plan, err error) {
	// What splits a network splits its directory, too: after a failure, nodes of
	// which nothing new can be learnt are left out.
	req := directory.Request{
		Fresh: c.failures > 0 && c.view.Stale(),
		Level: c.cfg.Level, QoS: c.cfg.QoS, TTL: c.cfg.RouteTTL, Conditions: c.conditions,
	}
	c.step(now, k, trace.StepQuery, int(c.view.Epoch()))
	defer c.step(now, k, trace.StepResponse, c.view.Len())
	if c.cfg.Entry != (wire.NodeID{}) {
		req.Entry = &c.cfg.Entry
	}
	if k.exit != nil {
		req.Exit = &k.exit.ID
	}
	w := c.wish(now, k, &req)
	try := func() {
		req.AvoidEntry = slices.Concat(w.silent, w.passless, w.entries, w.abroad)
		req.AvoidNodes = slices.Concat(w.failing, w.wrong, w.own, w.apart)
		plan, err = c.weighed(req)
	}
	yields := func(lists ...*[]wire.NodeID) {
		some := false
		for _, list := range lists {
			some = some || len(*list) > 0
		}
		if err == nil || !some {
			return
		}
		for _, list := range lists {
			*list = nil
		}
		try()
	}
	oldest := func() {
		if err != nil {
			w.failing = w.failing[1:]
			try()
		}
	}
	if try(); err != nil && req.Fresh {
		req.Fresh = false
		try()
	}
	if k.rescued || len(w.silent)+len(w.passless) > 0 {
		yields(&w.abroad) // rather far than dead
	}
	if k.rescued {
		yields(&w.entries) // rather twice than the mix that is dead
	}
	yields(&w.apart)
	for range len(w.failing) - w.lately {
		oldest()
	}
	own := w.own
	if w.lately > 0 {
		yields(&w.own)
	}
	for range w.failing {
		oldest()
	}
	w.own = own // of those that fail none is left out any more: routes part again first
	yields(&w.wrong)
	yields(&w.own)
	yields(&w.silent, &w.entries, &w.abroad)
	yields(&w.passless) // rather where the client may be refused than twice
	if err != nil && c.conditions != nil {
		req.Crowded = true
		try()
	}
	return plan, err
}

// shares reports whether a path leads through nodes, but the exit, of the circuit's
// routes.
func (k *circuit) shares(path directory.Path) bool {
	nodes := path.Nodes()
	return slices.ContainsFunc(k.routes[:], func(r *route) bool {
		return r != nil && r != k.leaves && slices.ContainsFunc(nodes[:len(nodes)-1], func(n *directory.Node) bool { return r.crosses(n.ID) })
	})
}

// common lists the nodes, but the exit, through which all of two or more routes lead.
func (k *circuit) common() (nodes []wire.NodeID) {
	var first *route
	n := 0
	for _, r := range k.routes {
		switch {
		case r == nil || !r.joined:
			continue
		case first == nil:
			first = r
			for _, hop := range r.path.Nodes()[:len(r.path.Nodes())-1] {
				nodes = append(nodes, hop.ID)
			}
		default:
			nodes = slices.DeleteFunc(nodes, func(id wire.NodeID) bool { return !r.crosses(id) })
		}
		n++
	}
	if n < 2 {
		return nil
	}
	return nodes
}

func without(nodes []wire.NodeID, drop func(wire.NodeID) bool) []wire.NodeID {
	return slices.DeleteFunc(slices.Clone(nodes), drop)
}
