package client

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// entry is a Stream node through which this client's routes enter.
type entry struct {
	node     wire.NodeID
	link     link.ID
	admitted bool
	refused  error        // why it refused, until it admits
	heard    machine.Time // the last cell that came by it
	nonce    [16]byte
	token    wire.Token
	waiting  []*route      // to be sent when admitted
	tries    int           // of SESSION_INIT under this nonce
	version  uint8         // of the exchange
	work     *uint64       // the proof that the entry asked for under this nonce
	pass     *wire.Pass    // what is spent under this nonce
	asked    machine.Time  // when it was first sent
	trip     time.Duration // least round trip to the entry, as admissions told; 0: unknown
	setups   span          // what set-ups by it took
	renew    machine.Timer[func(machine.Time)]
}

// initRetry is when an unanswered SESSION_INIT is repeated at first, and
// initRetryMax in the end. The entry answers repetitions alike, so being early
// costs nothing but a frame.
const (
	initRetry    = 200 * time.Millisecond
	initRetryMax = 2 * time.Second
)

// entryFor returns the entry of a node, opening its link if need be.
func (c *Client) entryFor(now machine.Time, n *directory.Node) (*entry, error) {
	key, ok := c.view.Link(n.ID)
	if !ok {
		return nil, fmt.Errorf("client: the directory has no usable link key for entry %x", n.ID[:4])
	}
	id := c.links.Dial(now, n.ID, key, n.Addrs[0])
	e := c.entries[n.ID]
	if e == nil {
		e = &entry{node: n.ID, version: wire.AdmissionVersion}
		e.renew.Value = func(now machine.Time) { c.sendInit(now, e) }
		c.entries[n.ID] = e
	}
	if e.link != id {
		for _, r := range c.routesOf(e) {
			if r.train == nil {
				c.fail(now, r, errEntryGone) // they ended with the link before
			}
		}
		delete(c.byLink, e.link)
		e.link, e.admitted, e.trip = id, false, 0
		c.byLink[id] = e
		c.freshNonce(e)
		c.sendInit(now, e)
	}
	return e, nil
}

// enter asks the entry that the configuration names for admission.
func (c *Client) enter(now machine.Time) {
	n, ok := c.view.Node(c.cfg.Entry)
	if !ok {
		return
	}
	if _, err := c.entryFor(now, n); err != nil {
		c.lastError = err
	}
}

// entriesAbroad lists the entries that a client which says where it is would
// rather not use.
func (c *Client) entriesAbroad() (abroad []wire.NodeID) {
	for i := range c.view.Len() {
		if n := c.view.At(i); c.cfg.Region != "" && n.Roles.Has(directory.RoleEntry) && n.Region != c.cfg.Region {
			abroad = append(abroad, n.ID)
		}
	}
	return abroad
}

// allEntries returns the entries in the order of their links.
func (c *Client) allEntries() []*entry {
	out := make([]*entry, 0, len(c.entries))
	for _, e := range c.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *entry) int { return cmp.Compare(a.link, b.link) })
	return out
}

func (c *Client) freshNonce(e *entry) {
	c.paths.Read(e.nonce[:])
	e.tries, e.work, e.pass = 0, nil, nil
}

// sendInit sends SESSION_INIT, and again until it is answered.
func (c *Client) sendInit(now machine.Time, e *entry) {
	id := c.pseudonym(e.node)
	f := c.Pool.Get()
	m := wire.SessionInit{ClientID: id, Nonce: e.nonce, Version: e.version, Level: c.cfg.Level, Proof: c.proof(id, e.nonce)}
	if e.work != nil {
		m.Worked, m.Work = true, *e.work
	}
	c.showPass(e, &m)
	m.Put(f)
	c.links.Push(e.link, f)
	if e.tries == 0 {
		e.asked = now
		c.cfg.Steps.Emit(now, trace.StepInit, binary.BigEndian.Uint64(e.nonce[:]), binary.BigEndian.Uint64(e.nonce[8:]))
	}
	c.timers.Set(&e.renew, now.Add(machine.RepeatAfter(e.tries, initRetry, initRetryMax)))
	e.tries++
}

// handleAdmission takes an entry's answer.
func (c *Client) handleAdmission(now machine.Time, from link.ID, frame []byte) {
	e := c.byLink[from]
	m, ok := wire.ParseAdmission(frame)
	if !ok || e == nil {
		c.Counts[trace.DropLinkMalformed]++
		return
	}
	switch m.Kind {
	case wire.AdmissionReady:
		if m.Ready.Nonce == e.nonce {
			c.admit(now, e, &m.Ready)
		}
	case wire.AdmissionRefused:
		if m.Refused.Nonce == e.nonce {
			c.told(now, e, &m.Refused)
		}
	}
}

// admit sends what waited for admission, and renews it before it ends.
func (c *Client) admit(now machine.Time, e *entry, ready *wire.SessionReady) {
	e.token, e.refused = ready.Token, nil
	trip := now.Sub(e.asked)
	c.Distributions.ObserveTime(trace.SessionHandshake, trip)
	c.cfg.Steps.Emit(now, trace.StepGranted, 0, 0)
	if !e.admitted {
		trip /= 2 // the link's handshake came first
		e.admitted = true
		for _, r := range e.waiting {
			c.sendTrain(now, r)
		}
		e.waiting = nil
	}
	if e.trip == 0 || trip < e.trip {
		e.trip = trip
	}
	c.freshNonce(e)
	life := time.Duration(ready.Lifetime) * time.Second
	c.timers.Set(&e.renew, now.Add(life*3/4))
}

// told takes a refusal. What the entry only wants to be told otherwise it is told:
// an older version, or a proof of work.
func (c *Client) told(now machine.Time, e *entry, m *wire.SessionRefused) {
	switch {
	case m.Reason == wire.RefusedVersion && e.version > wire.AdmissionVersionLeast:
		e.version--
		c.sendInit(now, e)
	case m.Reason == wire.RefusedWork && m.Challenge.Bits <= control.WorkMost:
		c.jobs = append(c.jobs, &proving{entry: e, challenge: m.Challenge, client: c.pseudonym(e.node), nonce: e.nonce})
		c.timers.Set(&e.renew, now.Add(refusedRetry)) // by then it is found, or the challenge is old
	case m.Reason == wire.RefusedPass && len(c.passes[e.node]) > 0:
		c.freshNonce(e)
		c.sendInit(now, e)
	default:
		c.refuse(now, e, m.Reason)
	}
}

// proving is the job that searches a proof of work.
type proving struct {
	entry         *entry
	challenge     wire.Challenge
	client, nonce [16]byte
	answer        uint64
	found         bool
}

// Run searches.
func (p *proving) Run() { p.answer, p.found = control.Prove(&p.challenge, p.client, p.nonce) }

// PollJob yields the search for a proof of work.
func (c *Client) PollJob() (machine.Job, bool) {
	if len(c.jobs) == 0 {
		return nil, false
	}
	j := c.jobs[0]
	c.jobs = c.jobs[1:]
	return j, true
}

// HandleJob takes it back and shows what was found, if it is still asked for.
func (c *Client) HandleJob(now machine.Time, j machine.Job) {
	if p, ok := j.(*proving); ok && p.found && p.entry.nonce == p.nonce && c.entries[p.entry.node] == p.entry {
		p.entry.work = &p.answer
		c.sendInit(now, p.entry)
	}
}

// refuse gives up the routes that waited, and asks again later.
func (c *Client) refuse(now machine.Time, e *entry, why wire.Refusal) {
	c.cfg.Steps.Emit(now, trace.StepDenied, uint64(why), 0)
	waiting := e.waiting
	e.waiting, e.admitted, e.refused = nil, false, c.refusal(why)
	c.avoid(now, &c.refusing, e.node, refusedRetry, trace.ReasonRefused)
	for _, r := range waiting {
		c.fail(now, r, e.refused)
	}
	c.freshNonce(e)
	retry := refusedRetry
	if why == wire.RefusedBusy {
		retry = busyRetry
	}
	c.timers.Set(&e.renew, now.Add(retry))
}

// refusal is why an entry refused this client, and what to do. An honest client is
// refused by policy because it has not proven the network's key, or because of its level:
// entries say no more.
func (c *Client) refusal(why wire.Refusal) error {
	switch {
	case why == wire.RefusedPass:
		return ErrNoPass
	case why != wire.RefusedPolicy:
		return fmt.Errorf("client: the entry refused the session: %v", why)
	case c.cfg.NetworkKey == nil:
		return fmt.Errorf("%w; or its policy does not admit level %v: choose another", errNoNetworkKey, c.cfg.Level)
	}
	return fmt.Errorf("%w; or its policy does not admit level %v: choose another", errWrongNetworkKey, c.cfg.Level)
}

var (
	errNoNetworkKey    = errors.New("client: the network admits holders of its pre-shared key only: put its psk line into the network file")
	errWrongNetworkKey = errors.New("client: the network has another pre-shared key than the psk line of the network file")
)

// refusedRetry is when a client that was refused asks again. Until then its
// routes enter elsewhere if they can.
const refusedRetry = 10 * time.Second

// busyRetry is that of one for whom the entry was too busy: it has waited already.
const busyRetry = 2 * time.Second

// handleLinkEvent fails the routes of a link that went down.
func (c *Client) handleLinkEvent(now machine.Time, ev link.Event) {
	e := c.byLink[ev.Link]
	if e == nil || ev.Kind != link.Down {
		return
	}
	delete(c.byLink, ev.Link)
	delete(c.entries, e.node)
	c.timers.Stop(&e.renew)
	for _, r := range c.routesOf(e) {
		c.fail(now, r, errEntryGone)
	}
}

var errEntryGone = errors.New("client: no answer from the entry at its address")
