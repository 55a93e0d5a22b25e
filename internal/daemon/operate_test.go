package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// TestOperators: a picture shows all nodes, the own client and the directory; a node
// leaves if enough stay; and sessions go on under a fresh fleet key.
func TestOperators(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	p := l.Picture()
	if len(p.Nodes) != 9 || p.Own == nil || len(p.Own.Routes) == 0 || p.Directory.Nodes != 9 || p.Directory.Signatures < 2 || p.Level != "fast" {
		t.Errorf("the picture is %+v", p)
	}
	for _, r := range p.Own.Routes {
		for _, hop := range r.Hops {
			if !strings.HasPrefix(hop, "mix-") && !strings.HasPrefix(hop, "stream-") {
				t.Errorf("a route goes over %q", hop)
			}
		}
	}
	for _, n := range p.Nodes {
		if until := time.Until(n.OnionTurns); until <= 0 || until > 25*time.Hour {
			t.Errorf("%s turns its onion key in %v", n.Name, until)
		}
	}
	if err := l.Drain("mix-0"); err != nil {
		t.Fatal(err)
	}
	for name, why := range map[string]string{"mix-0": "leaves already", "mix-9": "no such node"} {
		if err := l.Drain(name); !contains(err, why) {
			t.Errorf("draining %s: %v", name, err)
		}
	}
	for _, name := range []string{"mix-1", "mix-2"} {
		if err := l.Drain(name); err != nil {
			t.Error(err)
		}
	}
	if err := l.Drain("mix-3"); !contains(err, "2 would be left") {
		t.Errorf("a node too many: %v", err)
	}
	if err := l.Drain("stream-0"); err != nil {
		t.Error(err)
	}
	if err := l.Drain("stream-1"); !contains(err, "1 would be left") {
		t.Errorf("a Stream node too many: %v", err)
	}
	now := time.Now()
	if err := l.RotateFleet(now); err != nil {
		t.Error(err)
	}
	if err := l.RotateFleet(now.Add(fleetRest - time.Minute)); !contains(err, "come again in 1m") {
		t.Errorf("rotated again: %v", err)
	}
	if err := l.RotateFleet(now.Add(fleetRest)); err != nil {
		t.Error(err)
	}
}
