package lab

import (
	"bytes"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Through whole routes as well, a client that begins with the stronger KEM comes
// to a session with Stream nodes that take it and with those that do not, where
// slots decide when a refusal leaves and where they do not.
func TestRefusalsCrossTheNetwork(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		made := 0
		w, err := bareRun(1).NewNetwork(Plan{Streams: 4, Mixes: 6, Level: level, Hop: sim.Link{Latency: 5 * time.Millisecond},
			Client: func(c *client.Config) { c.Stream.KEM = seal.KEM1024 },
			Gateway: func(c *gateway.Config) {
				if made++; made%2 == 0 {
					c.Stream.KEM = seal.KEM1024
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
		w.AddUsers(6)
		if err := w.WaitReady(30 * time.Second); err != nil {
			t.Fatalf("%v: %v", level, err)
		}
		answers := 0
		for i, u := range w.Users {
			body := bytes.Repeat([]byte{byte(i)}, 2000)
			u.Ask("a", body, func(_ machine.Time, answer []byte, err error) {
				if err != nil || !bytes.Equal(answer, body) {
					t.Errorf("%v: answer of %d bytes, %v", level, len(answer), err)
				}
				answers++
			})
		}
		w.Sim.RunFor(20 * time.Second)
		var told, strong int
		for i, g := range w.Gateways {
			c := g.Core().Stats()
			if i%2 == 0 {
				told += int(c[trace.HandshakesRefused])
			} else {
				strong += int(c[trace.PQHandshakeSuccess])
			}
		}
		if answers != len(w.Users) || told == 0 || strong == 0 {
			t.Errorf("%v: %d answers, %d refusals, %d sessions with nodes that take the stronger KEM", level, answers, told, strong)
		}
	}
}
