package stream

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/wire"
	"pgregory.net/rapid"
)

// severalPaths is a world whose client has n paths, which the responder knows
// too.
func severalPaths(t testing.TB, seed uint64, cfg Config, n int) *world {
	w := established(t, seed, cfg, cfg)
	for id := 1; id < n; id++ {
		w.client.AddPath(w.now, uint8(id))
	}
	w.run(500 * time.Millisecond)
	return w
}

// slotted polls both sides of a world in regular slots, as shaped routes do.
func (w *world) slotted(perSecond int, end machine.Time) {
	period := time.Second / time.Duration(perSecond)
	var b [wire.SessionPacketSize]byte
	for at := w.now.Add(period); at <= end; at = at.Add(period) {
		w.hold = true
		for w.step(at) {
		}
		for path := range uint8(MaxPaths) {
			if w.client.PollPacket(w.now, path, b[:]) {
				w.send(true, path, b[:])
			}
			if w.server.PollPacket(w.now, w.shift[path], b[:]) {
				w.send(false, path, b[:])
			}
		}
	}
}

// download is what a client gets in so many seconds by paths with slots.
func slottedDownload(t testing.TB, paths int, change func(w *world)) (bytes int, w *world) {
	w = established(t, 1, Config{Level: wire.Standard}, Config{Level: wire.Standard})
	for i := range w.routes {
		w.routes[i] = route{delay: 60 * time.Millisecond, jitter: 15 * time.Millisecond}
	}
	for id := 1; id < paths; id++ {
		w.client.AddPath(w.now, uint8(id))
	}
	if change != nil {
		change(w)
	}
	a := newApp(w)
	id := a.open(10, 16<<20, PriorityNormal)
	w.slotted(100, w.now.Add(5*time.Second))
	before := a.flows[id].downGot.Len()
	w.slotted(100, w.now.Add(10*time.Second))
	return a.flows[id].downGot.Len() - before, w
}

// On shaped routes every route's slots carry data: so many routes, so many
// times the rate.
func TestSlotsOfEveryPathCarryData(t *testing.T) {
	one, _ := slottedDownload(t, 1, nil)
	for n := 2; n <= MaxPaths; n++ {
		several, w := slottedDownload(t, n, nil)
		st := w.server.Stats()
		t.Logf("%d paths: %.2f of one path's %d bytes; lost %d, spurious %d of %d", n, float64(several)/float64(one), one, st.Lost, st.Spurious, st.PacketsSent)
		if several < one*n*9/10 {
			t.Errorf("%d paths bring %d bytes, one %d", n, several, one)
		}
		if st.Spurious*100 > st.PacketsSent {
			t.Errorf("%d of %d packets were sent again for nothing", st.Spurious, st.PacketsSent)
		}
	}
}

// A path of 300 ms more is held back, and left if it was the first: requests
// take no longer than on the other alone. Control: where every slot carries, they do.
func TestALaggingPathIsHeldBack(t *testing.T) {
	p95 := func(paths int, lagging uint8, cfg Config) time.Duration {
		cfg.Level = wire.Standard
		w := newWorld(t, 1, cfg, cfg)
		for i := range w.routes {
			w.routes[i] = route{delay: 60 * time.Millisecond, jitter: 15 * time.Millisecond}
		}
		w.routes[lagging].delay += 300 * time.Millisecond
		w.until(10*time.Second, func() bool { return w.server != nil && w.server.confirmed })
		for id := 1; id < paths; id++ {
			w.client.AddPath(w.now, uint8(id))
		}
		a := newApp(w)
		var took []time.Duration
		for range 60 {
			begin := w.now
			a.open(10_000, 10_000, PriorityNormal)
			for !a.done() {
				w.slotted(100, w.now.Add(10*time.Millisecond))
			}
			took = append(took, w.now.Sub(begin))
		}
		a.check()
		took = took[10:] // until then paths are measured
		slices.Sort(took)
		return took[len(took)*95/100]
	}
	alone := p95(1, 4, Config{})
	held := p95(2, 1, Config{})
	left := p95(2, 0, Config{})
	control := p95(2, 1, Config{PathLag: time.Hour, greedy: true})
	t.Logf("P95 alone %v, held back %v, left %v; without a bound %v", alone, held, left, control)
	if held > alone*11/10 || left > alone*11/10 || control < alone*3/2 {
		t.Errorf("P95 alone %v, held back %v, left %v; without a bound %v", alone, held, left, control)
	}
}

// Receive windows cover the path that takes longest, with twice its jitter, for as
// long as there is one: what is quick by another waits for it.
func TestWindowsReachAsFarAsTheSlowestPath(t *testing.T) {
	w := established(t, 1, Config{Level: wire.Standard}, Config{Level: wire.Standard})
	w.routes[0].delay, w.routes[1] = 50*time.Millisecond, route{delay: 110 * time.Millisecond, jitter: 5 * time.Millisecond}
	w.client.AddPath(w.now, 1)
	a := newApp(w)
	a.open(1<<20, 4<<20, PriorityNormal)
	w.slotted(100, w.now.Add(5*time.Second))
	both := w.client.reach()
	w.client.RemovePath(w.now, 1)
	w.server.RemovePath(w.now, 1)
	w.slotted(100, w.now.Add(5*time.Second))
	one := w.client.reach()
	t.Log(both, one)
	if both < 220*time.Millisecond || both > 400*time.Millisecond || one < 90*time.Millisecond || one > 150*time.Millisecond {
		t.Errorf("windows reach %v with both paths, %v with one", both, one)
	}
}

// What is little goes where round trip, jitter and loss are least: of two paths in
// slots, the worse one gets few of the packets, and what is written comes sooner.
// Control: where every slot carries, it gets most of them.
func TestTheWorsePathHasTheSmallerShare(t *testing.T) {
	run := func(worse, better route, cfg Config) (share float64, p95 time.Duration) {
		cfg.Level, cfg.PathLag = wire.Standard, time.Hour // what is held back is so by its cost
		w := severalPaths(t, 1, cfg, 2)
		w.routes[0], w.routes[1] = worse, better // path 0 has each slot first
		var sent [2]int
		w.rewrite = func(fromClient bool, path uint8, b []byte) []byte {
			if fromClient {
				sent[path]++
			}
			return b
		}
		id, _ := w.client.OpenStream(w.now, PriorityNormal)
		var took []time.Duration
		var written []machine.Time
		var b [1000]byte
		read := 0
		for range 1500 { // 50 a second
			written = append(written, w.now)
			w.client.Write(w.now, id, b[:])
			for range 2 {
				w.slotted(100, w.now.Add(10*time.Millisecond))
				for n, err := w.server.Read(w.now, id, b[:]); err == nil; n, err = w.server.Read(w.now, id, b[:]) {
					for read += n; len(took) < read/len(b); {
						took = append(took, w.now.Sub(written[len(took)]))
					}
				}
			}
			if len(written) == 500 { // until then paths are measured
				sent = [2]int{}
			}
		}
		took = took[500:]
		slices.Sort(took)
		return float64(sent[0]) / float64(sent[0]+sent[1]), took[len(took)*95/100]
	}
	const ms = time.Millisecond
	for name, c := range map[string][2]route{ // worse by one thing, and better by what else there is
		"round trip": {{delay: 100 * ms}, {delay: 60 * ms, jitter: 5 * ms}},
		"jitter":     {{delay: 60 * ms, jitter: 40 * ms}, {delay: 105 * ms}},
		"loss":       {{delay: 60 * ms, loss: 200_000}, {delay: 72 * ms}},
	} {
		share, took := run(c[0], c[1], Config{})
		without, longer := run(c[0], c[1], Config{greedy: true})
		t.Logf("%s: %.2f of the packets, P95 %v; where every slot carries %.2f, %v", name, share, took, without, longer)
		most := 0.12
		if c[0].loss > 0 {
			most = 0.3 // as often as by chance it has lost little of late
		}
		if share > most || without < 0.6 || took >= longer {
			t.Errorf("%s: %.2f of the packets, P95 %v; where every slot carries %.2f, %v", name, share, took, without, longer)
		}
	}
}

// bottleneck gives a path a link with a rate and a queue of 200 ms.
func (w *world) bottleneck(path uint8, bytesPerSecond int) {
	w.routes[path].rate, w.routes[path].buffer = int64(bytesPerSecond), 200*time.Millisecond
}

// download is what a client gets per second by paths of so many bytes per
// second.
func download(t testing.TB, seed uint64, rates []int, change func(w *world)) (perSecond int, w *world) {
	w = severalPaths(t, seed, Config{}, len(rates))
	for i, r := range rates {
		w.routes[i].delay = 20 * time.Millisecond
		w.bottleneck(uint8(i), r)
	}
	if change != nil {
		change(w)
	}
	a := newApp(w)
	id := a.open(10, 64<<20, PriorityNormal)
	w.run(12 * time.Second) // until what others add was tried
	before := a.flows[id].downGot.Len()
	w.run(20 * time.Second)
	return (a.flows[id].downGot.Len() - before) / 20, w
}

// Paths that are limited each by itself bring what they can together.
func TestGoodputIsTheSumOfThePaths(t *testing.T) {
	const payload = 950 // of a packet of 1079 bytes, at the least
	for _, rates := range [][]int{{500_000, 500_000}, {1_000_000, 300_000}, {400_000, 400_000, 400_000}} {
		sum := 0
		for _, r := range rates {
			sum += r
		}
		got, w := download(t, 1, rates, nil)
		st := w.server.Stats()
		t.Logf("%v: %d of %d, lost %d spurious %d of %d", rates, got, sum*payload/wire.SessionPacketSize, st.Lost, st.Spurious, st.PacketsSent)
		if got < sum*payload/wire.SessionPacketSize*9/10 {
			t.Errorf("%v: %d bytes per second", rates, got)
		}
	}
}

// One of two paths loses 5 %.
func TestALossyPathStillHelps(t *testing.T) {
	one, _ := download(t, 1, []int{500_000}, nil)
	two, w := download(t, 1, []int{500_000, 500_000}, func(w *world) { w.routes[1].loss = 50_000 })
	st := w.server.Stats()
	t.Logf("one %d, two %d; lost %d spurious %d of %d", one, two, st.Lost, st.Spurious, st.PacketsSent)
	if two < one*17/10 || st.Spurious*100 > st.PacketsSent {
		t.Errorf("%d with, %d without it; %d spurious of %d", two, one, st.Spurious, st.PacketsSent)
	}
}

// A path that is limited by processors is not spread from.
func TestShortPathsDoNotSpread(t *testing.T) {
	w := severalPaths(t, 1, Config{}, 2)
	w.routes[0].delay, w.routes[1].delay = 200*time.Microsecond, 200*time.Microsecond
	w.run(time.Second)
	a := newApp(w)
	a.open(4<<20, 10, PriorityNormal)
	w.until(20*time.Second, a.done)
	a.open(8<<20, 10, PriorityNormal)
	used := 0
	w.rewrite = func(fromClient bool, path uint8, b []byte) []byte {
		if fromClient && path != w.client.ActivePath() {
			used++
		}
		return b
	}
	a.finish(20 * time.Second)
	if used > 5 { // a few are asked for their round trip
		t.Errorf("%d packets on the second path", used)
	}
}

// Whatever paths do, while one of them works every byte comes once and in
// order, and nothing is left behind.
func TestModelSeveralPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{}
		if rapid.Bool().Draw(t, "fixed") {
			cfg = Config{Congestion: congestion.Fixed, FixedRate: 2 << 20}
		}
		n := rapid.IntRange(2, MaxPaths).Draw(t, "paths")
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), cfg, cfg)
		w.until(10*time.Second, func() bool { return w.server != nil && w.server.confirmed })
		for i := range n {
			w.routes[i] = route{
				delay:  time.Duration(rapid.IntRange(0, 400).Draw(t, "delay")) * time.Millisecond,
				jitter: time.Duration(rapid.IntRange(0, 30).Draw(t, "jitter")) * time.Millisecond,
				loss:   uint64(rapid.IntRange(0, 50_000).Draw(t, "loss")),
			}
			w.client.AddPath(w.now, uint8(i))
		}
		a := newApp(w)
		a.open(1<<20, 1<<20, PriorityNormal)
		a.open(100_000, 300_000, PriorityHigh)
		for range rapid.IntRange(0, 6).Draw(t, "failures") {
			w.run(time.Duration(rapid.IntRange(1, 800).Draw(t, "ms")) * time.Millisecond)
			id := uint8(rapid.IntRange(1, n-1).Draw(t, "path")) // path 0 may fail too, last
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				w.routes[id].down = !w.routes[id].down
			case 1:
				w.client.RemovePath(w.now, id)
				w.server.RemovePath(w.now, id)
			case 2:
				w.client.AddPath(w.now, id)
			}
		}
		w.routes[0].down = rapid.Bool().Draw(t, "first") && w.client.paths[n-1].present && !w.routes[n-1].down
		w.until(5*time.Minute, a.done)
		a.check()
	})
}

func TestSpreadTransferDoesNotAllocate(t *testing.T) {
	w := severalPaths(t, 1, Config{Congestion: congestion.Fixed, FixedRate: 1 << 20}, 3)
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	src := make([]byte, 64<<10)
	var b [wire.SessionPacketSize]byte
	round := func() {
		w.client.Write(w.now, id, src)
		for path := range uint8(3) {
			for w.client.PollPacket(w.now, path, b[:]) {
				w.server.HandlePacket(w.now, path, b[:])
			}
		}
		for path := range uint8(3) {
			for w.server.PollPacket(w.now, path, b[:]) {
				w.client.HandlePacket(w.now, path, b[:])
			}
		}
		for {
			if _, err := w.server.Read(w.now, id, src); err != nil {
				break
			}
		}
		drain(w.client)
		drain(w.server)
		w.now = w.now.Add(20 * time.Millisecond)
		w.client.HandleTimer(w.now)
		w.server.HandleTimer(w.now)
	}
	for range 500 {
		round()
	}
	if n := testing.AllocsPerRun(100, round); n > 0 {
		t.Errorf("%.2f allocations per round", n)
	}
	if w.client.track(1).sent < 100 {
		t.Errorf("only %d packets on the second path", w.client.track(1).sent)
	}
}

// An upload begins by two routes whose wires queue next to nothing: it overruns them,
// and loses half of what it sends until it knows their rate. It does not take that for a
// worse path. Where the other one is better it moves, and the path that it leaves carries
// on until the next one has found its rate.
func TestABeginningUploadKeepsItsRate(t *testing.T) {
	for _, c := range []struct {
		delays  [2]time.Duration
		moves   int // of both sides
		atLeast int // MiB in 6 s
	}{
		{[2]time.Duration{42 * time.Millisecond, 52 * time.Millisecond}, 0, 55},
		{[2]time.Duration{120 * time.Millisecond, 90 * time.Millisecond}, 2, 30},
	} {
		w := newWorld(t, 1, Config{}, Config{})
		for i, delay := range c.delays {
			w.bottleneck(uint8(i), 16_000_000)
			w.routes[i].delay, w.routes[i].buffer = delay, 2*time.Millisecond
		}
		w.until(10*time.Second, func() bool { return w.server != nil && w.server.confirmed })
		w.client.AddPath(w.now, 1)
		w.run(2 * time.Second)
		a := newApp(w)
		id := a.open(64<<20, 10, PriorityNormal)
		for range 600 { // as a host does, whom other things wake
			w.run(10 * time.Millisecond)
		}
		got, moves := a.flows[id].upGot.Len()>>20, a.seen[PathChanged]
		t.Logf("%v: %d MiB in 6 s, %d moves", c.delays, got, moves)
		if moves != c.moves || got < c.atLeast {
			t.Errorf("%v one way: %d MiB in 6 s, with %d moves of both sides, want %d and %d", c.delays, got, moves, c.atLeast, c.moves)
		}
	}
}
