package link

import (
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Limits on what an address that is not proven can cause.
const (
	// cookieLife is how long a cookie key makes cookies; it accepts them for
	// as long again. A handshake takes seconds, and addresses change hands.
	cookieLife = 2 * time.Minute
	// cookieInterval and cookieBurst bound the cookies sent: 10,000 a second
	// are five times the handshakes that can follow, and 100 Mbit/s.
	cookieInterval = 100 * time.Microsecond
	cookieBurst    = 1024
	// cookieCredit is how many cookies may be ahead of half the parts that
	// came without one: it covers loss and reordering of single parts. Beyond
	// it a flood is answered with half of what it brings.
	cookieCredit = 64
)

// cookies makes and checks the proofs of address.
type cookies struct {
	current, previous *seal.MACState
	epoch             int64 // the present one, in cookieLife
	keyed             bool
	limit             bucket
	credit            int // in parts; a cookie costs two
}

func (c *cookies) init() {
	c.limit = bucket{interval: cookieInterval, burst: cookieBurst}
	c.credit = 2 * cookieCredit
}

// rotate brings the keys to the present epoch.
func (c *cookies) rotate(now machine.Time, rng *prng.Stream) {
	epoch := int64(now) / int64(cookieLife)
	if c.keyed && epoch == c.epoch {
		return
	}
	if !c.keyed || epoch != c.epoch+1 {
		c.current = drawMAC(rng)
	}
	c.previous, c.current = c.current, drawMAC(rng)
	c.keyed, c.epoch = true, epoch
}

func drawMAC(rng *prng.Stream) *seal.MACState {
	var key seal.Key
	rng.Read(key[:])
	defer key.Clear()
	return seal.NewMACState(&key)
}

// of returns the cookie of an address and port.
func (c *cookies) of(from netip.AddrPort) [wire.LinkCookieSize]byte { return macOf(c.current, from) }

// valid reports whether a cookie is of this address and not too old. It is one
// keyed hash, two around a rotation.
func (c *cookies) valid(from netip.AddrPort, cookie *[wire.LinkCookieSize]byte) bool {
	now := macOf(c.current, from)
	if seal.Equal(now[:], cookie[:]) {
		return true
	}
	before := macOf(c.previous, from)
	return seal.Equal(before[:], cookie[:])
}

func macOf(m *seal.MACState, from netip.AddrPort) [wire.LinkCookieSize]byte {
	addr, port := from.Addr().As16(), from.Port()
	return m.Sum(addr[:], []byte{byte(port >> 8), byte(port)})
}

// mayAnswer books one part that came without a valid cookie and says whether
// it is answered with one.
func (c *cookies) mayAnswer(now machine.Time, part uint8) bool {
	c.credit = min(c.credit+1, 2*cookieCredit)
	if part != 0 || c.credit < 2 || !c.limit.take(now) {
		return false
	}
	c.credit -= 2
	return true
}

// bucket is a token bucket in its virtual-scheduling form (GCRA).
type bucket struct {
	interval time.Duration // between tokens
	burst    int
	due      machine.Time // when the bucket would be full again
}

func (b *bucket) take(now machine.Time) bool {
	due := max(b.due, now)
	if due.Sub(now) > time.Duration(b.burst-1)*b.interval {
		return false
	}
	b.due = due.Add(b.interval)
	return true
}
