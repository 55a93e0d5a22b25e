package client

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// What a client learns from the set-ups of its routes, and does about it
// (docs/protocol.md, section 5.6): how long one is given follows from what they
// took by the same entry; how soon the next is tried follows from whether
// anything comes back at all; and nodes at which they fail are left out of draws
// for a while.

// span estimates how long something takes, as RFC 6298 does round trips. The
// zero span has measured nothing.
type span struct{ mean, vary time.Duration }

func (s *span) sample(d time.Duration) {
	if s.mean == 0 {
		s.mean, s.vary = d, d/2
		return
	}
	s.vary += ((s.mean - d).Abs() - s.vary) / 4
	s.mean += (d - s.mean) / 8
}

const (
	// setupLeast is the least time that a set-up is given: more than a busy
	// process is held up for, and room for the answer to a LOOP (setupAsk).
	setupLeast = 400 * time.Millisecond
	// setupFirst is what it is given where nothing was measured: the handshakes
	// of fresh links between hops, and twelve frames at every hop.
	setupFirst = time.Second
	setupMost  = 5 * time.Second
	// setupFresh times the mean is what a set-up takes when every link between
	// its hops is fresh: two round trips for each before the one that it takes
	// itself.
	setupFresh = 3
)

// setupTimeout is how long a set-up by an entry may take, from when its train is
// sent, before another route is tried; and how long the entry's link and admission
// may, before. While nothing comes back, or nothing was measured, it
// doubles: the guess may be wrong.
func (c *Client) setupTimeout(e *entry) time.Duration {
	mixing := time.Duration(c.cfg.Level.Mixes()) * 8 * c.cfg.Level.MixDelay()
	d := setupFirst + mixing
	took := e.setups
	if took.mean == 0 {
		took = c.setups
	}
	if took.mean != 0 && e.admitted {
		d = max(took.mean+4*took.vary, setupFresh*took.mean, setupLeast+mixing)
	}
	doubled := c.unheard
	if took.mean == 0 {
		doubled = c.failures
	}
	return min(d<<min(doubled, 2), setupMost)
}

// stood notes a set-up that was answered.
func (c *Client) stood(now machine.Time, r *route) {
	took := now.Sub(r.sent)
	r.entry.setups.sample(took)
	c.setups.sample(took)
	c.failures, c.unheard, c.lastError = 0, 0, nil
	r.circuit.failed, r.circuit.why = 0, nil
	c.revive(now, r.entry)
	for _, n := range r.path.Nodes() {
		c.failing.remove(n.ID)
		c.blames.clear(n.ID, againstSetups, blameMost)
	}
	c.learn(now, r, true)
}

// failed notes a set-up that was not. Those that began together fail together,
// and are one failure. If nothing at all was heard since it was sent, the fault
// is most likely at this end, and no node's.
func (c *Client) failed(now machine.Time, r *route, why error) {
	c.setFailed++
	if k := r.circuit; r.begun >= k.failedAt {
		k.failed++
		k.failedAt, k.why = now, why
	}
	heard := c.heard > max(r.begun, r.sent)
	if r.begun >= c.failedAt {
		c.failures++
		if !heard {
			c.unheard++
		}
		c.failedAt = now
	}
	if c.cfg.Level == wire.Fast && r.sent != 0 && r.entry.heard <= r.sent && !c.cfg.Patient {
		c.mute.add(r.entry.node, now.Add(muteFor), trace.ReasonSilent)
	}
	if heard {
		c.blamePath(now, r)
		c.learn(now, r, false)
	}
}

// failedNow is how long a node at which a set-up failed is taken for dead: routes
// rather share mixes than lead by it.
const failedNow = 30 * time.Second

// muteFor is how long others are tried before an entry by which nothing came.
const muteFor = 10 * time.Second

// revive is told that an entry brings what it should: the client's own line works,
// and a link by which nothing came is one that the other end does not know, which
// may have restarted. The next set-up by it begins with a new one.
func (c *Client) revive(now machine.Time, by *entry) {
	c.mute.remove(by.node)
	for _, node := range c.mute.nodes(now) {
		if e := c.entries[node]; e != nil {
			c.links.Close(now, e.link)
		}
	}
}

// setupsTold is how many set-ups in a row may fail until who waits for them is told.
const setupsTold = 3

// Stuck says why a stream that was opened at since is not carried: no route of its
// session stands, and so many set-ups in a row have failed, one of them since then,
// that who waits is to know. nil: it is, or may soon be. The client goes on trying.
func (c *Client) Stuck(ref session.Ref, since machine.Time) error {
	m := c.Get(ref.Session)
	if m == nil || m.Owner.failed < setupsTold || m.Owner.failedAt <= since || m.Owner.ready() > 0 {
		return nil
	}
	return m.Owner.why
}

// SetupsFailed counts them. Only when it moves has Stuck anything new to say.
func (c *Client) SetupsFailed() uint64 { return c.setFailed }

// Trouble is why the last set-ups of the client failed, if so many did in a row, or
// nil.
func (c *Client) Trouble() error {
	if c.failures < setupsTold {
		return nil
	}
	return c.lastError
}

// hopeless reports whether a session has not begun after so many set-ups, and no route
// to its exit stands.
func (k *circuit) hopeless() bool {
	return k.purpose == exiting && k.member != nil && k.failed >= setupsTold && k.ready() == 0 && !k.member.Core.Established()
}

// setupsFree is how many set-ups in a row may fail, while others are heard, until
// the next has to wait.
const setupsFree = 4

// backoff is the pause before the next set-up: none after the first failure, nor
// while routes fail that others outlive or something is heard; up to 5 s when
// nothing succeeds.
func (c *Client) backoff() time.Duration {
	n := c.failures - setupsFree
	if c.heard <= c.failedAt {
		n = max(n, c.unheard)
	}
	if n <= 1 {
		return 0
	}
	return min(100*time.Millisecond<<min(n, 6), setupMost)
}

// blamePath blames the hops of a set-up that was not answered. At FAST it is
// known how far it came, by the LOOPs that were (blameLink). Elsewhere it may be any,
// and the second failure tells: every route that stands clears its nodes. A set-up
// that was never sent is its entry's failure.
func (c *Client) blamePath(now machine.Time, r *route) {
	if c.cfg.Level == wire.Fast || r.sent == 0 {
		c.blameLink(now, r, r.reached-1)
		return
	}
	for _, n := range r.path.Nodes() {
		c.blame(now, n.ID, againstSetups, blameMost/2)
	}
}

// blameLink blames the hop after a position for a failure: it is gone, or drops
// what it gets. It may be who is at the position that does not pass it on; then he
// is beside one failure after the other.
func (c *Client) blameLink(now machine.Time, r *route, position int) {
	nodes := r.path.Nodes()
	if position >= 0 {
		c.blame(now, nodes[position].ID, againstSetups, 1)
	}
	if position+1 < len(nodes) {
		c.blame(now, nodes[position+1].ID, againstSetups, blameMost)
	}
}
