package congestion

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Constants of RFC 9438. Windows are in bytes, times in milliseconds inside
// the cubic, where C = 0.4 packets per second cubed.
const (
	betaCubic = 179 // 0.7 in 1/256
	// fastConvergence, (1 + 0.7)/2 in 1/256.
	fastConvergence = 218
	// alphaNum/alphaDen is 3 × (1 − 0.7)/(1 + 0.7), the growth per window that
	// is as fast as Reno's (RFC 9438 section 4.3).
	alphaNum, alphaDen = 9, 17
	// cubicDivisor turns milliseconds cubed into packets: 10^9 / 0.4.
	cubicDivisor = 2_500_000_000
	// cubicSpan bounds the time in the cubic, far past windowMax.
	cubicSpan = 500 * time.Second
	// Pacing gains in 1/256, as Linux paces loss-based controllers.
	paceSlowStart = 512
	paceCubic     = 307
)

// cubic is CUBIC (RFC 9438) in bytes, paced. A reduction is undone when every
// packet whose loss belonged to it arrives after all: on a path that reorders
// without bound that is the usual case.
type cubic struct {
	packet, initial, least int
	epoch                  uint16

	window    int
	threshold int // slow start below it
	plateau   int // W_max
	rise      time.Duration
	reno      int // W_est
	growthAt  machine.Time
	growing   bool // growthAt is set
	credit    uint64
	renoAcked uint64

	srtt    time.Duration
	acked   int
	limited bool // the sender was short of data in this ACK frame

	recovery   uint16       // number of the last reduction
	recoveryAt machine.Time // a packet sent before it is part of that loss
	missing    int          // lost in that recovery and not yet arrived
	undo       cubicUndo
}

// cubicUndo is what a reduction replaced.
type cubicUndo struct {
	window, threshold, plateau, reno int
	rise                             time.Duration
	growthAt                         machine.Time
	growing                          bool
}

func newCubic(cfg Config) *cubic {
	c := &cubic{
		packet:  cfg.PacketSize,
		initial: cfg.InitialWindow * cfg.PacketSize,
		least:   minWindowPackets * cfg.PacketSize,
	}
	c.restart()
	return c
}

func (c *cubic) restart() {
	*c = cubic{packet: c.packet, initial: c.initial, least: c.least, epoch: c.epoch}
	c.window, c.threshold, c.recoveryAt = c.initial, windowMax, -1
}

func (c *cubic) OnSent(now machine.Time, p *Packet, inFlight int, appLimited bool) {
	p.note(c.epoch, inFlight, appLimited && inFlight < c.window)
	if inFlight <= p.Bytes && c.growing && c.srtt > 0 {
		// The time spent idle is no time of growth (RFC 9438 section 4.2).
		c.growing = false
	}
}

func (c *cubic) OnAcked(now machine.Time, p *Packet) {
	if p.fate == lost {
		c.OnSpurious(now, p)
		return
	}
	if p.settle(acked, c.epoch) && p.SentAt > c.recoveryAt {
		c.acked += p.Bytes
		c.limited = c.limited || p.limited
	}
}

func (c *cubic) OnAckEnd(now machine.Time, rtt time.Duration, _ int) {
	if rtt > 0 {
		c.srtt = smooth(c.srtt, rtt)
	}
	n, limited := c.acked, c.limited
	c.acked, c.limited = 0, false
	switch {
	case n == 0:
	case limited:
		// A window that was not used proves nothing.
		c.growing = false
	case c.window < c.threshold:
		c.window = clampWindow(uint64(c.window+n), c.least)
	default:
		c.avoid(now, uint64(n))
	}
}

// avoid grows the window in congestion avoidance by n acknowledged bytes.
func (c *cubic) avoid(now machine.Time, n uint64) {
	if !c.growing {
		c.growing, c.growthAt, c.credit, c.renoAcked = true, now, 0, 0
		c.reno = c.window
		c.rise = 0
		if c.plateau > c.window {
			c.rise = riseTime(uint64(c.plateau-c.window), uint64(c.packet))
		} else {
			c.plateau = c.window
		}
	}
	c.renoAcked += n * uint64(c.packet) * alphaNum
	if per := uint64(c.window) * alphaDen; c.renoAcked >= per {
		c.reno += int(c.renoAcked / per)
		c.renoAcked %= per
	}
	target := c.curve(now.Sub(c.growthAt) + c.srtt)
	target = min(target, c.window+c.window/2)
	if target > c.window {
		c.credit += uint64(target-c.window) * n
		c.window += int(c.credit / uint64(c.window))
		c.credit %= uint64(c.window)
	}
	c.window = clampWindow(uint64(max(c.window, c.reno)), c.least)
}

// curve is W_cubic(t) in bytes.
func (c *cubic) curve(t time.Duration) int {
	ms := (min(t, cubicSpan) - c.rise) / time.Millisecond
	below := ms < 0
	if below {
		ms = -ms
	}
	cube := uint64(min(ms, cubicSpan/time.Millisecond))
	offset := min(mulDiv(cube*cube*cube, uint64(c.packet), cubicDivisor), windowMax)
	if below {
		return max(c.plateau-int(offset), 0)
	}
	return c.plateau + int(offset)
}

// riseTime is K: how long the cubic takes to climb by bytes.
func riseTime(bytes, packet uint64) time.Duration {
	return time.Duration(cubeRoot(mulDiv(bytes, cubicDivisor, packet))) * time.Millisecond
}

// cubeRoot rounds down.
func cubeRoot(v uint64) uint64 {
	var root uint64
	for s := 63; s >= 0; s -= 3 {
		root <<= 1
		b := 3*root*(root+1) + 1
		if v>>uint(s) >= b {
			v -= b << uint(s)
			root++
		}
	}
	return root
}

func (c *cubic) OnLost(now machine.Time, p *Packet, _ int) {
	if !p.settle(lost, c.epoch) {
		return
	}
	if p.SentAt <= c.recoveryAt {
		c.missing++
		p.recovery = c.recovery
		return
	}
	c.recovery++
	p.recovery = c.recovery
	c.undo = cubicUndo{c.window, c.threshold, c.plateau, c.reno, c.rise, c.growthAt, c.growing}
	c.missing = 1
	c.recoveryAt = now
	c.plateau = c.window
	if c.window < c.undo.plateau {
		c.plateau = int(scale(uint64(c.window), fastConvergence))
	}
	c.window = clampWindow(scale(uint64(c.window), betaCubic), c.least)
	c.threshold = c.window
	c.growing = false
}

// OnSpurious takes the last reduction back once nothing that belonged to it is
// missing any more (RFC 9438 section 4.9).
func (c *cubic) OnSpurious(_ machine.Time, p *Packet) {
	if !p.settle(acked, c.epoch) || p.recovery != c.recovery || c.missing == 0 {
		return
	}
	c.missing--
	if c.missing > 0 || c.window >= c.undo.window {
		return
	}
	u := c.undo
	c.window, c.threshold, c.plateau, c.reno = u.window, u.threshold, u.plateau, u.reno
	c.rise, c.growthAt, c.growing = u.rise, u.growthAt, u.growing
}

func (c *cubic) OnPathChange(machine.Time) {
	c.epoch++
	c.restart()
}

func (c *cubic) Window() int { return c.window }

func (c *cubic) PacingRate() uint64 {
	gain := uint64(paceCubic)
	if c.window < c.threshold {
		gain = paceSlowStart
	}
	return max(scale(rateOf(uint64(c.window), max(c.srtt, rttNominal)), gain), 1)
}
