package link

import (
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Two nodes may dial each other at once. Both then keep the handshake whose
// initiator has the smaller id.
const (
	// crossYield is how long our own dial keeps the other side's out when ours
	// is preferred. After that the peer may not hear us, and theirs is taken.
	crossYield = 2 * time.Second
	// crossTime is how long after one handshake another, begun by the other
	// side, counts as crossing it.
	crossTime = dialTime
)

// oursWins decides a crossing of two dials: the one whose initiator has the
// smaller id stays.
func (e *Endpoint) oursWins(now machine.Time, l *link) bool {
	return l.cur == nil && l.dial != nil && now.Sub(l.dial.started) < crossYield && less(e.cfg.Self, l.remote.node)
}

func less(a, b wire.NodeID) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// confirm brings up the link of an answered keyset, whose initiator has just
// proven that it holds the keys. Nil: the link cannot be.
func (e *Endpoint) confirm(now machine.Time, from netip.AddrPort, k *keyset) *link {
	a := k.answer
	l, fresh := e.linkFor(now, a)
	a.resp, a.keys = nil, nil
	if l == nil {
		e.forget(k)
		return nil
	}
	if l.cur != nil && a.continues == 0 && !less(a.remote.node, e.cfg.Self) {
		e.keepAsPrevious(now, l, k)
		return l
	}
	e.endDial(l)
	if from == a.from {
		l.addr = from
	}
	e.install(now, l, k)
	if fresh {
		e.up(now, l)
	}
	e.reschedule(l)
	return l
}

// linkFor finds or makes the link that an answer's keys belong to. fresh: it
// was not up.
func (e *Endpoint) linkFor(now machine.Time, a *answer) (l *link, fresh bool) {
	if a.continues != 0 {
		if l = e.links[a.continues]; l == nil {
			e.counts[trace.DropLinkUnknown]++
		}
		return l, false
	}
	if a.remote != nil {
		if l = e.byPeer[a.remote.node]; l != nil {
			if l.cur == nil {
				return l, true
			}
			if l.cur.initiator && now.Sub(l.since) < crossTime {
				return l, false
			}
			e.drop(l, Replaced)
		}
	}
	if a.remote == nil {
		l = e.newStranger(now, a.from)
	} else {
		l = e.newLink(now, a.from, a.remote)
	}
	if l == nil {
		e.counts[trace.DropHandshakeLimit]++
	}
	return l, true
}

// keepAsPrevious settles a crossing in favour of the keys that the link has:
// the others are accepted for as long as the peer may use them.
func (e *Endpoint) keepAsPrevious(now machine.Time, l *link, k *keyset) {
	e.forget(l.prev)
	k.owner, k.answer, k.stage = l, nil, live
	l.prev, l.prevUntil = k, now.Add(prevGrace)
	e.reschedule(l)
}
