package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/wire"
)

// track is what a busy session knows of one path that carries its packets:
// round trip, congestion, and which of them are in flight. Packets of several
// paths share one sequence of numbers, but only a path's own packets say
// whether an earlier one of them is lost. A track is made when its path is
// first used and goes with the path, or when the session is idle.
type track struct {
	ctl  congestion.Controller
	pace pacer
	rtt  rtt

	flying int          // packets in flight
	owing  machine.Time // of which an acknowledgement is owed since; 0: none
	acked  uint64       // greatest packet acknowledged + 1
	scan   uint64       // packets of this path below are settled or lost
	news   bool         // of the ACK frame in progress: something arrived,
	fresh  bool         // and acked rose, by a packet that was sent at newest
	newest machine.Time

	lossAt   machine.Time
	ptoAt    machine.Time
	ptoCount uint8
	probes   uint8
	soundAt  machine.Time // not measured afresh before
	behind   machine.Time // while it is active: since when another path costs less; 0: none does
	probeAt  machine.Time // while the path is silent: when it is looked at again
	epoch    uint8        // tells the tracks of one path id apart

	sent, arrived, lost uint64 // packets
	missed              uint64 // of those lost, found so by later ones of the path and not told by a hop

	beside bool          // carries data beside the active path (couple.go)
	most   int           // bytes in flight while it is tried; 0: no bound
	shares bool          // does not: it shares their bottleneck
	tryAt  machine.Time  // not tried, or tried anew, before
	wait   time.Duration // how long it was left the last time
	loss   lossMeter
	rest   restMeter
	taken  taken
	slots  slots // of a shaped path
}

// track returns a path's track, made if need be. The path for data keeps what
// is known of its round trip, another begins with that as a guess.
func (s *Session) track(id uint8) *track {
	w := s.busy()
	if w.tracks[id] == nil {
		t := w.spare
		if w.spare = nil; t == nil {
			t = &track{ctl: congestion.New(congestion.Config{
				Kind: s.cfg.Congestion, PacketSize: wire.SessionPacketSize, FixedRate: s.cfg.FixedRate,
			})}
		}
		t.lossAt, t.ptoAt, t.rtt = machine.Never, machine.Never, *s.estimate()
		if id != s.active {
			t.rtt.start(t.rtt.smooth)
		}
		s.pathEpoch++
		t.epoch = s.pathEpoch
		w.tracks[id] = t
	}
	return w.tracks[id]
}

// trackOf returns the track on which a packet was sent, or nil if it is gone.
func (w *work) trackOf(r *record) *track {
	if t := w.tracks[r.path]; t != nil && t.epoch == r.epoch {
		return t
	}
	return nil
}

// await begins anew the time for which an acknowledgement is owed.
func (t *track) await(now machine.Time) {
	if t.owing = now; t.flying == 0 {
		t.owing = 0
	}
}

// inFlight is the bytes in flight on the path.
func (t *track) inFlight() int { return t.flying * wire.SessionPacketSize }

// room reports whether the congestion window has room for a packet, and the bound
// of a trial.
func (t *track) room() bool {
	need := t.inFlight() + wire.SessionPacketSize
	return need <= t.ctl.Window() && (t.most == 0 || need <= t.most)
}

// windows is how much may be in flight on all paths, in bytes.
func (s *Session) windows() (n int) {
	for _, t := range s.work.tracks {
		if t != nil {
			n += t.ctl.Window()
		}
	}
	return n
}

// estimate is the round trip of the path for data.
func (s *Session) estimate() *rtt {
	if w := s.work; w != nil && w.tracks[s.active] != nil {
		return &w.tracks[s.active].rtt
	}
	return &s.rtt
}

// adopt makes a path's own what left with the set-up of its route, before
// there was a path.
func (s *Session) adopt(id uint8) {
	w := s.work
	if w == nil || w.tracks[noPath] == nil {
		return
	}
	w.tracks[id], w.tracks[noPath] = w.tracks[noPath], nil
	l := &w.sent
	for pn, ok := l.nextOpen(l.tail, l.next); ok; pn, ok = l.nextOpen(pn+1, l.next) {
		if r := l.at(pn); r.path == noPath {
			r.path = id
		}
	}
}

// pathPTO is the probe timeout of one path without back-off (RFC 9002, section
// 6.2.1).
func (s *Session) pathPTO(r *rtt) time.Duration {
	return r.smooth + max(4*r.vary, time.Millisecond) + s.peerAck + r.extra
}

// pto is the greatest probe timeout of the paths in use: what was sent so long
// ago has arrived, or is lost.
func (s *Session) pto() time.Duration {
	d := s.pathPTO(s.estimate())
	if s.work != nil {
		for _, t := range s.work.tracks {
			if t != nil {
				d = max(d, s.pathPTO(&t.rtt))
			}
		}
	}
	return d
}
