package gateway_test

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/rogue"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// What comes on a shaped route reaches a target at ticks of one clock, that of
// the exit. Control: at FAST it comes when it comes.
func TestTargetsSeeTicksOnly(t *testing.T) {
	const class obfs.Class = 100
	phases := func(level wire.Level) (seen map[machine.Time]bool, arrivals int) {
		w := newWorld(t, lab.Plan{Level: level, Hop: sim.Link{Latency: 5 * time.Millisecond, Jitter: time.Millisecond},
			Gateway: func(c *gateway.Config) { c.Class = class },
			Client:  func(c *client.Config) { c.Class, c.RoutesPerSession, c.Ahead = class, 1, -1 }})
		w.AddUsers(1)
		w.Sim.RunFor(5 * time.Second)
		seen = map[machine.Time]bool{}
		for _, g := range w.Gateways {
			g.Service.Arrived = func(now machine.Time, _ []byte, _ int) {
				seen[now%machine.Time(class.Period())] = true
				arrivals++
			}
		}
		w.Poisson("requests", 10, w.Sim.Now().Add(10*time.Second), func(machine.Time, int) {
			w.Users[0].Ask("", make([]byte, 3000), func(machine.Time, []byte, error) {})
		})
		w.Sim.RunFor(12 * time.Second)
		return seen, arrivals
	}
	if seen, n := phases(wire.Standard); len(seen) != 1 || n < 100 {
		t.Errorf("%d arrivals in %d phases of a period", n, len(seen))
	}
	if seen, n := phases(wire.Fast); len(seen) < n/2 {
		t.Errorf("control: %d arrivals in %d phases at FAST", n, len(seen))
	}
}

// At HIGH a target sees a flow with the pace at which its client filled slots: one
// with a packet every second slot has one every second tick. Control: at STANDARD,
// which mixes for half as long, the pace is that of the mixes.
func TestTargetsSeeThePaceOfSlots(t *testing.T) {
	uneven := func(level wire.Level) (gaps, wrong int) {
		w := newWorld(t, lab.Plan{Streams: 4, Mixes: 12, Regions: []string{"eu", "us", "ap"}, Level: level, Hop: sim.Link{Latency: 5 * time.Millisecond, Jitter: time.Millisecond},
			Client: func(c *client.Config) { c.RoutesPerSession, c.Ahead = 1, -1 }})
		w.AddUsers(1)
		w.Users[0].Ask("", make([]byte, 10), func(machine.Time, []byte, error) {})
		w.Sim.RunFor(10 * time.Second)
		var last machine.Time
		for _, g := range w.Gateways {
			g.Service.Message = func(now machine.Time, _ []byte) {
				if last != 0 {
					if gaps++; now.Sub(last) != 20*time.Millisecond {
						wrong++
					}
				}
				last = now
			}
		}
		w.Users[0].Flow("", func(_ machine.Time, send func(machine.Time, []byte) error) {
			n := 0
			w.Sim.Every(w.Sim.Now(), 20*time.Millisecond, func(machine.Time) bool {
				w.Sim.Do(w.Users[0].Node, func(now machine.Time) {
					if err := send(now, make([]byte, 160)); err != nil {
						t.Error(err)
					}
				})
				n++
				return n < 500
			})
		})
		w.Sim.RunFor(12 * time.Second)
		return gaps, wrong
	}
	// A slot that something else than the flow fills moves a packet on by one, and
	// the next one back.
	if gaps, wrong := uneven(wire.High); gaps < 490 || wrong > gaps/10 {
		t.Errorf("%d of %d gaps are not of two periods", wrong, gaps)
	}
	if gaps, wrong := uneven(wire.Standard); gaps < 490 || wrong < gaps/3 {
		t.Errorf("control: %d of %d gaps are not of two periods at STANDARD", wrong, gaps)
	}
}

// flood sends packets of no session on a shaped route in one burst, and, if
// closes is set, the route's end right behind them.
func (a *attacker) flood(packets int, closes bool) {
	a.w.t.Helper()
	var r *rogue.Route
	a.do(func(now machine.Time) {
		var err error
		if r, err = a.Route(now, wire.Standard, a.w.Gateways[0].ID, a.w.Gateways[1].ID, nil); err != nil {
			a.w.t.Fatal(err)
		}
	})
	a.do(func(machine.Time) {
		var b [wire.SessionPacketSize]byte
		b[0] = byte(wire.SessionData)
		for range packets {
			a.Send(r, b[:])
		}
		if closes {
			a.Close(r)
		}
	})
}

// The queue before a slot is bounded, and what it drops is counted.
func TestIntakeIsBounded(t *testing.T) {
	w := newWorld(t, lab.Plan{Ideal: true, Gateway: func(c *gateway.Config) { c.Class = 100 }})
	a := w.attacker()
	before := w.victim().Stats()
	a.flood(700, false)
	after := w.victim().Stats()
	taken, dropped := after[trace.DropSessionUnknown]-before[trace.DropSessionUnknown], after[trace.DropCellQueue]-before[trace.DropCellQueue]
	if taken != 512 || dropped != 700-512 {
		t.Errorf("of 700 packets %d were taken in and %d dropped", taken, dropped)
	}
}

// What came before the end of a route is taken in, and then the route is gone.
func TestLastPacketsOfARouteAreTakenIn(t *testing.T) {
	for _, class := range []obfs.Class{20, 100} { // with a pool, and without
		w := newWorld(t, lab.Plan{Ideal: true, Gateway: func(c *gateway.Config) { c.Class = class }})
		a := w.attacker()
		a.flood(40, true)
		if n, v := w.victim().Stats()[trace.DropSessionUnknown], w.victim(); n != 40 || v.Routes() != 0 || v.Pool.Out != 0 {
			t.Errorf("class %d: %d of 40 packets were taken in, %d routes and %d frames are left", class, n, v.Routes(), v.Pool.Out)
		}
	}
}
