package client

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// What a client does about routes that pause, before it is known whether they are
// dead (docs/protocol.md, section 12.11): it costs little where they are not. On
// shaped routes the exit's cover tells, whatever the user does: where one of two
// routes pauses the other carries what there is, and where all do a spare one is
// built. At FAST the session finds the first out, and the doubt of an exit the second.

const (
	// pauseLeast and silenceGaps are how long a shaped route brings nothing until it
	// pauses.
	pauseLeast = 300 * time.Millisecond
	// spareFor is how long there is a route more than a circuit holds, at the most,
	// once the new one stands.
	spareFor = 5 * time.Second
	// spareWait is the longest set-up of a spare route that the verdict on an exit
	// waits for: at EXTREME they take longer than the verdict.
	spareWait = 1900 * time.Millisecond
	// spareLeast is the least time between two spare routes of a circuit. It doubles
	// up to spareMost, and begins anew when none was wanted for so long.
	spareLeast = 250 * time.Millisecond
	spareMost  = 10 * time.Second
)

// pauses reports whether a shaped route has brought nothing for longer than is usual.
func (r *route) pauses(now machine.Time) bool {
	return now.Sub(r.heard) > max(pauseLeast, silenceGaps*r.gap)
}

// relieve has another route carry what one that pauses would, and gives that one up
// when it is silent. Where all pause, others that do not tell that it is not the
// client's own line; without any, a spare route is tried all the same, later.
func (c *Client) relieve(now machine.Time, r *route) {
	k := r.circuit
	if c.cfg.Patient {
		return
	}
	for slot, other := range k.routes {
		switch {
		case other == nil || !other.joined || other.pauses(now):
			continue
		case now.Sub(other.heard) >= watchEvery: // perhaps it is the client's own line
		case r.silent(now):
			c.silenced(now, r)
		case k.member != nil:
			k.member.Core.LeavePath(now, uint8(r.slot), uint8(slot))
			c.Touch(k.member)
		}
		return
	}
	for _, other := range c.routes {
		if r.silent(now) || other.ready && other.circuit != k && now.Sub(other.heard) < watchEvery {
			c.rescue(now, k)
			return
		}
	}
}

// rescue builds a spare route beside those of a circuit, which are all silent: one
// at a time, and the next after a pause that doubles, for where mixes die the set-ups
// of spare routes fail as well.
func (c *Client) rescue(now machine.Time, k *circuit) {
	slot := k.free()
	if c.cfg.Patient || slot < 0 || k.held() > k.wanted(c.cfg.RoutesPerSession) || now < max(k.spareAt, c.failedAt.Add(c.backoff())) {
		return
	}
	if slices.ContainsFunc(k.routes[:], func(r *route) bool { return r != nil && r.spare }) {
		return
	}
	if now >= k.spareAt.Add(spareMost) {
		k.respite = 0
	}
	k.respite = min(max(2*k.respite, spareLeast), spareMost)
	k.rescued, k.spareAt = true, now.Add(k.respite)
	if c.build(now, k, slot, nil) == nil {
		k.routes[slot].spare = true
	}
	k.rescued = false
}

// keep ends the time of a spare route: it stays, and if there is still one too many
// that which was heard least of late goes.
func (c *Client) keep(now machine.Time, r *route) {
	k := r.circuit
	r.spare = false
	r.expire.Value = func(now machine.Time) { c.renew(now, r) }
	c.timers.Set(&r.expire, max(now, r.renews()))
	if k.held() <= k.wanted(c.cfg.RoutesPerSession) {
		return
	}
	var least *route
	for _, other := range k.routes {
		if other != nil && other.joined && !other.replaced && other.replaces == nil && (least == nil || other.heard < least.heard) {
			least = other
		}
	}
	if least != nil {
		c.drop(now, least)
	}
}
