package gateway_test

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// crowd has many clients ask a gateway for admission at once, half a second after their
// links are there, and returns how many were admitted, and how many told that there is
// no room.
func crowd(t *testing.T, capacity uint32, clients int) (admitted, full int, w *world) {
	w = newWorld(t, lab.Plan{Gateway: func(c *gateway.Config) { c.Capacity = capacity }})
	var all []*attacker
	var links []link.ID
	for range clients {
		a := w.attacker()
		all, links = append(all, a), append(links, a.link)
	}
	for i, a := range all {
		w.Sim.Do(a.node, func(machine.Time) { a.Init(links[i], byte(i+1), 9) })
	}
	w.Sim.RunFor(time.Second)
	for _, a := range all {
		if last := a.last(); last.Kind == wire.AdmissionReady {
			admitted++
		} else if last.Refused.Reason == wire.RefusedFull {
			full++
		}
	}
	return admitted, full, w
}

// An overloaded Stream node slows what it admits, tells who waits, and says that it is
// overloaded. Whatever it has stays.
func TestOverloadedGatewaySlowsAdmissions(t *testing.T) {
	const clients = 60
	admitted, full, w := crowd(t, 10, clients)
	g := w.Gateways[0].Core()
	if g.Guard.Trips == 0 || full < clients/2 || admitted+full != clients || admitted == 0 || g.Guard.Held == 0 {
		t.Errorf("%d of %d admitted, %d told that there is no room; tripped %d times", admitted, clients, full, g.Guard.Trips)
	}
	if g.Admitted() != clients {
		t.Errorf("%d of %d records are left", g.Admitted(), clients)
	}
	if admitted, full, _ := crowd(t, 1_000_000, clients); admitted != clients || full != 0 {
		t.Errorf("control: with room %d of %d admitted", admitted, clients)
	}
}

// What the node is told from outside counts as what it sees.
func TestGatewayIsToldOfWaits(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	g := w.Gateways[0]
	tell := func(p gateway.Params) {
		w.Sim.RunFor(time.Second)
		w.Sim.Do(g.Node, func(now machine.Time) { g.Core().HandleParams(now, p) })
	}
	if tell(gateway.Params{Wait: 90 * time.Millisecond}); g.Core().Guard.Overloaded() {
		t.Error("overloaded by a short wait")
	}
	alone := true
	if tell(gateway.Params{Wait: 90 * time.Millisecond, Alone: &alone}); !g.Core().Guard.Overloaded() {
		t.Error("alone, it is not careful")
	}
	alone = false
	for range 5 {
		tell(gateway.Params{Alone: &alone})
	}
	if g.Core().Guard.Overloaded() {
		t.Error("it does not come to rest")
	}
}
