package gateway

import (
	"testing"

	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// A packet that waits for a slot costs no allocation.
func TestIntakeDoesNotAllocate(t *testing.T) {
	g := &Gateway{Hop: &hop.Hop{}, Set: session.NewSet[ending]()}
	e := &end{slots: &slots{shaper: obfs.NewShaper(obfs.PolicyOf(wire.Standard), prng.FromUint64(1), 0)}}
	packet := make([]byte, wire.SessionPacketSize)
	packet[0] = byte(wire.SessionData)
	if n := testing.AllocsPerRun(100, func() {
		for range intakeMax {
			g.handlePacket(0, e, packet)
		}
		g.takeIn(0, e)
	}); n != 0 {
		t.Errorf("%.1f allocations for %d packets", n, intakeMax)
	}
	if g.Counts[trace.DropSessionUnknown] == 0 || g.Pool.Out != 0 {
		t.Error("nothing was taken in, or frames were kept")
	}
}
