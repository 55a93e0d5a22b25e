package client

import (
	"testing"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/stream"
)

// The port of a target decides on the lane of its stream.
func TestLaneOfAPort(t *testing.T) {
	usual := Config{}.withDefaults()
	own := Config{HighPorts: []directory.PortRange{}, LowPorts: []directory.PortRange{{First: 20, Last: 30}}}.withDefaults()
	for port, want := range map[uint16][2]stream.Lane{
		22: {stream.PriorityHigh, stream.PriorityLow}, 443: {}, 5900: {stream.PriorityHigh}, 5910: {}, 31: {},
	} {
		if got := [2]stream.Lane{usual.lane(port), own.lane(port)}; got != want {
			t.Errorf("port %d is in lanes %v, want %v", port, got, want)
		}
	}
}
