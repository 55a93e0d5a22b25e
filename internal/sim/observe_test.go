package sim

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

func TestViewsOfALink(t *testing.T) {
	n, a, b, ma, mb := pairOf(4, Link{Latency: 10 * time.Millisecond, Loss: 200_000})
	mb.onInput = func(_ machine.Time, from netip.AddrPort, _ []byte) { mb.send(from, "answer") }
	var any netip.AddrPort
	there, back := n.Tap(a.Addr(), b.Addr(), Departure), n.Tap(b.Addr(), a.Addr(), Departure)
	arrived := n.Tap(any, b.Addr(), Arrival)
	all, fromA := n.Tap(any, any, Departure), n.Tap(a.Addr(), any, Departure)
	var seen []Sight
	n.Observe(func(s Sight) { seen = append(seen, s) })
	stream(n, a, ma, b.Addr(), 100, time.Millisecond)
	n.RunFor(time.Second)
	if there.Len() != 100 || arrived.Len() != len(mb.got) || back.Len() != len(mb.got) || arrived.Len() >= 95 {
		t.Errorf("views of %d, %d and %d", there.Len(), arrived.Len(), back.Len())
	}
	if all.Len() != there.Len()+back.Len() || len(seen) != all.Len() || !fromA.Equal(there) {
		t.Errorf("global view of %d, observer saw %d", all.Len(), len(seen))
	}
	if want := (Sight{5 * ms, a.Addr(), b.Addr(), 1}); there.At(5) != want {
		t.Errorf("sixth sight %v, want %v", there.At(5), want)
	}
	if s := there.At(5).String(); s != "5ms 10.0.0.1:1→10.0.0.2:1 1" {
		t.Errorf("a sight is written %q", s)
	}
	if d := there.Diff(back); !strings.HasPrefix(d, "datagram 0: ") {
		t.Errorf("difference told as %q", d)
	}
	there.Reset()
	if d := there.Diff(back); !strings.Contains(d, "0 datagrams against") {
		t.Errorf("difference told as %q", d)
	}
}

func TestActiveAdversary(t *testing.T) {
	n, a, b, ma, mb := pairOf(4, Link{})
	var captured []byte
	n.Intercept(func(d Datagram) bool {
		switch string(d.B) {
		case "1":
			return false
		case "2":
			captured = slices.Clone(d.B)
			d.B[0] = 'X'
		}
		return true
	})
	stream(n, a, ma, b.Addr(), 4, time.Millisecond)
	n.RunFor(time.Second)
	if want := []string{"0", "X", "3"}; !slices.Equal(mb.got, want) || n.Stats().Intercepted != 1 {
		t.Errorf("b got %v", mb.got)
	}
	n.Intercept(nil)
	forged := addr("192.0.2.1:7")
	n.Inject(forged, b.Addr(), captured)
	n.Inject(forged, addr("192.0.2.99:9"), captured)
	n.RunFor(time.Second)
	if mb.got[3] != "2" || mb.from[3] != forged || n.Stats().Injected != 2 || n.Stats().Unreachable != 1 {
		t.Errorf("replay gave %v from %v", mb.got, mb.from)
	}
}

// A borrowed slice that is kept shows other content after the call.
func TestBorrowedBytesAreOverwritten(t *testing.T) {
	n, a, b, ma, mb := pairOf(4, Link{})
	n.Do(a, func(machine.Time) { ma.send(b.Addr(), "secret") })
	n.RunFor(time.Second)
	if mb.got[0] != "secret" || string(mb.kept) == "secret" {
		t.Errorf("kept slice reads %q", mb.kept)
	}
}

func TestCallsOfTheLoadGenerator(t *testing.T) {
	n, a, b, ma, mb := pairOf(4, Link{})
	var order []string
	say := func(s string) func(machine.Time) { return func(machine.Time) { order = append(order, s) } }
	n.At(2*ms, say("second"))
	n.At(2*ms, say("third"))
	n.After(time.Millisecond, say("first"))
	ticks := 0
	n.Every(3*ms, time.Millisecond, func(machine.Time) bool { ticks++; return ticks < 4 })
	n.At(5*ms, func(now machine.Time) { n.At(now-4*ms, say("late")) })
	n.RunFor(20 * time.Millisecond)
	if got := strings.Join(order, " "); got != "first second third late" || ticks != 4 {
		t.Errorf("order %q, %d ticks", got, ticks)
	}

	// Inside a step, Do and faults happen right after it.
	b.OnStep(func(machine.Time) {
		if len(mb.got) == 1 && b.Up() {
			n.Do(a, func(machine.Time) { order = append(order, "do") })
			n.Restart(a)
			n.Crash(b)
			order = append(order, "step")
		}
	})
	ma.send(b.Addr(), "go")
	n.Touch(a)
	n.RunFor(10 * time.Millisecond)
	if got := strings.Join(order[4:], " "); got != "step do" || b.Up() || !a.Up() {
		t.Errorf("order %q, b up %v", got, b.Up())
	}
}

func TestRunEndsEarly(t *testing.T) {
	n := New(Config{})
	count := 0
	n.Every(0, time.Millisecond, func(machine.Time) bool { count++; return true })
	n.At(5*ms, func(machine.Time) { n.Stop() })
	n.RunFor(time.Second)
	if n.Now() != 5*ms {
		t.Errorf("stopped at %d", n.Now())
	}
	if !n.RunWhile(machine.Never, func() bool { return count < 20 }) || count != 20 {
		t.Errorf("condition ended the run at %d", count)
	}
	if n.RunWhile(50*ms, func() bool { return true }) || n.Now() != 50*ms {
		t.Errorf("limit left the time at %d", n.Now())
	}
	n.At(60*ms, func(machine.Time) { n.Stop() })
	if n.RunWhile(machine.Never, func() bool { return true }) || n.Now() != 60*ms {
		t.Errorf("stop left the time at %d", n.Now())
	}
}

// wantPanic runs f, which must panic with all of the words.
func wantPanic(t *testing.T, f func(), words ...string) {
	t.Helper()
	defer func() {
		t.Helper()
		r := recover()
		if r == nil {
			t.Errorf("no panic that says %q", words)
			return
		}
		for _, w := range words {
			if !strings.Contains(r.(string), w) {
				t.Errorf("panic %q does not say %q", r, w)
			}
		}
	}()
	f()
}

func TestFaultsOfMachinesNameTheSeed(t *testing.T) {
	n, a, _, ma, _ := pairOf(99, Link{})
	ma.onTimer = func(machine.Time) { panic("broken invariant") }
	n.Do(a, func(machine.Time) { ma.timer = 3 * ms })
	wantPanic(t, func() { n.RunFor(time.Second) }, "seed 99", "3ms", "a: broken invariant")

	n, a, _, ma, _ = pairOf(7, Link{})
	ma.onTimer = func(now machine.Time) { ma.timer = now }
	n.Do(a, func(machine.Time) { ma.timer = 3 * ms })
	wantPanic(t, func() {
		n.RunWhile(machine.Never, func() bool { n.instant += instantMax / 100; return true })
	}, "seed 7", "time does not pass")
}

func TestMisuseIsNamed(t *testing.T) {
	n, a, _, ma, _ := pairOf(1, Link{})
	wantPanic(t, func() { add(n, "a", "10.0.0.9:1", nil) }, "two nodes have the name a")
	wantPanic(t, func() { add(n, "d", "10.0.0.1:1", nil) }, "taken by a")
	wantPanic(t, func() { n.AddNode(NodeConfig{Name: "e"}) }, "no address")
	wantPanic(t, func() {
		add(n, "f", "10.0.0.8:1", func(c *NodeConfig) { c.Clock.Offset = -1 })
	}, "backwards")
	wantPanic(t, func() { n.Every(0, 0, nil) }, "interval")
	ma.out = make([]toyDatagram, burstMax+1)
	wantPanic(t, func() { n.Touch(a) }, "without end")
}
