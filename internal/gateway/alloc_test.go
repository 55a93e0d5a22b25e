package gateway

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// A packet that waits for a slot, or for the tick of its place, costs no allocation.
func TestIntakeDoesNotAllocate(t *testing.T) {
	for _, l := range []wire.Level{wire.Standard, wire.High} {
		g := &Gateway{Hop: &hop.Hop{}, Set: session.NewSet[ending]()}
		policy := obfs.PolicyOf(l)
		e := &end{slots: &slots{shaper: obfs.NewShaper(policy, prng.FromUint64(1), 0), even: obfs.NewPlayout(policy)}}
		packet := make([]byte, wire.SessionPacketSize)
		packet[0] = byte(wire.SessionData)
		now, n := machine.Time(0), uint32(0)
		if allocs := testing.AllocsPerRun(100, func() {
			for range intakeMax {
				n++
				g.handlePacket(now, e, mix.Delivery{Packet: packet, Place: n, Counter: n})
				if now = now.Add(10 * time.Millisecond); l == wire.High {
					g.takeIn(now, now, e)
				}
			}
			g.takeIn(now, now, e)
		}); allocs != 0 {
			t.Errorf("%v: %.1f allocations for %d packets", l, allocs, intakeMax)
		}
		if g.Counts[trace.DropSessionUnknown] == 0 || g.Counts[trace.DropCellQueue] != 0 || g.Pool.Out > 100 {
			t.Errorf("%v: nothing was taken in, or frames were kept", l)
		}
	}
}
