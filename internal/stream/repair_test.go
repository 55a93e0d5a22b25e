package stream

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
	"pgregory.net/rapid"
)

// lossyWorld is an established world whose first route is r, lossless until the
// handshake is done.
func lossyWorld(t tb, seed uint64, ccfg, scfg Config, r route) *world {
	w := newWorld(t, seed, ccfg, scfg)
	w.routes[0] = route{delay: r.delay, jitter: r.jitter}
	w.until(10*time.Second, func() bool { return w.server != nil && w.server.confirmed && w.client.Established() })
	w.run(200 * time.Millisecond)
	w.routes[0] = r
	return w
}

// both adds the counters of both ends.
func both(w *world) (c Counters) {
	for _, s := range []*Session{w.client, w.server} {
		st := s.Stats()
		c.PacketsSent += st.PacketsSent
		c.Lost += st.Lost
		c.Retransmitted += st.Retransmitted
		c.RepairsSent += st.RepairsSent
		c.Rebuilt += st.Rebuilt
	}
	return c
}

// bottleneck is a route of 4 MiB/s and 80 ms with a queue that has room for what
// the controller does when it looks for the rate: what is lost is lost at random.
var bottleneck = route{delay: 40 * time.Millisecond, rate: 4 << 20, buffer: 400 * time.Millisecond}

// At 15 % loss and many streams repairs carry what retransmission did, and the
// controller hears of the losses all the same (DF-004).
func TestRepairsReplaceRetransmission(t *testing.T) {
	for _, jitter := range []time.Duration{0, 10 * time.Millisecond} {
		var again [2]float64
		for i, cfg := range []Config{{}, {Without: []uint16{wire.CapRepair}}} {
			r := bottleneck
			r.jitter, r.loss = jitter, 150_000
			w := lossyWorld(t, 1, cfg, cfg, r)
			a := newApp(w)
			for range 50 {
				a.open(300_000, 300_000, PriorityNormal)
			}
			w.until(time.Minute, a.done)
			c := both(w)
			again[i] = float64(c.Retransmitted) / float64(c.PacketsSent)
			t.Logf("jitter %v, repairs %v: %.2f %% sent again; %+v", jitter, i == 0, 100*again[i], c)
			if share := float64(c.Lost) / float64(c.PacketsSent); share < 0.12 || share > 0.18 {
				t.Errorf("the controller heard of %.1f %%", 100*share)
			}
			a.finish(time.Minute)
		}
		if again[0] > 0.05 {
			t.Errorf("jitter %v: %.2f %% sent again", jitter, 100*again[0])
		}
		if again[1] < 0.1 {
			t.Errorf("control: only %.2f %% without repairs", 100*again[1])
		}
	}
}

// goodput is the bytes per second of one stream over 6 s, after 2 s, the mean of
// some runs, with the packets and repairs of both ends.
func goodput(t *testing.T, runs uint64, cfg Config, r route) (rate float64, packets, repairs int, w *world) {
	for seed := range runs {
		w = lossyWorld(t, seed, cfg, cfg, r)
		a := newApp(w)
		id := a.open(64<<20, 0, PriorityNormal)
		w.run(2 * time.Second)
		before := a.flows[id].upGot.Len()
		w.run(6 * time.Second)
		rate += float64(a.flows[id].upGot.Len()-before) / float64(6*runs)
		packets += w.packets
		repairs += int(both(w).RepairsSent)
	}
	return rate, packets, repairs, w
}

// At 5 % random loss one stream keeps four fifths of its lossless goodput.
func TestOneStreamKeepsItsGoodputUnderLoss(t *testing.T) {
	r := bottleneck
	whole, _, _, _ := goodput(t, 1, Config{}, r)
	r.loss = 50_000
	with, _, _, _ := goodput(t, 4, Config{}, r)
	without, _, _, _ := goodput(t, 4, Config{Without: []uint16{wire.CapRepair}}, r)
	t.Logf("lossless %.2f MB/s; at 5 %% loss %.2f (%.0f %%), without repairs %.2f (%.0f %%)",
		whole/1e6, with/1e6, 100*with/whole, without/1e6, 100*without/whole)
	if with < 0.8*whole {
		t.Errorf("%.0f %% kept", 100*with/whole)
	}
	if without > 0.95*with {
		t.Errorf("control: %.0f %% kept without repairs", 100*without/whole)
	}
}

// A queue of a quarter of the round trip holds what is sent. A sender whom the
// peer's window holds back, since what was lost is missing there, must not take
// that for a lack of data and send the rest in bursts: so a third of all packets
// overflowed the queue, and a third of the rate was left.
func TestAShallowQueueIsNotOverrun(t *testing.T) {
	r := route{delay: 50 * time.Millisecond, rate: 12_500_000, buffer: 23 * time.Millisecond}
	rate, packets, _, w := goodput(t, 1, Config{}, r)
	full := float64(w.routes[0].full) / float64(packets)
	t.Logf("%.2f MB/s of 12.5, %.1f %% of the packets met a full queue", rate/1e6, 100*full)
	if rate < 7e6 || full > 0.2 {
		t.Errorf("%.2f MB/s of 12.5, %.1f %% of the packets met a full queue", rate/1e6, 100*full)
	}
}

// A route that is silent for a while has its rate afterwards: what was lost in the
// silence says nothing of it.
func TestAnOutageIsNoSlowerRoute(t *testing.T) {
	w := lossyWorld(t, 1, Config{}, Config{}, bottleneck)
	a := newApp(w)
	id := a.open(64<<20, 0, PriorityNormal)
	w.run(2 * time.Second)
	for range 4 {
		w.routes[0].down = true
		w.run(400 * time.Millisecond)
		w.routes[0].down = false
		w.run(600 * time.Millisecond)
		before := a.flows[id].upGot.Len()
		w.run(time.Second)
		rate := float64(a.flows[id].upGot.Len()-before) / 1e6
		t.Logf("%.2f MB/s in the second after", rate)
		if rate < 3.3 {
			t.Errorf("%.2f MB/s after an outage, of 4.0", rate)
		}
	}
}

// Where nothing but a queue of our own making loses packets, repairs cost next
// to nothing: on a steady route not a packet, not a byte of memory. Where packets
// overtake each other the rate of a run is up to a fifth another with every packet
// that is; the means of 24 runs with repairs and without differ by 1 %.
func TestNoRepairsWithoutRandomLoss(t *testing.T) {
	for _, c := range []struct {
		jitter time.Duration
		runs   uint64
		least  float64
	}{{0, 1, 1}, {10 * time.Millisecond, 12, 0.9}} {
		r, jitter := bottleneck, c.jitter
		r.jitter, r.buffer = jitter, 100*time.Millisecond
		with, n, repairs, w := goodput(t, c.runs, Config{}, r)
		without, m, _, _ := goodput(t, c.runs, Config{Without: []uint16{wire.CapRepair}}, r)
		t.Logf("jitter %v: %d repairs of %d packets, %.0f B/s; without %d packets, %.0f B/s", jitter, repairs, n, with, m, without)
		if repairs > n/1000 || with < c.least*without {
			t.Errorf("jitter %v: repairs cost something", jitter)
		}
		if f := &w.client.work.repair; jitter == 0 && (n != m || with != without || f.enc != nil || w.server.work.repair.dec != nil) {
			t.Error("something differs")
		}
		if w.routes[0].full == 0 {
			t.Error("control: the queue never overflowed")
		}
	}
}

// Redundancy begins with loss and ends with it.
func TestRedundancyFallsWithLoss(t *testing.T) {
	r := bottleneck
	r.loss = 100_000
	w := lossyWorld(t, 1, Config{}, Config{}, r)
	a := newApp(w)
	a.open(200<<20, 0, PriorityNormal)
	w.run(5 * time.Second)
	busy := w.client.Stats().RepairsSent
	if busy < 100 {
		t.Fatalf("%d repairs at 10 %% loss", busy)
	}
	w.routes[0].loss = 0
	w.run(10 * time.Second)
	still := w.client.Stats()
	w.run(5 * time.Second)
	if n := w.client.Stats().RepairsSent - still.RepairsSent; n != 0 || w.client.Stats().PacketsSent < still.PacketsSent+1000 {
		t.Errorf("%d repairs long after the last loss", n)
	}
}

// A peer that does not say that it takes repairs gets none, and one that was
// not told so and sends some is faulty.
func TestRepairsOnlyToWhoTakesThem(t *testing.T) {
	r := bottleneck
	r.loss = 100_000
	for _, c := range [][2]Config{{{Without: []uint16{wire.CapRepair}}, {}}, {{}, {Without: []uint16{wire.CapRepair}}}} {
		w := lossyWorld(t, 1, c[0], c[1], r)
		a := newApp(w)
		a.open(3<<20, 3<<20, PriorityNormal)
		a.finish(time.Minute)
		if n := both(w).RepairsSent; n != 0 {
			t.Errorf("%d repairs", n)
		}
	}
	l := newLoop(t, Config{Without: []uint16{wire.CapRepair}}, Config{Without: []uint16{wire.CapRepair}})
	p := make([]byte, wire.SessionPayloadSize)
	wire.AppendRepairHeader(p[:0], 1)
	l.server.accept(l.now, 0, l.server.arrived.largest+1, p)
	if l.server.state != stateClosing || l.counts[trace.DropSessionMalformed] != 1 {
		t.Error("a repair that was not asked for is taken")
	}
}

// What repairs need is given back when the session is quiet.
func TestRepairMemoryIsGivenBack(t *testing.T) {
	r := bottleneck
	r.loss = 100_000
	w := lossyWorld(t, 1, Config{}, Config{}, r)
	a := newApp(w)
	a.open(3<<20, 0, PriorityNormal)
	w.until(time.Minute, a.done)
	if w.client.work.repair.enc == nil || w.server.work.repair.dec == nil {
		t.Fatal("no repairs were needed")
	}
	w.routes[0].loss = 0
	w.run(30 * time.Second)
	if w.client.work != nil || w.server.work != nil {
		t.Error("still busy after 30 s of quiet")
	}
}

// However routes lose, delay and repeat packets while repairs run, every byte of
// a stream arrives once and in order, and a datagram at most once.
func TestModelRepairs(t *testing.T) {
	sent, rebuilt := uint64(0), uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		r := route{
			delay:  time.Duration(rapid.IntRange(5, 60).Draw(t, "delay")) * time.Millisecond,
			jitter: time.Duration(rapid.IntRange(0, 30).Draw(t, "jitter")) * time.Millisecond,
			loss:   uint64(rapid.IntRange(20_000, 250_000).Draw(t, "loss")),
			dup:    uint64(rapid.IntRange(0, 100_000).Draw(t, "dup")),
			rate:   2 << 20, buffer: 100 * time.Millisecond,
		}
		w := lossyWorld(t, rapid.Uint64().Draw(t, "seed"), Config{}, Config{}, r)
		w.routes[1] = r
		w.client.AddPath(w.now, 1)
		a := newApp(w)
		got := map[uint32]bool{}
		event := w.on
		w.on = func(s *Session, e Event) {
			if e.Kind != DatagramReadable {
				event(s, e)
				return
			}
			var b [wire.MaxDatagramSize]byte
			for {
				if _, err := s.ReadDatagram(w.now, e.Stream, b[:]); err != nil {
					return
				}
				n := binary.BigEndian.Uint32(b[:])
				if got[n] {
					t.Fatalf("datagram %d came twice", n)
				}
				got[n] = true
			}
		}
		flow := a.open(0, 1, PriorityNormal)
		a.flows[flow].down = nil
		for i := range 4 {
			a.open(200_000+i*1000, 100_000, Lane(i%3))
		}
		number := uint32(0)
		for range rapid.IntRange(20, 60).Draw(t, "turns") {
			for range rapid.IntRange(0, 30).Draw(t, "datagrams") {
				number++
				b := make([]byte, rapid.IntRange(4, wire.MaxDatagramSize).Draw(t, "size"))
				binary.BigEndian.PutUint32(b, number)
				w.client.SendDatagram(w.now, flow, b)
			}
			w.client.SetActivePath(w.now, uint8(rapid.IntRange(0, 1).Draw(t, "path")))
			w.run(20 * time.Millisecond)
		}
		w.until(2*time.Minute, a.done)
		a.check()
		sent, rebuilt = sent+uint64(number), rebuilt+both(w).Rebuilt
	})
	t.Logf("%d datagrams sent, %d packets rebuilt", sent, rebuilt)
	if rebuilt == 0 {
		t.Error("control: nothing was rebuilt")
	}
}

// What was rebuilt longer ago than is remembered is refused, not taken twice.
func TestForgottenRebuiltPacketsAreRefused(t *testing.T) {
	l := newLoop(t, Config{}, Config{})
	s := l.server
	s.busy().repair.log = &rebuiltLog{}
	s.noteRebuilt(70)
	if s.arrived.seen(70) || !s.wasRebuilt(70) || s.wasRebuilt(71) || s.wasRebuilt(70+64*rebuiltGroups) {
		t.Error("70 should be rebuilt and nothing else")
	}
	s.noteRebuilt(70 + 64*rebuiltGroups)
	if !s.arrived.seen(70) || s.wasRebuilt(70) {
		t.Error("70 is forgotten and would be taken again")
	}
}

func TestRepairsDoNotAllocate(t *testing.T) {
	l := newLoop(t, Config{}, Config{})
	id, _ := l.client.OpenStream(l.now, PriorityNormal)
	src, dst := make([]byte, 32<<10), make([]byte, 32<<10)
	n := 0
	turn := func() {
		for range 300 {
			for _, err := l.client.Write(l.now, id, src); err == nil; _, err = l.client.Write(l.now, id, src) {
			}
			for range 16 {
				if !l.client.PollPacket(l.now, 0, l.b[:]) {
					break
				}
				if n++; n%11 != 0 {
					l.server.HandlePacket(l.now, 0, l.b[:])
				}
			}
			l.now = l.now.Add(20 * time.Millisecond)
			for l.server.PollPacket(l.now, 0, l.b[:]) {
				l.client.HandlePacket(l.now, 0, l.b[:])
			}
			for s := range l.sides {
				if s.NextTimer() <= l.now {
					s.HandleTimer(l.now)
				}
				drain(s)
			}
			for k, err := 1, error(nil); k > 0 && err == nil; {
				k, err = l.server.Read(l.now, id, dst)
			}
		}
	}
	for range 20 {
		turn()
	}
	before := l.server.Stats().Rebuilt
	if a := testing.AllocsPerRun(10, turn); a > 0 {
		t.Errorf("%.1f allocations in 300 turns", a)
	}
	if l.server.Stats().Rebuilt == before {
		t.Error("control: nothing was rebuilt")
	}
}

// FuzzRepair gives a session authentic repairs with any content, as a faulty
// peer would: it goes on or closes.
func FuzzRepair(f *testing.F) {
	f.Add(uint64(1), []byte{1, 2, 3}, uint8(2))
	f.Add(uint64(6), append([]byte{2, 9, 9}, make([]byte, 40)...), uint8(3))
	f.Add(^uint64(0), []byte{0x0e, 1, 0x0f}, uint8(200))
	f.Fuzz(func(t *testing.T, mask uint64, symbol []byte, gap uint8) {
		l := newLoop(t, Config{}, Config{})
		id, _ := l.client.OpenStream(l.now, PriorityNormal)
		l.client.Write(l.now, id, make([]byte, 5000))
		l.exchange()
		for i := range uint64(40) {
			p := make([]byte, wire.SessionPayloadSize)
			copy(p[len(wire.AppendRepairHeader(p[:0], mask>>(i%7))):], symbol)
			if l.server.state == stateOpen {
				l.server.accept(l.now, 0, l.server.arrived.largest+1+uint64(gap), p)
			}
			if i%3 == 0 && l.server.state == stateOpen {
				p[0], p[1] = byte(wire.SFramePing), 0
				clear(p[1:])
				l.server.accept(l.now, 0, l.server.arrived.largest+1, p)
			}
		}
		after(t, l.server)
	})
}

// A packet that comes after it was rebuilt is acknowledged, and nothing in it is
// taken twice.
func TestLatePacketIsNotTakenTwice(t *testing.T) {
	l := newLoop(t, Config{}, Config{})
	id, _ := l.client.OpenStream(l.now, PriorityNormal)
	l.client.Write(l.now, id, []byte("flow"))
	for range 20 {
		l.exchange()
	}
	drain(l.server)
	l.client.track(0).loss = lossMeter{share: shareOne / 10, n: lossFew, on: true}
	l.client.track(0).rtt.smooth = 10 * time.Millisecond
	l.client.SendDatagram(l.now, id, []byte("once"))
	var late [wire.SessionPacketSize]byte
	if !l.client.PollPacket(l.now, 0, late[:]) || !l.client.PollPacket(l.now, 0, l.b[:]) || l.client.Stats().RepairsSent != 1 {
		t.Fatal("no packet, or no repair after it")
	}
	source := l.client.out.next - 2
	l.server.HandlePacket(l.now, 0, l.b[:])
	var b [wire.MaxDatagramSize]byte
	if n, err := l.server.ReadDatagram(l.now, id, b[:]); err != nil || string(b[:n]) != "once" {
		t.Fatalf("rebuilt %q, %v", b[:n], err)
	}
	if l.server.arrived.seen(source) {
		t.Error("acknowledged before it came")
	}
	l.server.HandlePacket(l.now, 0, late[:])
	if n, err := l.server.ReadDatagram(l.now, id, b[:]); err == nil {
		t.Errorf("taken twice: %q", b[:n])
	}
	if !l.server.arrived.seen(source) {
		t.Error("not acknowledged")
	}
}
