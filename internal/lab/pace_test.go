package lab

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// What the levels that even out arrivals cost, over 100 ms of network round trip:
// from a client to a target every request takes the same time but for where in a
// period it was made, whatever the mixes drew.
func TestALevelsWayOutTakesOneTime(t *testing.T) {
	for l, most := range map[wire.Level]time.Duration{wire.High: 450 * time.Millisecond, wire.Extreme: 840 * time.Millisecond} {
		w, err := bareRun(1).NewNetwork(Plan{Streams: 10, Mixes: 15, Level: l, Regions: []string{"eu", "us", "ap"},
			Hop:    sim.Link{Latency: 10 * time.Millisecond},
			Client: func(c *client.Config) { c.Ahead, c.RoutesPerSession = -1, 2 }})
		if err != nil {
			t.Fatal(err)
		}
		const users = 5
		w.AddUsers(users)
		for _, u := range w.Users {
			u.Ask("", make([]byte, 8), func(machine.Time, []byte, error) {})
		}
		w.Sim.RunFor(10 * time.Second)
		var oneWay, took []time.Duration
		asked := map[uint32]machine.Time{}
		for _, g := range w.Gateways {
			g.Service.Arrived = func(now machine.Time, body []byte, _ int) {
				if len(body) < 4 {
					return
				}
				if at, first := asked[binary.BigEndian.Uint32(body)]; first {
					oneWay = append(oneWay, now.Sub(at))
					delete(asked, binary.BigEndian.Uint32(body))
				}
			}
		}
		n := uint32(0)
		w.Poisson("requests", 20, w.Sim.Now().Add(10*time.Second), func(now machine.Time, i int) {
			n++
			body := make([]byte, 400)
			binary.BigEndian.PutUint32(body, n)
			asked[n] = now
			w.Users[i%users].Ask("", body, func(done machine.Time, _ []byte, err error) {
				if err == nil {
					took = append(took, done.Sub(now))
				}
			})
		})
		w.Sim.RunFor(14 * time.Second)
		if len(oneWay) != int(n) || len(took) != int(n) || n < 100 {
			t.Fatalf("%v: of %d requests %d came and %d were answered", l, n, len(oneWay), len(took))
		}
		slices.Sort(oneWay)
		slices.Sort(took)
		p05, p95 := oneWay[len(oneWay)/20], oneWay[len(oneWay)*95/100]
		t.Logf("%v: %d requests; one way median %v, P05 %v, P95 %v; answered in %v, P95 %v", l, n,
			oneWay[len(oneWay)/2], p05, p95, took[len(took)/2], took[len(took)*95/100])
		if p95-p05 > 25*time.Millisecond || p95 > most {
			t.Errorf("%v: nine in ten take %v to %v", l, p05, p95)
		}
	}
}
