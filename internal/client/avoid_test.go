package client

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// A list of avoided nodes is bounded, and forgets.
func TestAvoidanceIsBoundedAndForgets(t *testing.T) {
	var a avoidance
	end := machine.Time(time.Minute)
	for i := range 3 * avoidedMax {
		a.add(wire.NodeID{byte(i)}, end, 0)
		a.add(wire.NodeID{byte(i)}, end, 0) // once more is not one more
	}
	if n := len(a.nodes(0)); n != avoidedMax {
		t.Errorf("%d nodes are avoided", n)
	}
	if a.has(0, wire.NodeID{0}) || !a.has(0, wire.NodeID{3*avoidedMax - 1}) {
		t.Error("it is not the oldest that gave way")
	}
	if a.has(end, wire.NodeID{3*avoidedMax - 1}) || len(a.nodes(end)) != 0 {
		t.Error("nothing is forgotten")
	}
}
