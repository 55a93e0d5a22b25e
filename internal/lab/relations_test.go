package lab

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Privacy claims as exact relations between two runs of one seed: what the
// adversary sees must be the same to the nanosecond, whatever the user does
// that he must not learn. Each has a control that the same comparison finds out.

// world is a run under observation.
type world struct {
	*Network
	t   *testing.T
	all *sim.View // what the global passive adversary sees
}

// pinned is the class of shaped routes in these runs.
const pinned obfs.Class = 100

func newWorld(t *testing.T, seed uint64, p Plan) *world {
	t.Helper()
	if p.Streams == 0 {
		p.Streams, p.Mixes = 3, 6
	}
	if p.Level != wire.Fast && p.Level != wire.Standard {
		p.Streams, p.Mixes, p.Regions = 6, 12, []string{"eu", "us", "ap"}
	}
	if p.Hop == (sim.Link{}) {
		p.Hop = sim.Link{Latency: 5 * time.Millisecond}
	}
	p.Ideal = true
	w, err := bareRun(seed).NewNetwork(p)
	if err != nil {
		t.Fatal(err)
	}
	var zero netip.AddrPort
	return &world{w, t, w.Sim.Tap(zero, zero, sim.Departure)}
}

// pin keeps the class of every shaped route at both ends.
func pin(p Plan) Plan {
	p.Gateway = func(c *gateway.Config) { c.Class = pinned }
	p.Client = func(c *client.Config) { c.Class = pinned }
	return p
}

// link starts views of a user's link, in both directions and at both ends of
// the user: everything that leaves or reaches the user.
func (w *world) link(u *User) [2]*sim.View {
	var zero netip.AddrPort
	return [2]*sim.View{w.Sim.Tap(u.Node.Addr(), zero, sim.Departure), w.Sim.Tap(zero, u.Node.Addr(), sim.Arrival)}
}

// same returns where two observations of a link part, or nothing.
func same(a, b [2]*sim.View) string {
	for i := range a {
		if a[i].Len() == 0 {
			return "nothing was seen"
		}
		if d := a[i].Diff(b[i]); d != "" {
			return d
		}
	}
	return ""
}

var levels = []wire.Level{wire.Fast, wire.Standard, wire.High, wire.Extreme}

// Other payload bytes: the same view of every link.
func TestPayloadShowsNowhere(t *testing.T) {
	look := func(t *testing.T, level wire.Level, fill byte, size int) *world {
		w := newWorld(t, 1, Plan{Level: level})
		w.AddUsers(2)
		answers := 0
		w.Poisson("requests", 20, machine.Time(5*time.Second), func(_ machine.Time, i int) {
			body := bytes.Repeat([]byte{fill}, size+i*40)
			w.Users[i%2].Ask("a", body, func(_ machine.Time, answer []byte, err error) {
				if err == nil && bytes.Equal(answer, body) {
					answers++
				}
			})
		})
		w.Sim.RunUntil(machine.Time(8 * time.Second))
		if answers < 40 {
			t.Fatalf("%d answers only", answers)
		}
		return w
	}
	for _, level := range levels {
		t.Run(level.String(), func(t *testing.T) {
			a := look(t, level, 0, 100)
			b := look(t, level, 0xff, 100)
			if d := a.all.Diff(b.all); d != "" || a.Sim.TraceHash() != b.Sim.TraceHash() {
				t.Errorf("other bytes were seen: %s", d)
			}
			// HIGH and EXTREME look at the use of a class more rarely than this.
			if level <= wire.Standard && a.all.Equal(look(t, level, 0, 20_000).all) {
				t.Error("control: another volume was not seen on any link")
			}
		})
	}
}

// active lets a user work in a session that stands, from 5 s on: enough for the
// class of a route to rise, were it not pinned.
func (w *world) active(u *User, isolation string) (answers *int) {
	answers = new(int)
	w.Sim.At(machine.Time(5*time.Second), func(now machine.Time) {
		w.Poisson("work", 40, now.Add(10*time.Second), func(_ machine.Time, i int) {
			u.Ask(isolation, make([]byte, 200+i%7*1000), func(_ machine.Time, _ []byte, err error) {
				if err == nil {
					*answers++
				}
			})
		})
	})
	return answers
}

func TestIdleOrActiveWithinAClass(t *testing.T) {
	look := func(t *testing.T, p Plan, active bool) [2]*sim.View {
		w := newWorld(t, 1, p)
		w.AddUsers(2)
		view := w.link(w.Users[0])
		for _, u := range w.Users { // the session stands in both runs
			w.Sim.At(machine.Time(3*time.Second), func(machine.Time) {
				u.Ask("a", nil, func(_ machine.Time, _ []byte, err error) {
					if err != nil {
						t.Error(err)
					}
				})
			})
		}
		w.active(w.Users[1], "a") // somebody else works in both
		var answers []*int
		for range 4 { // enough to fill a class that moves
			if active {
				answers = append(answers, w.active(w.Users[0], "a"))
			}
		}
		w.Sim.RunUntil(machine.Time(12 * time.Second))
		all := 0
		for _, n := range answers {
			all += *n
		}
		if active && all < 100 {
			t.Fatalf("%d answers only", all)
		}
		return view
	}
	for _, level := range levels[1:] {
		t.Run(level.String(), func(t *testing.T) {
			p := pin(Plan{Level: level})
			if d := same(look(t, p, false), look(t, p, true)); d != "" {
				t.Errorf("activity was seen: %s", d)
			}
		})
	}
	for name, p := range map[string]Plan{"FAST": {Level: wire.Fast}, "a class that moves": {Level: wire.Standard}} {
		if same(look(t, p, false), look(t, p, true)) == "" {
			t.Errorf("control: at %s activity was not seen", name)
		}
	}
}

// What metrics serve by default (trace.Counter.TellsContent) is the same at every
// node whether a user works or not; what they leave out is not (the control).
func TestCountersDoNotTellWork(t *testing.T) {
	look := func(p Plan, active bool) (all []trace.Counts) {
		w := newWorld(t, 1, p)
		w.AddUsers(2)
		for _, u := range w.Users {
			w.Sim.At(machine.Time(3*time.Second), func(machine.Time) { u.Ask("a", nil, func(machine.Time, []byte, error) {}) })
		}
		if active {
			w.active(w.Users[0], "a")
		}
		w.Sim.RunUntil(machine.Time(12 * time.Second))
		for _, u := range w.Users {
			all = append(all, u.Core().Stats())
		}
		for _, g := range w.Gateways {
			all = append(all, g.Core().Stats())
		}
		for _, m := range w.Relays {
			all = append(all, m.Core().Stats())
		}
		return all
	}
	// told lists the counters that differ.
	told := func(a, b []trace.Counts) (served, left []string) {
		for i := range a {
			if a[i].CellsOut() != b[i].CellsOut() {
				served = append(served, "cells_out")
			}
			for c := range trace.NumCounters {
				switch {
				case a[i][c] == b[i][c]:
				case c.TellsContent():
					left = append(left, c.String())
				default:
					served = append(served, c.String())
				}
			}
		}
		return served, left
	}
	for _, level := range levels[1:] {
		p := pin(Plan{Level: level})
		served, left := told(look(p, false), look(p, true))
		if len(served) > 0 {
			t.Errorf("%v: work is seen in %v", level, served)
		}
		for _, want := range []trace.Counter{trace.RealOut, trace.DummyOut, trace.DummyIn, trace.SessionPacketIn} {
			if !slices.Contains(left, want.String()) {
				t.Errorf("control: %v: work is not seen in %v", level, want)
			}
		}
	}
	if served, _ := told(look(Plan{}, false), look(Plan{}, true)); len(served) == 0 {
		t.Error("control: work is not seen at FAST")
	}
}

// A session that starts on a circuit built ahead shows nothing of its time. That
// the circuit was used up shows at the client's next look at what must be built,
// which is on a schedule of its own and lies beyond the end of this test.
func TestStartOfASessionWithinAClass(t *testing.T) {
	look := func(p Plan, active bool) [2]*sim.View {
		w := newWorld(t, 1, p)
		w.AddUsers(1)
		view := w.link(w.Users[0])
		if active {
			w.active(w.Users[0], "a")
		}
		w.Sim.RunUntil(machine.Time(8 * time.Second))
		return view
	}
	p := pin(Plan{Level: wire.Standard})
	if d := same(look(p, false), look(p, true)); d != "" {
		t.Errorf("the start of a session was seen: %s", d)
	}
	p.Client = func(c *client.Config) { c.Ahead, c.Class = -1, pinned }
	if same(look(p, false), look(p, true)) == "" {
		t.Error("control: a session without a circuit built ahead was not seen to start")
	}
}

// Another destination behind the same first hop.
func TestDestinationBehindTheSameFirstHop(t *testing.T) {
	t.Run("another target of the same exit", testOtherTarget)
	t.Run("another exit", testOtherExit)
}

// Another target at the same exit shows on no link at all where names are of
// one length, and within a class not on the user's link whatever the names.
func testOtherTarget(t *testing.T) {
	look := func(level wire.Level, host string) (*world, [2]*sim.View) {
		w := newWorld(t, 1, pin(Plan{Level: level}))
		w.AddUsers(1)
		view := w.link(w.Users[0])
		w.Users[0].Host = host
		w.active(w.Users[0], "a")
		w.Sim.RunUntil(machine.Time(10 * time.Second))
		return w, view
	}
	for _, level := range levels[:2] {
		a, _ := look(level, "left.example")
		b, _ := look(level, "went.example")
		if d := a.all.Diff(b.all); d != "" {
			t.Errorf("%v: another target was seen: %s", level, d)
		}
	}
	_, a := look(wire.Standard, "a.example")
	_, b := look(wire.Standard, strings.Repeat("long.", 48)+"example")
	if d := same(a, b); d != "" {
		t.Errorf("standard: the length of a name was seen: %s", d)
	}
}

// Another exit: the same view at FAST, where nothing is drawn on the way and
// every link behind takes the same time. At STANDARD the exit's own slots say
// when the first answer comes; from then on what the user sends is the same.
func testOtherExit(t *testing.T) {
	const pairs = 2
	compared := map[wire.Level]int{}
	for _, level := range levels[:2] {
		for seed := uint64(1); seed < 40 && compared[level] < pairs; seed++ {
			a := lookBehind(t, seed, level, 1, false)
			if a.first != 0 {
				continue
			}
			b := lookBehind(t, seed, level, 2, false)
			if b.first != 0 || a.exit == b.exit {
				continue
			}
			compared[level]++
			if level == wire.Fast {
				if d := same(a.view, b.view); d != "" {
					t.Errorf("seed %d: exit %d against %d was seen: %s", seed, a.exit, b.exit, d)
				}
				if c := lookBehind(t, seed, level, 2, true); same(a.view, c.view) == "" {
					t.Errorf("seed %d: control: a slower way to the exit was not seen", seed)
				}
				continue
			}
			if x, y := gaps(a.view[0]), gaps(b.view[0]); len(x) < 200 || !slices.Equal(x, y) {
				t.Errorf("seed %d: the user's slots follow the exit: %d and %d gaps", seed, len(x), len(y))
			}
		}
		if compared[level] < pairs {
			t.Errorf("%v: %d pairs of exits compared", level, compared[level])
		}
	}
}

// behind is what was seen in front of a route, and where it went.
type behind struct {
	view        [2]*sim.View
	first, exit int
}

// lookBehind gives a user a directory with a choice of two Stream nodes, so
// that one run's exit is missing in the other.
func lookBehind(t *testing.T, seed uint64, level wire.Level, exit int, slow bool) (b behind) {
	w := newWorld(t, seed, Plan{Streams: 3, Mixes: 6, Level: level,
		Client:  func(c *client.Config) { c.RoutesPerSession, c.Ahead, c.Class = 1, -1, pinned },
		Gateway: func(c *gateway.Config) { c.Class = pinned }})
	known, err := w.ViewOf(func(i int) bool { return i == 0 || i == exit || i >= 3 })
	if err != nil {
		t.Fatal(err)
	}
	if slow {
		for _, r := range w.Relays {
			w.Sim.SetLink(r.Node, w.Gateways[exit].Node, sim.Link{Latency: 7 * time.Millisecond})
		}
	}
	u := w.AddUser()
	w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, known) })
	b.view = w.link(u)
	answers := w.active(u, "a")
	w.Sim.RunUntil(machine.Time(9 * time.Second))
	if *answers < 50 {
		t.Fatalf("%d answers only", *answers)
	}
	for i, g := range w.Gateways {
		if b.view[0].At(0).To == g.Node.Addr() {
			b.first = i
		}
		if g.Core().Len() > 0 {
			b.exit = i
		}
	}
	return b
}

// gaps returns the times between 250 slots of a user, from the second of the
// route's life on.
func gaps(v *sim.View) (all []time.Duration) {
	first := 0
	for i := range v.Len() {
		if first == 0 && i > 0 && v.At(i).At.Sub(v.At(i-1).At) > 50*time.Millisecond {
			first = i
		}
		if first > 0 && i > first && len(all) < 250 {
			all = append(all, v.At(i).At.Sub(v.At(i-1).At))
		}
	}
	return all
}
