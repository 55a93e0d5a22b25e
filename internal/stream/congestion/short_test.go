package congestion

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

func isShort(c Controller) bool {
	b, ok := c.(*bbr)
	return ok && b.short.on()
}

// hosts is a path whose limit is a processor: each round moves what is in
// flight, at a fixed cost for the round and a cost for each packet.
type hosts struct {
	perRound, perPacket time.Duration
	lossIn              int // one packet in so many is lost; 0: none
}

// run sends for a time and returns packets per second of the second half and
// the time in flight at the end.
func (h hosts) run(c Controller, d time.Duration) (rate float64, inFlight time.Duration) {
	var now machine.Time
	var packets []Packet
	sent, counted := 0, 0
	for now < machine.Time(d) {
		n := max(c.Window()/packetSize, 1)
		packets = packets[:0]
		for i := range n {
			packets = append(packets, Packet{SentAt: now, Bytes: packetSize})
			c.OnSent(now, &packets[i], (i+1)*packetSize, false)
		}
		began := now
		now = now.Add(h.perRound + time.Duration(n)*h.perPacket)
		left := n * packetSize
		for i := range packets {
			sent++
			left -= packetSize
			if h.lossIn != 0 && sent%h.lossIn == 0 {
				c.OnLost(now, &packets[i], left)
				continue
			}
			c.OnAcked(now, &packets[i])
		}
		c.OnAckEnd(now, now.Sub(began), left)
		if began > machine.Time(d/2) {
			counted += n
		}
		inFlight = now.Sub(began)
	}
	return float64(counted) / (d / 2).Seconds(), inFlight
}

// Where a round has a fixed cost, the rate is reached by large batches only,
// and the queue stays within what hostTime permits.
func TestShortPathFillsItsHosts(t *testing.T) {
	h := hosts{perRound: 200 * time.Microsecond, perPacket: 10 * time.Microsecond}
	c := New(Config{})
	rate, queue := h.run(c, 2*time.Second)
	if !isShort(c) || c.PacingRate() != 0 {
		t.Fatal("the path was not taken for a short one")
	}
	if rate < 90_000 {
		t.Errorf("%.0f packets a second; the hosts' limit is 100000", rate)
	}
	if queue > 2*hostTime+hostTime/2 {
		t.Errorf("packets stay %v in flight", queue)
	}
	// Control: the initial window alone reaches three quarters of the limit
	// less its fixed cost.
	if fixed := 32 / (200e-6 + 32*10e-6); fixed > 0.7*rate {
		t.Errorf("the control reaches %.0f of %.0f", fixed, rate)
	}
}

func TestShortPathYieldsToLoss(t *testing.T) {
	clean := hosts{perRound: 100 * time.Microsecond, perPacket: time.Microsecond}
	lossy := clean
	lossy.lossIn = 8
	a, b := New(Config{}), New(Config{})
	clean.run(a, time.Second)
	lossy.run(b, time.Second)
	if b.Window() >= a.Window() || b.Window() != 32*packetSize {
		t.Errorf("windows %d without loss and %d with one in 8 lost", a.Window(), b.Window())
	}
}

// A path of mixes is never short, whatever its quickest packet.
func TestLongPathIsNotShort(t *testing.T) {
	h := hosts{perRound: 30 * time.Millisecond, perPacket: 10 * time.Microsecond}
	c := New(Config{})
	h.run(c, 2*time.Second)
	if isShort(c) || c.PacingRate() == 0 {
		t.Error("a path of 30 ms is governed as a short one")
	}
	c.OnPathChange(0)
	if isShort(c) {
		t.Error("a path change does not forget")
	}
}
