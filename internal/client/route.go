package client

import (
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// routeKey is a route as its cells name it: the link and the route id there.
type routeKey struct {
	link link.ID
	id   uint32
}

// route is one route of a circuit.
type route struct {
	circuit  *circuit
	slot     int // place in the circuit, and path id of its session
	core     *mix.Route
	train    *mix.Train // until it is sent
	path     directory.Path
	ttl      time.Duration
	entry    *entry
	serial   uint64
	begun    machine.Time
	sent     machine.Time // the set-up; 0: it waits for admission
	limit    machine.Time // of the set-up
	reached  int          // hops that have it, as their LOOPs say
	ready    bool
	joined   bool           // it carries its circuit's session
	meeting  wire.MeetingID // of a circuit of a service: where it meets
	call     wire.CallID    // of a calling circuit: each route makes a call of its own
	gone     bool
	replaces *route       // the route at the end of its life that this one replaces
	replaced bool         // there is one that replaces it
	spare    bool         // it was built because all others were silent
	near     int          // it shares nodes with another that it may do without later; so many tries
	moves    machine.Time // when it was to leave a node; 0: it was not
	chance   uint64       // of its path, by the delays when it was drawn; 0: they were not known
	profile  wire.Profile
	shaper   *obfs.Shaper
	made     *wire.Frame // the cell of the last slot, until it is sent
	emit     machine.Timer[*route]
	hello    stream.Assembly // a caller's HELLO that comes in parts
	hellos   int             // whole HELLOs that came
	heard    machine.Time    // the last cell of the last hop
	gap      time.Duration   // mean time between two of them
	steady   machine.Time    // since when none was late
	faults   int             // cells that were changed on the way back
	again    int             // cells sent once more that no hop has refused yet, as far as is known
	back     stretch         // of cells that came back
	out      carriage        // of packets of its session
	outbox   [][]byte        // packets that are not a session's, for its next slots
	expire   machine.Timer[func(machine.Time)]
}

// setupAsk is how often a set-up is asked for at FAST.
const setupAsk = 250 * time.Millisecond

// renewAt is the part of a route's life, in percent, after which its
// replacement is built.
const renewAt = 80

// old is when a route has lived for so long.
func (r *route) old() machine.Time { return r.begun.Add(r.ttl * renewAt / 100) }

// nearFor is after how long it is tried, at first, to replace a route that shares nodes
// with another of its circuit because those that it would have had are avoided: one
// death takes both. The time doubles with each try that comes no farther apart.
const nearFor = 10 * time.Second

// renews is when a route is to be replaced.
func (r *route) renews() machine.Time {
	if r.near > 0 {
		return min(r.old(), r.begun.Add(nearFor<<min(r.near-1, 16)))
	}
	return r.old()
}

// mayStay reports whether a route is to be replaced for nothing but that it shares nodes
// with another.
func (r *route) mayStay(now machine.Time) bool {
	return r != nil && r.near > 0 && now < r.old()
}

// build draws a route for a place of a circuit and starts its set-up.
func (c *Client) build(now machine.Time, k *circuit, slot int, first []byte) error {
	if c.view == nil {
		return ErrNoDirectory
	}
	if k.lacks == 0 {
		k.lacks = now
	}
	if k.purpose == calling {
		if err := c.aim(k); err != nil {
			return err
		}
	}
	c.step(now, k, trace.StepRequest, 0)
	plan, err := c.draw(now, k)
	if err != nil {
		return err
	}
	shares := k.shares(plan.Path)
	if shares && k.leaves.mayStay(now) {
		return errNear
	}
	c.Distributions.ObserveTime(trace.RoutePlanLatency, now.Sub(k.lacks))
	k.lacks = 0
	r := &route{circuit: k, slot: slot, path: plan.Path, ttl: plan.TTL, begun: now, meeting: k.meeting}
	r.emit.Value = r
	r.chance, _ = c.conditions.Chance(c.cfg.Level, &r.path)
	if shares && c.cfg.Level == wire.Fast && c.avoids(now) {
		r.near = 1
	}
	if err := c.prepare(now, r, first); err != nil {
		return err
	}
	c.step(now, k, trace.StepPlan, len(plan.Nodes()))
	if r.entry, err = c.entryFor(now, plan.Entry()); err != nil {
		return err
	}
	c.serial++
	r.serial = c.serial
	k.routes[slot] = r
	if k.exit == nil {
		k.exit = plan.Exit()
	}
	r.limit = now.Add(c.setupTimeout(r.entry))
	r.expire.Value = func(now machine.Time) { c.await(now, r) }
	c.timers.Set(&r.expire, r.limit)
	if r.entry.admitted {
		c.sendTrain(now, r)
	} else {
		r.entry.waiting = append(r.entry.waiting, r)
	}
	return nil
}

// step tells of a step by which a session comes about that somebody has asked for.
func (c *Client) step(now machine.Time, k *circuit, kind trace.Kind, n int) {
	if k.key != (circuitKey{}) {
		c.cfg.Steps.Emit(now, kind, uint64(n), 0)
	}
}

var errSetupTimeout = errors.New("client: no answer to the set-up of a route")

// prepare computes the route's keys and its set-up train.
func (c *Client) prepare(now machine.Time, r *route, first []byte) error {
	nodes := r.path.Nodes()
	hops := make([]mix.HopSpec, len(nodes))
	epoch := c.epoch(now)
	for i, n := range nodes {
		key, ok := c.view.Onion(n.ID, epoch)
		if !ok {
			return fmt.Errorf("client: the directory has no onion key of node %x for epoch %d", n.ID[:4], epoch)
		}
		hops[i] = mix.HopSpec{ID: n.ID, Onion: key}
		if i > 0 && i < len(nodes)-1 {
			hops[i].Delay = c.cfg.Level.MixDelay()
		}
	}
	r.profile = c.cfg.Profile
	hops[len(hops)-1].Profile = r.profile
	var err error
	if r.core, r.train, err = mix.Build(hops, c.cfg.Level, r.ttl, first, c.child("route")); err == nil {
		r.core.Reserve = obfs.PolicyOf(c.cfg.Level).For(r.profile).Reserve
	}
	return err
}

// epoch is the directory's epoch of now: the document's, moved on by the clock
// where one is known, so that routes can be built while no newer document is to
// be had.
func (c *Client) epoch(now machine.Time) uint64 {
	if c.cfg.Stream.UnixStart == 0 {
		return c.view.Epoch()
	}
	return c.view.EpochNow(c.cfg.Stream.UnixStart + int64(now/machine.Time(time.Second)))
}

// await asks again for a set-up that is not answered, with a LOOP to its last
// hop, until its time is over; and the hops before it, to know how far it came.
// Only at FAST: elsewhere the last hop sends cover from the beginning, and one
// answer more or less matters nothing.
func (c *Client) await(now machine.Time, r *route) {
	if now >= r.limit {
		why := errSetupTimeout
		if r.train != nil && r.entry.refused != nil {
			why = r.entry.refused // it was never sent
		}
		c.fail(now, r, why)
		return
	}
	for position := r.core.Hops() - 1; position >= r.reached; position-- {
		c.loop(r, position, c.probes.Uint64())
	}
	c.timers.Set(&r.expire, min(r.limit, now.Add(setupAsk)))
}

// answered notes that a hop has the set-up. While it comes farther it is given time to
// come farther still: what it may take follows from set-ups that went elsewhere.
func (r *route) answered(now machine.Time, position int) {
	if position < r.reached {
		return
	}
	r.reached = position + 1
	if r.sent != 0 {
		r.limit = max(r.limit, min(now.Add(setupAsk), r.sent.Add(setupMost)))
	}
}

// loop has the hop of a position answer with echo.
func (c *Client) loop(r *route, position int, echo uint64) {
	f := c.Pool.Get()
	if r.core.SealLoop(f, position, echo) {
		c.links.Push(r.entry.link, f)
	} else {
		c.Pool.Put(f)
	}
}

// sendTrain sends the set-up.
func (c *Client) sendTrain(now machine.Time, r *route) {
	if r.gone {
		return
	}
	for i := range wire.TrainFrames {
		f := c.Pool.Get()
		r.train.Frame(i, f)
		c.links.Push(r.entry.link, f)
	}
	r.train = nil
	r.sent, r.limit = now, now.Add(c.setupTimeout(r.entry))
	c.routes[routeKey{r.entry.link, r.core.ID()}] = r
	next := r.limit
	if c.cfg.Level == wire.Fast {
		next = min(next, now.Add(setupAsk))
	}
	c.timers.Set(&r.expire, next)
}

// up notes the first packet that came back on a route: it stands.
func (c *Client) up(now machine.Time, r *route) {
	r.ready, r.gap = true, gapFirst
	r.back.begin(now, r.core)
	c.stood(now, r)
	policy := obfs.PolicyOf(c.cfg.Level).For(r.profile).In(c.cover.Region(r.path.Entry().Region))
	if c.cfg.Class != 0 && policy.Floor != 0 {
		policy = policy.Pinned(c.cfg.Class)
	}
	if c.cfg.Moving && policy.Floor != 0 {
		policy = policy.Moving()
	}
	r.shaper = obfs.NewShaper(policy, c.child("slots"), now)
	c.slots.Set(&r.emit, r.shaper.NextSlot())
	r.expire.Value = func(now machine.Time) { c.renew(now, r) }
	at := r.renews()
	if r.circuit.purpose == answering {
		at = min(at, now.Add(callerTimeout))
	}
	if r.circuit.purpose == calling {
		r.expire.Value, at = func(now machine.Time) { c.fail(now, r, errUnanswered) }, now.Add(answerPatience)
	}
	if r.spare {
		r.expire.Value, at = func(now machine.Time) { c.keep(now, r) }, now.Add(spareFor)
	}
	c.timers.Set(&r.expire, at)
	c.moveSoon(now, r, c.leaving)
	c.cfg.Sink.Emit(now, trace.RouteUp, uint64(len(r.path.Nodes())), uint64(now.Sub(r.begun)))
	if r.circuit.purpose == exiting {
		c.join(now, r)
	} else {
		c.meet(now, r)
	}
	c.conform(now, r)
}

// join makes a route a path of its circuit's session, in place of the route
// that it replaces.
func (c *Client) join(now machine.Time, r *route) {
	r.joined = true
	if k := r.circuit; k.member == nil && k.purpose == exiting {
		if err := c.handshake(now, k, nil); err != nil {
			c.lastError = err
		}
		return
	}
	if r.circuit.purpose == calling {
		r.circuit.spotOf(r).failed = 0
		r.expire.Value = func(now machine.Time) { c.renew(now, r) }
		c.timers.Set(&r.expire, r.renews())
		c.moveSoon(now, r, c.leaving)
	}
	m := r.circuit.member
	if m != nil {
		m.Core.AddPath(now, uint8(r.slot))
		c.Touch(m)
	}
	old := r.replaces
	if r.replaces = nil; old == nil || old.gone {
		return
	}
	if m != nil && m.Core.ActivePath() == uint8(old.slot) {
		m.Core.SetActivePath(now, uint8(r.slot))
	}
	if old.moves != 0 {
		c.Distributions.ObserveTime(trace.RouteUpdateLatency, now.Sub(old.moves))
		c.cfg.Sink.Emit(now, trace.RouteMoved, uint64(old.slot), uint64(now.Sub(old.moves)))
	}
	old.expire.Value = func(now machine.Time) { c.drop(now, old) }
	c.timers.Set(&old.expire, now.Add(c.overlap()))
}

// overlap is how long a replaced route is kept for what is still on its way.
func (c *Client) overlap() time.Duration {
	if c.cfg.Level == wire.Fast {
		return time.Second // nothing is held up by mixes
	}
	return 3 * time.Second
}

// fail gives a route up and has another built in its place.
func (c *Client) fail(now machine.Time, r *route, why error) {
	if r.gone {
		return
	}
	c.lastError = why
	if !r.ready {
		c.failed(now, r, why)
	}
	c.cfg.Sink.Emit(now, trace.RouteDown, uint64(len(r.path.Nodes())), uint64(now.Sub(r.begun)))
	c.drop(now, r)
	switch k := r.circuit; {
	case k.purpose == exiting && k.member == nil && k.held() == 0:
		k.exit = nil // perhaps it was the exit that did not answer
	case k.hopeless() && c.setups.mean != 0 && c.heard > max(r.begun, r.sent):
		c.abandon(now, k) // likewise; its streams begin at another
	case k.purpose == waiting && !r.ready:
		c.relocate(k)
	case k.purpose == calling:
		k.spotOf(r).failed++
	case k.purpose == answering && !r.ready && k.failed < setupsTold:
		c.takeCall(now, k)
	}
	if old := r.replaces; old != nil && !old.gone {
		old.replaced = false
		c.timers.Set(&old.expire, now.Add(c.backoff())) // try again, while there is time
		old.expire.Value = func(now machine.Time) { c.renew(now, old) }
	}
	c.timers.Set(&c.plan, now.Add(c.backoff()))
}

// renew replaces a route at the end of its life: the new one is built into a
// free place first, or when one becomes free. An answering route is not replaced,
// its caller calls again; one whose caller has not spoken is given up.
func (c *Client) renew(now machine.Time, r *route) {
	k := r.circuit
	if k.purpose == answering && k.member == nil {
		c.drop(now, r)
		return
	}
	end, slot := r.begun.Add(r.ttl*endAt/100), k.free()
	if slot < 0 && now < end {
		c.timers.Set(&r.expire, min(end, now.Add(c.overlap()/4)))
		return
	}
	if slot >= 0 && k.purpose != answering {
		k.leaves = r
		err := c.build(now, k, slot, nil)
		k.leaves = nil
		switch {
		case err == nil:
			k.routes[slot].replaces, r.replaced = r, true
		case r.mayStay(now):
			k.lacks = 0
			r.near++
			c.timers.Set(&r.expire, r.renews())
			return
		}
	}
	r.expire.Value = func(now machine.Time) { c.fail(now, r, errExpired) }
	c.timers.Set(&r.expire, max(now, end))
}

// endAt is the part of a route's life, in percent, after which it is given up:
// before its hops forget it.
const endAt = 95

// callerTimeout is how long a route that answered a call waits for the caller's
// session. A caller sends its HELLO at once.
const callerTimeout = 20 * time.Second

// errNear means that a route which shares nodes with another cannot be replaced by one
// that does not, yet.
var errNear = errors.New("client: no path shares less")

var errExpired = errors.New("client: the route's time is over")

var errBroken = errors.New("client: a hop of a route lost the link to the next")

var errTampered = errors.New("client: cells of a route were changed or sent twice")

var errSilent = errors.New("client: a route went silent")

// drop forgets a route and closes it along its hops: in its next slot, where it
// has slots, so that it ends like a clock that stops and no datagram tells the
// moment.
func (c *Client) drop(now machine.Time, r *route) {
	if r.gone {
		return
	}
	r.gone = true
	c.timers.Stop(&r.expire)
	delete(c.routes, routeKey{r.entry.link, r.core.ID()})
	k := r.circuit
	if k.routes[r.slot] == r {
		k.routes[r.slot] = nil
	}
	if k.member != nil {
		k.member.Core.RemovePath(now, uint8(r.slot))
		c.Touch(k.member)
	}
	if k.purpose == answering {
		k.service.calls--
	}
	if !r.ready || !r.shaper.Shaped() {
		c.leave(r)
	}
}

// leave sends the last cell of a route that is gone, if it ever stood.
func (c *Client) leave(r *route) {
	c.slots.Stop(&r.emit)
	if r.made != nil {
		c.send(r)
	}
	if r.ready {
		f := c.Pool.Get()
		if r.core.SealClose(f) {
			c.links.Push(r.entry.link, f)
		} else {
			c.Pool.Put(f)
		}
	}
	r.core.Close()
}

// routesOf returns the routes through an entry, oldest first.
func (c *Client) routesOf(e *entry) []*route {
	var out []*route
	for _, r := range c.routes {
		if r.entry == e {
			out = append(out, r)
		}
	}
	for _, r := range e.waiting {
		if !r.gone {
			out = append(out, r)
		}
	}
	return inOrder(out)
}

// allRoutes returns the routes whose set-up was sent, oldest first.
func (c *Client) allRoutes() []*route {
	out := make([]*route, 0, len(c.routes))
	for _, r := range c.routes {
		out = append(out, r)
	}
	return inOrder(out)
}

func inOrder(routes []*route) []*route {
	sort.Slice(routes, func(i, j int) bool { return routes[i].serial < routes[j].serial })
	return routes
}
