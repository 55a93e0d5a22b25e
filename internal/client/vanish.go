package client

import (
	"errors"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// An exit that dies takes both routes of its sessions with it. What tells its
// death from that of a mix, or from a bad network, is that everything else is
// alive (docs/protocol.md, section 12.11):
//
//   - On shaped routes the exit's own cover is its sign of life. It comes
//     whatever the user does, and so does the verdict.
//   - At FAST, a session that waits for an answer sends PINGs to the exit and
//     LOOPs to the mix before it, on each route, one that is being set up too.
//     Loops that come back by two mixes beside PINGs that do not are the
//     evidence. How long the exit is given follows from what loops take now and
//     answers took before, so that a loaded network delays the verdict a little
//     and does not prevent it.
//   - Two mixes of different routes that lost the link to the exit say so.

// elsewhere lists the exits of the sessions that there are, the newest if they
// are many: what is built ahead ends at others if it can, so that one exit's
// death finds a session ready, and is seen by comparison.
func (c *Client) elsewhere() (exits []wire.NodeID) {
	for _, m := range c.Members() {
		if k := m.Owner; k.purpose == exiting && !slices.Contains(exits, k.exit.ID) {
			exits = append(exits, k.exit.ID)
		}
	}
	return exits[len(exits)-min(len(exits), avoidedMax):]
}

const (
	// exitShunned is how long a dead exit is left out of draws.
	exitShunned = time.Minute
	// watchEvery is how often shaped circuits are looked at.
	watchEvery = 125 * time.Millisecond
	// silenceLeast and silenceGaps are how long a shaped route is silent before
	// it counts as such: an exit that lives sends once in each period, so that
	// chance has to lose, or hold up, 30 cells in a row.
	silenceLeast = time.Second
	silenceGaps  = 30
	// backAgain is how many times the patience with a circuit another route must
	// have gone on for, if both were silent before: after an outage all routes
	// come back within a round trip or two, and one that does not is dead.
	backAgain = 2
	// gapFirst is taken for the mean gap of a new route.
	gapFirst = 50 * time.Millisecond

	// doubtEvery is the time between two rounds of probes.
	doubtEvery = 100 * time.Millisecond
	// rescueAfter is how long nothing is heard of an exit in doubt until a spare
	// route is built.
	rescueAfter = doubtEvery
	// pathDoubt is how long a silent path is given while the others are too.
	pathDoubt = 4 * time.Second
	// An exit may take as long for an answer as the session's own measure says,
	// or four times the slowest loop, within these bounds, besides the 300 ms
	// before the doubt: a process can be held up for a moment, and one that
	// needs longer than the most, while its neighbours answer, is of no use.
	doubtLeast = 600 * time.Millisecond
	doubtMost  = 1500 * time.Millisecond
	slowLoops  = 4
	// loopsEnough and loopsEach are how many loops must come back in all, and
	// from each of two mixes. At 15 % loss each way an exit that lives leaves a
	// PING unanswered once in four times, and all of these in 10^7.
	loopsEnough = 12
	loopsEach   = 4
	// goneWithin is how far apart two mixes may say that the exit is gone.
	goneWithin = 10 * time.Second
)

var errExitGone = errors.New("client: the exit answers no more")

// doubt is the question whether a circuit's exit lives, and what becomes of a
// path that is silent meanwhile. Only at FAST does the client ask; on shaped
// routes it waits for what watch finds, and nothing that it sends differs.
type doubt struct {
	since   machine.Time // when it began, or the exit was last heard
	silent  *route       // the path that the session suspects; nil: none
	ends    machine.Time // when that path is given up
	base    uint64       // echo of the first round
	sent    []machine.Time
	loops   map[wire.NodeID]int // that came back since, by the mix that answered
	slowest time.Duration       // of them
	verdict machine.Time        // when the exit is given up; 0: not enough came back
	timer   machine.Timer[func(machine.Time)]
}

// hear notes a cell that the last hop of a route made.
func (r *route) hear(now machine.Time) {
	pause := now.Sub(r.heard)
	if pause > r.patience()/2 {
		r.steady = now
	}
	r.gap += (min(pause, r.patience()) - r.gap) / 16
	r.heard = now
}

// patience is how long a shaped route may be silent by chance.
func (r *route) patience() time.Duration { return max(silenceLeast, silenceGaps*r.gap) }

// silent reports whether a shaped route has brought nothing for longer than
// chance explains.
func (r *route) silent(now machine.Time) bool {
	return now.Sub(r.heard) > r.patience()
}

// watch looks for shaped circuits whose exit has died: all their routes are
// silent, they share nothing but the exit, and routes to other exits are not.
func (c *Client) watch(now machine.Time) {
	c.timers.Set(&c.watcher, now.Add(watchEvery))
	for _, r := range c.allRoutes() {
		k := r.circuit
		if k.purpose != exiting || !r.joined || r.gone || !r.pauses(now) {
			continue
		}
		if k.silent(now) && c.othersLive(now, k) {
			c.exitGone(now, k)
		} else {
			c.relieve(now, r)
		}
	}
}

// silent reports whether every route of a circuit is, and at least two are
// that have no hop in common but the exit. While a spare one is being set up the
// exit may still answer by that, if it has not long to do so.
func (k *circuit) silent(now machine.Time) bool {
	seen := map[wire.NodeID]bool{}
	n := 0
	for _, r := range k.routes {
		switch {
		case r != nil && !r.joined && r.spare && now < r.limit && r.limit.Sub(r.begun) <= spareWait:
			return false
		case r == nil || !r.joined:
			continue
		case !r.silent(now):
			return false
		}
		nodes := r.path.Nodes()
		for _, hop := range nodes[:len(nodes)-1] {
			if seen[hop.ID] {
				return false
			}
			seen[hop.ID] = true
		}
		n++
	}
	return n >= 2
}

// othersLive reports whether a route to another exit has gone on without a
// pause since before the circuit fell silent, or for longer than an outage of
// the client's own line, or of its process, parts what comes back after it.
func (c *Client) othersLive(now machine.Time, k *circuit) bool {
	var last machine.Time
	var patience time.Duration
	for _, r := range k.routes {
		if r != nil {
			last, patience = max(last, r.heard), max(patience, r.patience())
		}
	}
	for _, r := range c.routes {
		if r.ready && r.circuit.exit.ID != k.exit.ID && now.Sub(r.heard) < r.patience()/2 &&
			(r.steady < last || now.Sub(r.steady) > backAgain*patience) {
			return true
		}
	}
	return false
}

// suspect is told by a session that a path is silent. If another answered, the
// route is given up unless it is the last; if none did, perhaps the exit is
// dead.
func (c *Client) suspect(now machine.Time, k *circuit, path uint8) {
	r := k.routes[path]
	if r == nil || !r.ready || k.ready() < 2 {
		return
	}
	if k.purpose != exiting || k.member.Core.ActivePath() != path {
		c.silenced(now, r)
		return
	}
	c.doubtExit(now, k)
	k.doubt.silent, k.doubt.ends = r, now.Add(pathDoubt)
}

// doubtExit begins a doubt, if there is none, of an exit that owes an answer.
func (c *Client) doubtExit(now machine.Time, k *circuit) {
	if k.purpose != exiting || k.doubt != nil {
		return
	}
	k.doubt = &doubt{since: now, base: c.probes.Uint64(), loops: map[wire.NodeID]int{}}
	k.doubt.timer.Value = func(now machine.Time) { c.askExit(now, k) }
	c.timers.Set(&k.doubt.timer, now)
}

// askExit is one round of a doubt. What comes from the exit, late as it may be,
// makes the evidence begin anew; when nothing is owed any more the doubt ends.
func (c *Client) askExit(now machine.Time, k *circuit) {
	d, shaped := k.doubt, c.cfg.Level != wire.Fast
	if k.member == nil {
		k.endDoubt(c)
		return
	}
	var heard machine.Time
	for _, r := range k.routes {
		if r != nil {
			heard = max(heard, r.heard)
		}
	}
	answered := heard > d.since
	if d.silent != nil && (answered || now >= d.ends) {
		if (shaped || d.silent.heard <= d.since) && k.ready() >= 2 {
			c.silenced(now, d.silent)
		}
		d.silent = nil
	}
	if answered {
		d.since, d.verdict, d.slowest = heard, 0, 0
		clear(d.loops)
	}
	switch {
	case d.silent == nil && (shaped || answered && !k.member.Core.Quiet(now)):
		k.endDoubt(c)
		return
	case d.verdict != 0 && now >= d.verdict:
		c.exitGone(now, k)
		return
	case !shaped:
		if now.Sub(d.since) >= rescueAfter {
			c.rescue(now, k)
		}
		c.probe(k)
		d.sent = append(d.sent, now)
	}
	c.timers.Set(&d.timer, now.Add(doubtEvery))
}

// probe asks the exit, and the mix before it, on every route whose set-up was
// sent: of one that does not stand yet, the set-up has asked the exit.
func (c *Client) probe(k *circuit) {
	k.member.Core.AskPaths()
	c.Touch(k.member)
	for _, r := range k.routes {
		if r == nil || r.train != nil {
			continue
		}
		c.loop(r, r.core.Hops()-2, k.doubt.base+uint64(len(k.doubt.sent)))
	}
}

func (k *circuit) endDoubt(c *Client) {
	if k.doubt != nil {
		c.timers.Stop(&k.doubt.timer)
		k.doubt = nil
	}
}

// looped takes the answer of the mix before the exit. The verdict waits once
// more for the longest time that an answer took, so that each PING that counts
// has had twice as long as the LOOP beside it.
func (c *Client) looped(now machine.Time, r *route, back mix.Back) {
	d, nodes := r.circuit.doubt, r.path.Nodes()
	if d == nil || r.circuit.member == nil || back.Position != len(nodes)-2 || back.Echo-d.base >= uint64(len(d.sent)) {
		return
	}
	sent := d.sent[back.Echo-d.base]
	if sent < d.since {
		return
	}
	d.loops[nodes[back.Position].ID]++
	d.slowest = max(d.slowest, now.Sub(sent))
	all, mixes := 0, 0
	for _, n := range d.loops {
		all += n
		if n >= loopsEach {
			mixes++
		}
	}
	if d.verdict == 0 && all >= loopsEnough && mixes >= 2 {
		patience := max(r.circuit.member.Core.AnswerTime(), slowLoops*d.slowest)
		patience = min(max(patience, doubtLeast), doubtMost)
		d.verdict = max(d.since.Add(patience), now.Add(d.slowest))
	}
}

// nacked takes the word of a hop.
func (c *Client) nacked(now machine.Time, r *route, back mix.Back) {
	switch back.Reason {
	case wire.NackQueueFull:
		c.dropped(now, r, back)
	case wire.NackLinkGone:
		c.broken(now, r, back)
	default:
		c.spoilt(now, r, back)
	}
}

// broken takes the word of a hop that lost the link to the next. The route is
// given up; when two mixes of different routes say that the exit is gone, and
// it has not been heard between them, the exit is.
func (c *Client) broken(now machine.Time, r *route, back mix.Back) {
	r.reached = max(r.reached, back.Position+1)
	c.blameLink(now, r, back.Position)
	k, nodes := r.circuit, r.path.Nodes()
	if k.purpose == exiting && r.joined && back.Position == len(nodes)-2 {
		by := nodes[back.Position].ID
		heard := false
		for _, other := range k.routes {
			heard = heard || other != nil && other.heard > k.goneAt
		}
		if k.goneBy != (wire.NodeID{}) && k.goneBy != by && !heard && now.Sub(k.goneAt) < goneWithin {
			c.exitGone(now, k)
			return
		}
		k.goneBy, k.goneAt = by, now
	}
	c.fail(now, r, errBroken)
}

// dropped takes the word of a hop that had no room for a cell: the session sends
// again what was in it.
func (c *Client) dropped(now machine.Time, r *route, back mix.Back) {
	m := r.circuit.member
	if m == nil || !r.joined {
		return
	}
	if packet, ok := r.core.Dropped(back); ok && m.Core.Dropped(now, packet) {
		c.Touch(m)
	}
}

// exitGone ends the session of a circuit whose exit has died, what was built
// ahead to the same exit, and the routes that enter there. New streams go to
// another exit at once.
func (c *Client) exitGone(now machine.Time, k *circuit) {
	exit := k.exit.ID
	c.lastError = errExitGone
	c.avoid(now, &c.dead, exit, exitShunned, trace.ReasonSilent)
	c.cfg.Sink.Emit(now, trace.ExitGone, 0, 0)
	c.abandon(now, k)
	for _, a := range append([]*circuit(nil), c.ahead...) {
		if a.exit != nil && a.exit.ID == exit {
			c.abandon(now, a)
		}
	}
	for _, r := range c.allRoutes() {
		if r.path.Entry().ID == exit {
			c.fail(now, r, errExitGone)
		}
	}
	c.timers.Set(&c.plan, now) // a dead exit is replaced at once at every level, as a route is
}

// abandon ends a circuit, with its session if it has one.
func (c *Client) abandon(now machine.Time, k *circuit) {
	k.endDoubt(c)
	if k.member != nil {
		c.endCircuit(now, k.member, uint64(wire.CodeVanished))
		return
	}
	for i, a := range c.ahead {
		if a == k {
			c.ahead[i] = &circuit{}
		}
	}
	c.dropRoutes(now, k)
}
