package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// farApart are the delays between regions, one way, of test/cluster.sh.
var farApart = map[[2]string]time.Duration{
	{"region-1", "region-2"}: 40 * time.Millisecond, {"region-1", "region-3"}: 70 * time.Millisecond,
	{"region-2", "region-3"}: 35 * time.Millisecond, {"home", "region-1"}: 8 * time.Millisecond,
	{"home", "region-2"}: 45 * time.Millisecond, {"home", "region-3"}: 75 * time.Millisecond,
}

// apart sets these delays, and has the user's home send and receive 2 MiB/s.
func apart(w *lab.Network) {
	for pair, d := range farApart {
		l := sim.Link{Latency: d}
		if pair[0] == "home" {
			l.Rate = 2 << 20
		}
		w.Sim.SetRegionLink(pair[0], pair[1], l)
		w.Sim.SetRegionLink(pair[1], pair[0], l)
	}
}

// farUser is a user at home in a network of that kind whose routes stand.
func farUser(t *testing.T, seed uint64, plan lab.Plan) (*lab.Network, *lab.User) {
	t.Helper()
	plan.Streams, plan.Mixes, plan.Hop = 4, 12, sim.Link{Latency: time.Millisecond}
	plan.Regions = []string{"region-1", "region-2", "region-3"}
	w := seededWorld(t, seed, plan)
	apart(w)
	u := w.AddUserIn("home")
	w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, w.View) })
	if err := w.WaitReadyOrOpen(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	w.Sim.RunFor(3 * time.Second)
	return w, u
}

// stalled returns the longest pause of a transfer of 2 MiB/s, of whose two routes so
// many lose a mix at one instant.
func stalled(t *testing.T, seed uint64, level wire.Level, upload, patient bool, dead int) (longest time.Duration) {
	t.Helper()
	w, u := farUser(t, seed, lab.Plan{Level: level, Client: func(c *client.Config) { c.Patient = patient }})
	var last machine.Time
	came := func(now machine.Time) {
		longest = max(longest, now.Sub(last))
		last = now
	}
	body := make([]byte, 32<<20)
	asked := body
	for _, g := range w.Gateways {
		if upload {
			g.Service.Arrived = func(now machine.Time, _ []byte, _ int) { came(now) }
		} else {
			g.Service.Answer = func(machine.Time, []byte) []byte { return body }
		}
	}
	if !upload {
		asked, u.Arrived = nil, func(now machine.Time, _ int) { came(now) }
	}
	u.Ask("a", asked, func(machine.Time, []byte, error) {}) // it goes on, or pauses for good
	w.Sim.RunFor(4 * time.Second)
	longest, last = 0, w.Sim.Now()
	for _, path := range u.Core().Paths("a")[:dead] {
		mix := path[1+seed%3]
		w.Sim.Crash(w.Relays[slices.IndexFunc(w.Relays, func(m *lab.Relay) bool { return m.ID == mix })].Node)
	}
	w.Sim.RunFor(6 * time.Second)
	came(w.Sim.Now())
	return longest
}

// A mix of the route that carries an upload dies, or one of each of the two routes of
// a transfer: it goes on, soon. (Control: a client that does nothing about routes that
// pause until they are given up. With both routes dead it takes five seconds, or the
// exit for dead, and with it the transfer ends.)
func TestATransferOutlivesItsMixes(t *testing.T) {
	for _, c := range []struct {
		level       wire.Level
		dead        int
		most, least time.Duration // of the client, of the control
	}{
		{wire.Standard, 1, time.Second, 1100 * time.Millisecond},
		{wire.Fast, 1, time.Second, 0}, // the session's own finding
		{wire.Fast, 2, 2200 * time.Millisecond, 3 * time.Second},
		{wire.Standard, 2, 3500 * time.Millisecond, 5 * time.Second},
	} {
		var took []time.Duration
		var control time.Duration
		for seed := range uint64(4) {
			upload := c.dead == 1 && c.level != wire.Fast || seed%2 == 1
			took = append(took, stalled(t, seed+1, c.level, upload, false, c.dead))
			if seed < 2 && c.least > 0 {
				control = max(control, stalled(t, seed+1, c.level, upload, true, c.dead))
			}
		}
		slices.Sort(took)
		t.Logf("%v, %d dead: %v, control %v", c.level, c.dead, took, control)
		if worst := took[len(took)-1]; worst > c.most || control < c.least {
			t.Errorf("%v, %d dead: pauses of %v, want %v at most; control %v", c.level, c.dead, worst, c.most, control)
		}
	}
}
