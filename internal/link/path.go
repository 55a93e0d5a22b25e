package link

import (
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Times of a change of address.
const (
	challengeRetry = 250 * time.Millisecond
	challengesMax  = 4 // then the new address is forgotten until it is heard again
)

// path is a change of address under way, on either side of it.
type path struct {
	candidate netip.AddrPort // valid: a challenge is out
	token     [wire.PathTokenSize]byte
	tries     int
	nextAt    machine.Time

	answerTo    netip.AddrPort // valid: a response has to be sent
	answerToken [wire.PathTokenSize]byte
}

// pathSeen notes that the newest datagram came from another address, which is
// asked to prove itself. Data goes to the present address until then.
func (e *Endpoint) pathSeen(now machine.Time, from netip.AddrPort, l *link) {
	if l.path == nil {
		l.path = &path{}
	}
	if l.path.candidate.IsValid() {
		return // one at a time; the next datagram asks again
	}
	l.path.candidate, l.path.tries = from, 0
	e.draw.path.Read(l.path.token[:])
	e.sendChallenge(now, l)
}

func (e *Endpoint) sendChallenge(now machine.Time, l *link) {
	l.path.tries++
	l.path.nextAt = now.Add(challengeRetry)
	e.flag(l, flagChallenge)
	e.reschedule(l)
}

// retryChallenge runs at path.nextAt.
func (e *Endpoint) retryChallenge(now machine.Time, l *link) {
	if l.path.tries < challengesMax {
		e.sendChallenge(now, l)
		return
	}
	l.endChallenge()
}

func (l *link) endChallenge() {
	l.path.candidate = netip.AddrPort{}
	l.flags &^= flagChallenge
	l.settlePath()
}

// settlePath frees the path's memory when neither side needs it.
func (l *link) settlePath() {
	if l.flags&flagResponse == 0 && !l.path.candidate.IsValid() {
		l.path = nil
	}
}

// handlePath takes a challenge, which is answered to where it came from, or
// the response to ours.
func (e *Endpoint) handlePath(now machine.Time, from netip.AddrPort, l *link, frame []byte) {
	m, _, err := wire.ParseLinkPath(frame)
	if err != nil {
		e.counts[trace.DropLinkMalformed]++
		return
	}
	if m.Type == wire.FramePathChallenge {
		if l.cur == nil {
			return
		}
		if l.path == nil {
			l.path = &path{}
		}
		l.path.answerTo, l.path.answerToken = from, m.Token
		e.flag(l, flagResponse)
		return
	}
	if l.remote != nil && from == l.addr {
		l.remote.trip.answered(now, m.Token)
	}
	if p := l.path; p != nil && p.candidate.IsValid() && from == p.candidate && m.Token == p.token {
		l.addr = from
		l.endChallenge()
		e.counts[trace.LinkPathChanges]++
		e.reschedule(l)
	}
}
