package mix

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
	"pgregory.net/rapid"
)

func TestRoutesEndWithTheirTime(t *testing.T) {
	n := newNet(t, 3, Limits{Quiet: time.Hour})
	n.now = machine.Time(time.Hour) + 12345
	r := n.open(wire.Fast, nil, 81) // for ten minutes
	end := n.lastEnd()
	n.advance(10*time.Minute - time.Second)
	n.send(r, packetOf(1))
	n.run()
	n.wantCount(2, trace.CellDelivered, 1)
	n.now = n.now.Add(time.Second) // exactly, before any timer
	n.send(r, packetOf(2))
	n.wantCount(0, trace.DropCellRoute, 1)
	if n.end().SendBack(n.now, end, packetOf(1)) {
		t.Error("the end sends after the route's time")
	}
	frames := len(n.home)
	n.advance(time.Second)
	for i, node := range n.nodes {
		n.wantCount(i, trace.RoutesExpired, 1)
		if node.Routes() != 0 || node.NextTimer() != machine.Never {
			t.Errorf("hop %d: %d routes, next timer %v", i, node.Routes(), node.NextTimer())
		}
	}
	if end.r.keys != (cellKeys{}) {
		t.Error("keys of a route that ended are kept")
	}
	if d := n.end().deliveries; d[len(d)-1].Kind != Closed || d[len(d)-1].Route != end {
		t.Error("the end was not told")
	}
	if len(n.home) != frames {
		t.Error("the end of a route said something on the wire")
	}
	n.settled()
}

func TestQuietRoutesEnd(t *testing.T) {
	n := newNet(t, 3, Limits{Quiet: time.Minute})
	r := n.open(wire.Fast, nil, 82)
	for range 5 {
		n.advance(50 * time.Second)
		var f wire.Frame
		r.SealDrop(&f, 2)
		n.carry(0, true, f.B[:])
		n.run()
	}
	n.wantCount(2, trace.CellDropped, 5)
	// Cells the other way are no sign of the client's life.
	for range 10 {
		n.advance(6 * time.Second)
		n.end().SendBack(n.now, n.lastEnd(), packetOf(1))
		n.run()
	}
	n.advance(2 * time.Second)
	for i := range n.nodes {
		n.wantCount(i, trace.RoutesExpired, 1)
	}
}

func TestTTLIsBounded(t *testing.T) {
	n := newNet(t, 3, Limits{TTL: 5 * time.Second})
	n.open(wire.Fast, nil, 83)
	n.advance(7 * time.Second)
	n.wantCount(0, trace.RoutesExpired, 1)
}

// fabricate makes routes at a hop without their set-ups.
func fabricate(t *Table, count int, from func(i int) link.ID, last bool) {
	for i := range count {
		j := &setupJob{from: from(i), id: uint32(i)}
		j.routing = wire.Routing{Last: last, Suite: uint8(seal.AES256GCM), TTL: time.Hour, ForwardStart: 1, BackMean: 10 * time.Millisecond}
		in := t.neighbour(0, j.from)
		r := t.addRoute(0, j, in)
		if !last {
			r.next, r.nextID = link.ID(5), uint32(i)
			t.back[keyOf(5, r.nextID)] = r
			t.neighbour(0, 5).out.push(r, listOut)
		}
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// An idle route costs at most 600 bytes, keys, windows and tables included.
func TestIdleRouteIsSmall(t *testing.T) {
	const routes = 100_000
	for name, c := range map[string]struct {
		from func(i int) link.ID
		last bool
		most uint64
	}{
		"mix, from 100 links":           {func(i int) link.ID { return link.ID(100 + i%100) }, false, 600},
		"end, each from its own link":   {func(i int) link.ID { return link.ID(100 + i) }, true, 800},
		"entry, each from its own link": {func(i int) link.ID { return link.ID(100 + i) }, false, 800},
	} {
		var pool wire.Pool
		var counts trace.Counts
		before := heap()
		table := NewTable(Config{Limits: Limits{Quiet: time.Hour}}, prng.FromUint64(1), &pool, &counts)
		fabricate(table, routes, c.from, c.last)
		empty := (heap() - before) / routes
		for _, r := range table.forward {
			if r.prevID%10 == 0 { // some carried traffic, and are idle again
				table.heat(0, r)
				r.hot.out.mark(0, 1)
				r.hot.home.mark(0, 1)
			}
		}
		hot := heap() - before - empty*routes
		for s := range 70 {
			table.HandleTimer(machine.Time(s) * machine.Time(time.Second))
		}
		idle := (heap() - before) / routes
		t.Logf("%s: %d bytes per route, %d while it carries cells, %d idle again", name, empty, hot*10/routes+empty, idle)
		if idle > c.most {
			t.Errorf("%s: %d bytes per idle route, %d allowed", name, idle, c.most)
		}
		runtime.KeepAlive(table)
	}
}

func TestNoAllocationPerCell(t *testing.T) {
	h := newBenchHop(t)
	i := 0
	if n := testing.AllocsPerRun(2000, func() {
		if i%benchCells == 0 {
			h.rewind(&h.route.hot.out)
		}
		h.node.HandleFrame(0, toward(2), h.forward[i%benchCells])
		h.drain(t)
		i++
	}); n != 0 {
		t.Errorf("%.2f allocations per cell out", n)
	}
	if n := testing.AllocsPerRun(2000, func() {
		if i%benchCells == 0 {
			h.rewind(&h.route.hot.home)
		}
		c := h.back[i%benchCells]
		wire.PutFrameHeader(c, wire.FrameBack, h.route.nextID)
		h.node.HandleFrame(0, toward(3), c)
		h.drain(t)
		i++
	}); n != 0 {
		t.Errorf("%.2f allocations per cell back", n)
	}
}

func TestNoAllocationAtTheEnds(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.Standard, nil, 84)
	end, packet := n.lastEnd(), packetOf(1)
	var f wire.Frame
	cell := func(at machine.Time) {
		r.Seal(&f, packet, 0)
		frame := &f
		for i := range n.nodes {
			n.nodes[i].HandleFrame(at, toward(i), frame.B[:])
			if i > 0 {
				n.nodes[i-1].pool.Put(frame)
			}
			if i < 4 {
				_, frame, _ = n.nodes[i].PollSend(machine.Never)
			}
		}
		if d, ok := n.end().PollDeliver(); !ok || d.Kind != Packet {
			t.Fatal("no delivery")
		}
		if !n.end().SendBack(at, end, packet) {
			t.Fatal("no way back")
		}
		for i := 4; i >= 0; i-- {
			_, frame, _ = n.nodes[i].PollSend(machine.Never)
			if i == 0 {
				if b, ok := r.Open(at, frame.B[:]); !ok || b.Kind != BackPacket {
					t.Fatal("not opened")
				}
			} else {
				n.nodes[i-1].HandleFrame(at, toward(i), frame.B[:])
			}
			n.nodes[i].pool.Put(frame)
		}
	}
	for range 100 {
		cell(0)
	}
	if allocs := testing.AllocsPerRun(300, func() { cell(0) }); allocs != 0 {
		t.Errorf("%.2f allocations for a cell there and back over five hops", allocs)
	}
}

// The same seeds give the same times and sizes on every link.
func TestRunsRepeat(t *testing.T) {
	story := func() (s string) {
		n := newNet(t, 5, Limits{})
		n.record = true
		r := n.open(wire.High, nil, 85)
		for i := range uint64(50) {
			n.send(r, packetOf(i))
			n.advance(3 * time.Millisecond)
		}
		n.run()
		for _, c := range n.seen {
			s += fmt.Sprintln(c.at, c.out, c.when, c.frame[0], wire.FrameRouteID(c.frame))
		}
		return s
	}
	if first, again := story(), story(); first != again {
		t.Error("two runs from one seed differ")
	}
}

// Any order of events leaves the accounts balanced: nothing is delivered
// twice, nothing that was not sent, and in the end nothing is held.
func TestAnyStoryEndsWell(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := newNet(t, rapid.IntRange(wire.MinHops, 5).Draw(rt, "hops"), Limits{Queue: 30})
		level := wire.Level(rapid.IntRange(0, 3).Draw(rt, "level"))
		var routes []*Route
		loss := rapid.IntRange(0, 300).Draw(rt, "loss")
		rng := prng.FromUint64(rapid.Uint64().Draw(rt, "seed")).Stream("faults")
		n.tap = func(at int, out bool, f []byte) bool {
			if rng.Chance(uint64(loss) * 100) {
				f[rng.IntN(len(f))] ^= 1 << rng.IntN(8)
			}
			return !rng.Chance(uint64(loss) * 100)
		}
		sent := map[string]bool{}
		var serial uint64
		for range rapid.IntRange(1, 60).Draw(rt, "events") {
			switch event := rapid.IntRange(0, 9).Draw(rt, "event"); {
			case event == 0 || len(routes) == 0:
				serial++
				if r, train, err := Build(n.specs(level.MixDelay()), level, 20*time.Second, nil, prng.FromUint64(serial)); err == nil {
					routes = append(routes, r)
					n.sendTrain(train)
				}
			case event < 6:
				serial++
				p := packetOf(serial)
				sent[string(p)] = true
				n.send(routes[int(serial)%len(routes)], p)
			case event == 6:
				n.nodes[rng.IntN(len(n.nodes))].LinkDown(n.now, toward(rng.IntN(len(n.nodes)+1)))
			case event == 7:
				var f wire.Frame
				if routes[0].SealClose(&f) {
					n.carry(0, true, f.B[:])
				}
			default:
				n.advance(time.Duration(rapid.IntRange(0, 3000).Draw(rt, "ms")) * time.Millisecond)
			}
		}
		n.advance(time.Minute)
		for _, d := range n.end().deliveries {
			if d.Kind == Packet {
				if !sent[string(d.Packet)] {
					rt.Fatal("a packet was delivered twice, or was never sent")
				}
				delete(sent, string(d.Packet))
			}
		}
		for i, node := range n.nodes {
			node.PollDeliver()
			if node.pool.Out != 0 || node.Routes() != 0 || len(node.back) != 0 || node.trains.head != nil || node.NextTimer() != machine.Never {
				rt.Fatalf("hop %d holds %d frames, %d routes, next timer %v", i, node.pool.Out, node.Routes(), node.NextTimer())
			}
		}
	})
}
