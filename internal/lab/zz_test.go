package lab

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

func TestZZ(t *testing.T) {
	for _, jitter := range []time.Duration{0, 2 * time.Millisecond} {
		for _, routes := range []int{1, 2} {
			for size := range 3 {
				w, _ := bareRun(1).NewNetwork(Plan{Streams: 10, Mixes: 15, Level: wire.Fast,
					Hop:    sim.Link{Latency: 10 * time.Millisecond, Jitter: jitter},
					Client: func(c *client.Config) { c.RoutesPerSession, c.Ahead, c.Class = routes, -1, pinned }})
				w.AddUsers(1)
				bad := 0
				for _, g := range w.Gateways {
					g.Service.Answer = func(now machine.Time, body []byte) []byte {
						if len(body) != size {
							bad++
							t.Logf("%v got %d bytes, want %d", time.Duration(now), len(body), size)
						}
						return nil
					}
				}
				for _, u := range w.Users {
					u.Ask("a", make([]byte, size), func(_ machine.Time, _ []byte, err error) {})
				}
				w.Sim.RunFor(3 * time.Second)
				t.Log(jitter, routes, size, bad)
			}
		}
	}
}
