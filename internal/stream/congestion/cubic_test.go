package congestion

import (
	"math"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"pgregory.net/rapid"
)

// deafToSpurious never learns that a loss was none.
type deafToSpurious struct{ Controller }

func (deafToSpurious) OnSpurious(machine.Time, *Packet) {}

func TestCubicFillsAndRecovers(t *testing.T) {
	// A buffer of one bandwidth-delay product: CUBIC must keep the link busy
	// through its losses.
	spec := linkSpec{rate: 12_500_000, rtt: 50 * ms, queueMax: 625_000}
	l, f := bulkRun(t, spec, New(Config{Kind: Cubic}), 1, 30*time.Second)
	got := f.goodput(5*time.Second, 30*time.Second)
	t.Logf("%s, %d drops", mbit(got), l.drops)
	if got < 11_250_000 {
		t.Errorf("%s of 100", mbit(got))
	}
	if l.drops == 0 {
		t.Error("control: nothing was ever dropped, so nothing was recovered from")
	}
}

func TestCubicUndoesSpuriousReductions(t *testing.T) {
	// No loss at all, but a reordering path and a sender too quick to call a
	// packet lost (threshold frozen at 9/8).
	run := func(c Controller) (uint64, int) {
		spec := linkSpec{rate: 12_500_000, rtt: 50 * ms, queueMax: 2 << 20, jitter: 10 * ms}
		l := newLink(t, spec, 1)
		f := l.addFlow(c, 0, 0)
		f.hasty = true
		l.run(10 * time.Second)
		return f.goodput(3*time.Second, 10*time.Second), f.spurious
	}
	with, n := run(New(Config{Kind: Cubic}))
	without, _ := run(deafToSpurious{New(Config{Kind: Cubic})})
	t.Logf("%d spurious losses: %s; without undo %s", n, mbit(with), mbit(without))
	if n == 0 || with < 2*without {
		t.Errorf("%d spurious losses: %s with undo, %s without", n, mbit(with), mbit(without))
	}
}

func TestCubicReducesOncePerRoundTrip(t *testing.T) {
	c := New(Config{Kind: Cubic}).(*cubic)
	packets := make([]Packet, 40)
	for i := range packets {
		packets[i] = Packet{SentAt: machine.Time(i), Bytes: packetSize}
		c.OnSent(machine.Time(i), &packets[i], (i+1)*packetSize, false)
	}
	before := c.Window()
	for i := range 5 {
		c.OnLost(100, &packets[i], 0)
	}
	if want := before * betaCubic / unit; c.Window() != want {
		t.Fatalf("window %d after five losses of one flight, want %d", c.Window(), want)
	}
	for i := range 5 {
		if c.Window() == before {
			t.Fatalf("undone after %d of 5", i)
		}
		c.OnSpurious(200, &packets[i])
		c.OnAcked(200, &packets[i]) // the same news twice
	}
	if c.Window() != before || c.threshold != windowMax {
		t.Errorf("window %d after all five arrived, want %d", c.Window(), before)
	}
	c.OnSpurious(300, &packets[0])
	late := Packet{SentAt: 400, Bytes: packetSize}
	c.OnSent(400, &late, packetSize, false)
	c.OnLost(500, &late, 0)
	if c.Window() >= before {
		t.Error("control: a true loss of a later flight reduced nothing")
	}
}

func TestCubicCurveFollowsRFC9438(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCubic(Config{}.withDefaults())
		c.plateau = rapid.IntRange(10, 20_000).Draw(t, "packets") * packetSize
		low := int(scale(uint64(c.plateau), betaCubic))
		c.rise = riseTime(uint64(c.plateau-low), packetSize)
		at := time.Duration(rapid.Int64Range(0, int64(60*time.Second)).Draw(t, "t"))
		w := float64(c.plateau) / packetSize
		k := math.Cbrt((w - float64(low)/packetSize) / 0.4)
		want := 0.4*math.Pow(at.Seconds()-k, 3) + w
		got := float64(c.curve(at)) / packetSize
		// A millisecond of K and t is what integers cost.
		slack := 1 + 1.2*math.Pow(at.Seconds()-k, 2)*0.003 + 0.001*math.Abs(want)
		if want < windowMax/packetSize && math.Abs(got-want) > slack {
			t.Fatalf("W(%v) = %.1f packets, want %.1f (K %.3f s)", at, got, want, k)
		}
	})
}

func TestCubeRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Uint64().Draw(t, "v")
		r := cubeRoot(v)
		over := r+1 <= 2642245 && (r+1)*(r+1)*(r+1) <= v
		if r > 2642245 || r*r*r > v || over {
			t.Fatalf("cubeRoot(%d) = %d", v, r)
		}
	})
}
