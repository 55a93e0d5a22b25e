package joint

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Times of the choice. A dial of a link repeats its datagrams after 0.25,
// 0.75, 1.75, 3.75, 5.75 and 7.75 s and fails after 10 s: falling back has to
// come about within these.
const (
	// silentTime and silentSent make silence on UDP: this long, and this many
	// datagrams, without any back. An idle link sends one in 10 s.
	silentTime = 1500 * time.Millisecond
	silentSent = 4
	// brokenTime is the same for a connection, which holds back what follows a
	// lost segment and is slower to be given up.
	brokenTime = 5 * time.Second
	// rest is the time from a dial of everything that failed to the next.
	rest = 10 * time.Second
	// probeGap is the time between datagrams that try UDP on a fall-back, at
	// first; it doubles up to probeGapMax while UDP does not last steadyTime.
	probeGap    = 10 * time.Second
	probeGapMax = 20 * time.Second
	steadyTime  = time.Minute
	// probeWait is how long the answer to a probe is waited for.
	probeWait = 5 * time.Second
	// linger is how long a connection stays after the return to UDP.
	linger = 30 * time.Second
)

// way is how a datagram goes.
type way uint8

const (
	nowhere way = iota // it is dropped
	byUDP
	byConn
)

// todo is what else a call of send wants done.
type todo uint8

const (
	nothing todo = iota
	dial
	hangUp
	redial // hang up, and dial the next kind
)

// choice decides how datagrams to one entry go. It is a core: time is an
// argument; send says where one datagram goes, and the other methods say what
// became of it. The zero choice is on UDP.
type choice struct {
	only    bool // never UDP
	onConn  bool // the connection is in use
	up      bool // a connection stands
	dialing bool

	unanswered int          // datagrams sent on the way in use since one came back
	since      machine.Time // when the first of these was sent
	restUntil  machine.Time // no dial before
	probeAt    machine.Time
	probeUntil machine.Time // answers by UDP until then are answers to a probe
	gap        time.Duration
	returned   machine.Time // last return to UDP
	lingerTill machine.Time
}

// send takes note of a datagram to be sent and says how it goes.
func (c *choice) send(now machine.Time) (way, todo) {
	if c.only && !c.up {
		return nowhere, c.wantDial(now)
	}
	if c.onConn && !c.only && now >= c.probeAt {
		// One datagram of the link's own is the probe: the entry answers a new
		// address with a challenge, and the link moves by itself (4.6).
		c.probeAt, c.probeUntil = now.Add(c.gap), now.Add(probeWait)
		return byUDP, nothing
	}
	if c.unanswered == 0 {
		c.since = now
	}
	c.unanswered++
	silent := c.unanswered >= silentSent && now.Sub(c.since) >= silentTime
	switch {
	case c.onConn && c.unanswered >= silentSent && now.Sub(c.since) >= brokenTime:
		c.lost()
		c.dialing = true
		if c.only {
			return nowhere, redial
		}
		c.unanswered, c.since = silentSent, now.Add(-silentTime) // UDP was silent before
		return byUDP, redial
	case c.onConn:
		return byConn, nothing
	case silent && c.up:
		c.useConn(now)
		return byConn, nothing
	case silent:
		return byUDP, c.wantDial(now)
	case c.up && now >= c.lingerTill:
		c.up = false
		return byUDP, hangUp
	}
	return byUDP, nothing
}

func (c *choice) wantDial(now machine.Time) todo {
	if c.dialing || now < c.restUntil {
		return nothing
	}
	c.dialing = true
	return dial
}

func (c *choice) useConn(now machine.Time) {
	if c.gap == 0 || now.Sub(c.returned) >= steadyTime {
		c.gap = probeGap
	} else {
		c.gap = min(2*c.gap, probeGapMax)
	}
	c.onConn, c.unanswered, c.probeAt, c.probeUntil = true, 0, now.Add(c.gap), now
}

// heard takes note of a datagram from the entry. It reports whether UDP is
// back in use.
func (c *choice) heard(now machine.Time, by way) (returned bool) {
	if c.onConn && by == byUDP && now < c.probeUntil {
		c.onConn, c.returned, c.lingerTill, returned = false, now, now.Add(linger), true
	}
	if c.onConn == (by == byConn) {
		c.unanswered = 0
	}
	return returned
}

// dialled takes the outcome of a dial.
func (c *choice) dialled(now machine.Time, ok bool) {
	c.dialing, c.up = false, ok
	switch {
	case !ok:
		c.restUntil = now.Add(rest)
	case c.only || c.unanswered >= silentSent:
		c.useConn(now)
	default: // UDP has come back meanwhile
		c.lingerTill = now.Add(linger)
	}
}

// lost takes note that the connection has ended by itself.
func (c *choice) lost() {
	c.up, c.onConn, c.unanswered = false, false, 0
}
