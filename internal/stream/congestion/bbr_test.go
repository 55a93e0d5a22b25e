package congestion

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

const ms = time.Millisecond

var (
	mixedPath = linkSpec{rate: 12_500_000, rtt: 50 * ms, queueMax: 8 << 20, lossPPM: 10_000, jitter: 25 * ms}
	seeds     = []uint64{1, 2, 3, 4, 5, 106}
)

// seeds are those worth running: a path without chance needs one.
func (s linkSpec) seeds() []uint64 {
	if testing.Short() || s.jitter == 0 && s.lossPPM == 0 {
		return seeds[:1]
	}
	return seeds
}

func bulkRun(t *testing.T, spec linkSpec, c Controller, seed uint64, end time.Duration) (*simLink, *simFlow) {
	t.Helper()
	l := newLink(t, spec, seed)
	f := l.addFlow(c, 0, 0)
	l.run(end)
	return l, f
}

// leastSample is a BBR that believes the least residence instead of the mean:
// what the mean protects against.
type leastSample struct {
	*bbr
	least time.Duration
}

func (c *leastSample) OnAcked(now machine.Time, p *Packet) {
	c.bbr.OnAcked(now, p)
	if d := now.Sub(p.SentAt); c.least == 0 || d < c.least {
		c.least = d
	}
}

func (c *leastSample) OnAckEnd(now machine.Time, rtt time.Duration, inFlight int) {
	c.rtt.sum = c.least * time.Duration(c.rtt.count)
	c.bbr.OnAckEnd(now, rtt, inFlight)
}

func TestBBRFillsALossyReorderingPath(t *testing.T) {
	both := mixedPath
	both.ackJitter = 25 * ms
	mixes := mixedPath // STANDARD: three mixes of 10 ms each way
	mixes.jitter, mixes.ackJitter, mixes.hops = 30*ms, 30*ms, 3
	extreme := mixedPath // EXTREME: five mixes of 40 ms each way
	extreme.jitter, extreme.ackJitter, extreme.hops = 200*ms, 200*ms, 5
	loss5 := mixedPath
	loss5.lossPPM = 50_000
	for _, c := range []struct {
		name     string
		spec     linkSpec
		from, to time.Duration
		percent  uint64
	}{
		{"1 % loss, 25 ms jitter", mixedPath, 2 * time.Second, 3 * time.Second, 90},
		{"the same, later", mixedPath, 3 * time.Second, 8 * time.Second, 94},
		{"5 % loss, 25 ms jitter", loss5, 3 * time.Second, 8 * time.Second, 85},
		{"25 ms jitter both ways", both, 3 * time.Second, 8 * time.Second, 90},
		{"standard mixes", mixes, 3 * time.Second, 8 * time.Second, 90},
		{"extreme mixes", extreme, 10 * time.Second, 18 * time.Second, 70},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, seed := range c.spec.seeds() {
				_, f := bulkRun(t, c.spec, New(Config{}), seed, c.to)
				got := f.goodput(c.from, c.to)
				t.Logf("seed %d: %s (first second %s), queue P95 %v", seed, mbit(got), mbit(f.goodput(0, time.Second)), percentile(f.waits, c.from, 95))
				if got < c.spec.rate*c.percent/100 {
					t.Errorf("seed %d: %s, want %d %% of %s", seed, mbit(got), c.percent, mbit(c.spec.rate))
				}
			}
		})
	}
	t.Run("control: CUBIC does not", func(t *testing.T) {
		_, f := bulkRun(t, mixedPath, New(Config{Kind: Cubic}), 1, 3*time.Second)
		if got := f.goodput(2*time.Second, 3*time.Second); got > mixedPath.rate/2 {
			t.Errorf("a loss-based controller reached %s", mbit(got))
		}
	})
	t.Run("control: the least sample does not", func(t *testing.T) {
		_, f := bulkRun(t, mixes, &leastSample{bbr: newBBR(Config{}.withDefaults())}, 1, 8*time.Second)
		if got := f.goodput(3*time.Second, 8*time.Second); got > mixes.rate*90/100 {
			t.Errorf("with the least residence as model it still reached %s", mbit(got))
		}
	})
}

func TestBBRFillsALoopback(t *testing.T) {
	fill := func(c Controller, rtt time.Duration) uint64 {
		spec := linkSpec{rate: 150_000_000, rtt: rtt, queueMax: 8 << 20}
		_, f := bulkRun(t, spec, c, 1, 600*ms)
		t.Logf("rtt %v: 50–100 ms %d MB/s, then %d MB/s, queue P95 %v", rtt, f.goodput(50*ms, 100*ms)/1e6, f.goodput(100*ms, 600*ms)/1e6, percentile(f.waits, 100*ms, 95))
		return min(f.goodput(50*ms, 100*ms), f.goodput(100*ms, 600*ms))
	}
	for _, rtt := range []time.Duration{300 * time.Microsecond, ms, 3 * ms} {
		if got := fill(New(Config{}), rtt); got < 142_500_000 {
			t.Errorf("rtt %v: %d MB/s of 150 by 100 ms", rtt, got/1e6)
		}
	}
	if got := fill(New(Config{Kind: Fixed, FixedRate: 100_000_000}), ms); got >= 142_500_000 {
		t.Errorf("control: a sender of 100 MB/s measured %d MB/s", got/1e6)
	}
}

func TestBBRBoundsTheQueue(t *testing.T) {
	clean := linkSpec{rate: 12_500_000, rtt: 50 * ms, queueMax: 16 << 20}
	for _, spec := range []linkSpec{clean, mixedPath} {
		bound := spec.rtt*3/2 + spec.jitter
		for _, seed := range spec.seeds() {
			_, f := bulkRun(t, spec, New(Config{}), seed, 15*time.Second)
			wait, rtt := percentile(f.waits, 2*time.Second, 95), percentile(f.rtts, 2*time.Second, 95)
			t.Logf("seed %d jitter %v: queue P95 %v, round trip P95 %v", seed, spec.jitter, wait, rtt)
			if wait > bound {
				t.Errorf("queue P95 %v, want ≤ %v", wait, bound)
			}
			if spec.jitter == 0 && rtt > bound {
				t.Errorf("round trip P95 %v, want ≤ %v", rtt, bound)
			}
		}
	}
	_, f := bulkRun(t, clean, New(Config{Kind: Cubic}), 1, 15*time.Second)
	if wait := percentile(f.waits, 2*time.Second, 95); wait <= clean.rtt*3/2 {
		t.Errorf("control: CUBIC on a deep buffer waits only %v", wait)
	}
}

func TestBBROnAShallowBuffer(t *testing.T) {
	spec := linkSpec{rate: 12_500_000, rtt: 50 * ms, queueMax: 100 << 10}
	for _, rtt := range []time.Duration{20 * ms, 50 * ms, 100 * ms} {
		spec.rtt = rtt
		l := newLink(t, spec, 1)
		f := l.addFlow(New(Config{}), 0, 0)
		l.run(2 * time.Second)
		drops, sent := l.drops, len(f.packets)
		l.run(10 * time.Second)
		share := (l.drops - drops) * 1000 / (len(f.packets) - sent)
		t.Logf("rtt %v: %s, %d ‰ dropped", rtt, mbit(f.goodput(2*time.Second, 10*time.Second)), share)
		if f.goodput(2*time.Second, 10*time.Second) < 11_250_000 || share > 60 {
			t.Errorf("%s with %d ‰ dropped", mbit(f.goodput(2*time.Second, 10*time.Second)), share)
		}
	}
}

func TestBBRWithAggregatedAcknowledgements(t *testing.T) {
	for _, delay := range []time.Duration{10 * ms, 20 * ms, 50 * ms} {
		spec := linkSpec{rate: 12_500_000, rtt: 20 * ms, queueMax: 8 << 20, ackEvery: 1 << 20, ackDelay: delay}
		_, f := bulkRun(t, spec, New(Config{}), 1, 8*time.Second)
		_, u := bulkRun(t, spec, &leastSample{bbr: newBBR(Config{}.withDefaults())}, 1, 8*time.Second)
		got, without := f.goodput(3*time.Second, 8*time.Second), u.goodput(3*time.Second, 8*time.Second)
		t.Logf("an ACK frame every %v: %s, queue P95 %v; by the least sample %s", delay, mbit(got), percentile(f.waits, 3*time.Second, 95), mbit(without))
		if got < 11_000_000 {
			t.Errorf("an ACK frame every %v: %s", delay, mbit(got))
		}
		if delay == 50*ms && without > 11_000_000 {
			t.Errorf("control: the least sample reached %s", mbit(without))
		}
	}
}

// jain is Jain's index in thousandths.
func jain(rates ...uint64) uint64 {
	var sum, squares uint64
	for _, r := range rates {
		r >>= 10
		sum += r
		squares += r * r
	}
	return sum * sum * 1000 / (uint64(len(rates)) * squares)
}

func TestBBRSharesFairly(t *testing.T) {
	share := func(spec linkSpec, a, b Controller, seed uint64) uint64 {
		l := newLink(t, spec, seed)
		fa := l.addFlow(a, 0, 0)
		fb := l.addFlow(b, 3*time.Second, 0)
		l.run(33 * time.Second)
		ra, rb := fa.goodput(13*time.Second, 33*time.Second), fb.goodput(13*time.Second, 33*time.Second)
		t.Logf("seed %d jitter %v: %s and %s, Jain %d ‰, queue P95 %v", seed, spec.jitter, mbit(ra), mbit(rb), jain(ra, rb), percentile(fa.waits, 13*time.Second, 95))
		if ra+rb < spec.rate*85/100 {
			t.Errorf("together %s only", mbit(ra+rb))
		}
		return jain(ra, rb)
	}
	clean := linkSpec{rate: 12_500_000, rtt: 50 * ms, queueMax: 16 << 20}
	for _, spec := range []linkSpec{clean, mixedPath} {
		for _, seed := range spec.seeds() {
			if got := share(spec, New(Config{}), New(Config{}), seed); got < 900 {
				t.Errorf("Jain %d ‰, want ≥ 900", got)
			}
		}
	}
	if got := share(clean, New(Config{}), New(Config{Kind: Fixed, FixedRate: 11_500_000}), 1); got >= 900 {
		t.Errorf("control: against an unyielding sender Jain is %d ‰", got)
	}
}

// blindToDrops never lets a slower path be proven.
type blindToDrops struct{ *bbr }

func (c blindToDrops) OnAckEnd(now machine.Time, rtt time.Duration, inFlight int) {
	c.drops, c.bw.low = 0, 0
	c.bbr.OnAckEnd(now, rtt, inFlight)
}

func TestBBRFollowsARateDrop(t *testing.T) {
	const drop = 4 * time.Second
	// adapted is when the sending rate last stood above 1.5 × the new one.
	adapted := func(spec linkSpec, c Controller, seed uint64) (time.Duration, *simFlow) {
		l := newLink(t, spec, seed)
		f := l.addFlow(c, 0, 0)
		l.at(drop, func() { l.spec.rate /= 10 })
		var last time.Duration
		for d := drop; d < drop+3*time.Second; d += 10 * ms {
			l.at(d, func() {
				if c.PacingRate() > l.spec.rate*3/2 {
					last = time.Duration(l.now) - drop
				}
			})
		}
		l.run(drop + 6*time.Second)
		return last, f
	}
	clean := linkSpec{rate: 12_500_000, rtt: 50 * ms, queueMax: 8 << 20}
	for _, spec := range []linkSpec{clean, mixedPath} {
		for _, seed := range spec.seeds() {
			took, f := adapted(spec, New(Config{}), seed)
			after := f.goodput(drop+2*time.Second, drop+6*time.Second)
			t.Logf("seed %d jitter %v: adapted in %v, then %s, queue P95 %v", seed, spec.jitter, took, mbit(after), percentile(f.waits, drop+2*time.Second, 95))
			if limit := 10 * spec.rtt; took > limit {
				t.Errorf("adapted in %v, want ≤ %v", took, limit)
			}
			if after < spec.rate/10*80/100 {
				t.Errorf("collapsed to %s", mbit(after))
			}
		}
	}
	if took, _ := adapted(clean, blindToDrops{newBBR(Config{}.withDefaults())}, 1); took <= 10*clean.rtt {
		t.Errorf("control: without proof of drops it adapts in %v", took)
	}
}

func TestBBRFindsMoreRate(t *testing.T) {
	l := newLink(t, mixedPath, 1)
	l.spec.rate /= 4
	f := l.addFlow(New(Config{}), 0, 0)
	l.at(3*time.Second, func() { l.spec.rate *= 4 })
	l.run(10 * time.Second)
	if got := f.goodput(7*time.Second, 10*time.Second); got < 11_250_000 {
		t.Errorf("four seconds after the rate rose fourfold: %s", mbit(got))
	}
}

func TestBBRSurvivesALongerPath(t *testing.T) {
	for _, rtt := range []time.Duration{75 * ms, 100 * ms, 150 * ms, 250 * ms} {
		spec := linkSpec{rate: 12_500_000, rtt: 50 * ms, queueMax: 8 << 20, lossPPM: 10_000}
		l := newLink(t, spec, 1)
		f := l.addFlow(New(Config{}), 0, 0)
		l.at(4*time.Second, func() { l.spec.rtt = rtt })
		l.run(24 * time.Second)
		t.Logf("50 ms → %v: first 10 s %s, then %s", rtt, mbit(f.goodput(4*time.Second, 14*time.Second)), mbit(f.goodput(14*time.Second, 24*time.Second)))
		if got := f.goodput(14*time.Second, 24*time.Second); got < 10_000_000 {
			t.Errorf("round trip to %v: %s", rtt, mbit(got))
		}
	}
}

func TestSlotsAreNeverBlocked(t *testing.T) {
	// blocked counts slots of 100 per second that found the window closed.
	// Two seconds are granted to learn that the path carries them at all.
	blocked := func(c Controller, spec linkSpec, mean time.Duration, regular bool, seed uint64) int {
		l := newLink(t, spec, seed)
		f := l.addFlow(c, 0, mean)
		f.regular = regular
		l.run(2 * time.Second)
		f.blocked = 0
		l.run(60 * time.Second)
		t.Logf("slots every %v, regular %v: %d of %d blocked, least window %d packets", mean, regular, f.blocked, f.slotCount, f.windowMin/packetSize)
		return f.blocked
	}
	mixes := mixedPath
	mixes.jitter, mixes.ackJitter, mixes.hops, mixes.lossPPM = 30*ms, 30*ms, 3, 50_000
	for _, mean := range []time.Duration{100 * ms, 10 * ms, ms} {
		for _, seed := range mixes.seeds() {
			for _, regular := range []bool{true, false} {
				if n := blocked(New(Config{}), mixes, mean, regular, seed); n > 0 {
					t.Errorf("slots every %v, regular %v, seed %d: %d blocked", mean, regular, seed, n)
				}
			}
		}
	}
	if n := blocked(New(Config{Kind: Cubic}), mixes, 10*ms, true, 1); n == 0 {
		t.Error("control: CUBIC under 5 % loss blocked no slot")
	}
}

func TestBBRGrowsOnceTheSenderHasData(t *testing.T) {
	l := newLink(t, mixedPath, 1)
	f := l.addFlow(New(Config{}), 0, 10*ms)
	l.at(10*time.Second, f.bulk)
	l.run(14 * time.Second)
	if got := f.goodput(12*time.Second, 14*time.Second); got < 11_000_000 {
		t.Errorf("two seconds after slots of 100/s gave way to bulk: %s", mbit(got))
	}
}
