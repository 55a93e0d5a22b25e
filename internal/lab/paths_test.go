package lab

import (
	"bytes"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// In a pinned class, two and three routes bring two and three times what one
// does: the slots of each carry data. The body goes both ways.
func TestRoutesOfASessionAddUp(t *testing.T) {
	took := func(routes int) time.Duration {
		w, err := bareRun(1).NewNetwork(Plan{Streams: 8, Mixes: 15, Level: wire.Standard,
			Hop:     sim.Link{Latency: 10 * time.Millisecond},
			Gateway: func(c *gateway.Config) { c.Class = pinned },
			Client:  func(c *client.Config) { c.Ahead, c.RoutesPerSession, c.Class = -1, routes, pinned }})
		if err != nil {
			t.Fatal(err)
		}
		w.AddUsers(1)
		w.Sim.RunFor(10 * time.Second) // the session stands, on all its routes
		body := bytes.Repeat([]byte{7}, 2_000_000)
		start, d := w.Sim.Now(), time.Duration(0)
		w.Users[0].Ask("", body, func(now machine.Time, answer []byte, err error) {
			if err != nil || !bytes.Equal(answer, body) {
				t.Errorf("%d routes: answer of %d bytes, %v", routes, len(answer), err)
			}
			d = now.Sub(start)
		})
		w.Sim.RunFor(90 * time.Second)
		return d
	}
	one, two, three, five := took(1), took(2), took(3), took(5)
	t.Logf("1 route %v, 2 routes %v, 3 routes %v, 5 routes %v", one, two, three, five)
	if one == 0 || two == 0 || three == 0 || five == 0 || two > one*6/10 || three > one*45/100 || five > one*3/10 {
		t.Errorf("1 route %v, 2 routes %v, 3 routes %v, 5 routes %v", one, two, three, five)
	}
}
