package congestion

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// fixedSpanMin is the least time's worth of data that Fixed lets into flight.
// A second covers every round trip the network promises, so that the window
// bounds memory on a dead path and never the rate on a living one.
const fixedSpanMin = time.Second

// fixed paces at one rate, whatever is lost. It is for measurement and for
// paths whose rate is known; it does not yield to anyone.
type fixed struct {
	rate   uint64
	srtt   time.Duration
	least  int
	window int
}

func newFixed(cfg Config) *fixed {
	f := &fixed{rate: cfg.FixedRate, least: minWindowPackets * cfg.PacketSize}
	f.setWindow()
	return f
}

func (f *fixed) setWindow() {
	f.window = clampWindow(volume(f.rate, max(fixedSpanMin, 4*f.srtt)), f.least)
}

func (f *fixed) OnSent(_ machine.Time, p *Packet, inFlight int, appLimited bool) {
	p.note(0, inFlight, appLimited)
}

func (f *fixed) OnAcked(_ machine.Time, p *Packet) { p.settle(acked, 0) }

func (f *fixed) OnAckEnd(_ machine.Time, rtt time.Duration, _ int) {
	if rtt <= 0 {
		return
	}
	f.srtt = smooth(f.srtt, rtt)
	f.setWindow()
}

func (f *fixed) OnLost(_ machine.Time, p *Packet, _ int) { p.settle(lost, 0) }

func (f *fixed) OnSpurious(_ machine.Time, p *Packet) { p.settle(acked, 0) }

func (f *fixed) OnPathChange(machine.Time) {
	f.srtt = 0
	f.setWindow()
}

func (f *fixed) Window() int        { return f.window }
func (f *fixed) PacingRate() uint64 { return f.rate }
