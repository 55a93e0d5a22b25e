package stream

import (
	"testing"
	"time"
)

// A beginning transfer overruns a wire without a queue by a round trip at most, and then
// knows about how much it carries. (Control: a startup that goes on at its pace until two
// spans are over loses 20 % here, and brings 34 MiB.)
func TestAStartOverrunsOnce(t *testing.T) {
	w := newWorld(t, 1, Config{}, Config{})
	w.bottleneck(0, 14_000_000)
	w.routes[0].delay, w.routes[0].buffer = 145*time.Millisecond, 5*time.Millisecond
	w.until(10*time.Second, func() bool { return w.server != nil && w.server.confirmed })
	w.run(2 * time.Second)
	a := newApp(w)
	id := a.open(256<<20, 10, PriorityNormal)
	for range 8000 { // as a host does, whom other things wake
		w.run(time.Millisecond)
	}
	got, s := a.flows[id].upGot.Len()>>20, w.client.stats
	lost := float64(s.Lost) / float64(s.PacketsSent)
	t.Logf("%d MiB in 8 s, %.3f lost", got, lost)
	if got < 38 || lost > 0.18 {
		t.Errorf("%d MiB in 8 s, %.3f lost; want 38 and 0.18", got, lost)
	}
}
