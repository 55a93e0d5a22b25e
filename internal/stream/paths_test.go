package stream

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// steady sends at 20 MB/s whatever happens, so that the model of a route needs
// no bandwidth.
var steady = Config{Congestion: congestion.Fixed, FixedRate: 20 << 20}

// twoPaths is a world with a second path, known to both sides under different
// numbers.
func twoPaths(t testing.TB, seed uint64, cfg Config) *world {
	w := established(t, seed, cfg, cfg)
	w.shift = [MaxPaths]uint8{0, 3, 1, 2, 4, 5}
	w.client.AddPath(w.now, 1)
	w.run(200 * time.Millisecond)
	if !w.server.paths[3].present {
		t.Fatal("the responder has not learnt of the second path")
	}
	return w
}

// The active path falls silent in the middle of a transfer, in each direction
// and in both; the transfer goes on over the other path in less than a second,
// nothing is lost and nothing is delivered twice.
func TestFailOverInTheMiddleOfATransfer(t *testing.T) {
	for _, c := range []struct {
		name     string
		up, down int
		delay    time.Duration
	}{
		{"upload", 4 << 20, 10, time.Millisecond},
		{"download", 10, 4 << 20, time.Millisecond},
		{"both", 4 << 20, 4 << 20, time.Millisecond},
		{"both, slow", 2 << 20, 2 << 20, 30 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(5) {
				w := twoPaths(t, seed, steady)
				w.routes[0].delay, w.routes[1].delay = c.delay, c.delay
				a := newApp(w)
				id := a.open(c.up, c.down, PriorityNormal)
				f := a.flows[id]
				moved := func() int { return f.upGot.Len() + f.downGot.Len() }
				w.until(10*time.Second, func() bool { return moved() > (c.up+c.down)/4 })
				w.routes[0].down = true
				w.on = func(s *Session, e Event) {
					dead := uint8(0)
					if e.Kind == PathChanged && s.flying(dead) != 0 {
						t.Errorf("%d packets still waited for on the dead path", s.flying(dead))
					}
					a.event(s, e)
				}
				begin := w.now
				for w.now.Sub(begin) < 20*time.Millisecond { // what was on its way
					w.step(begin.Add(20 * time.Millisecond))
				}
				stopped := moved()
				w.until(2*time.Second, func() bool { return moved() > stopped+10_000 })
				if stall := w.now.Sub(begin); stall >= time.Second {
					t.Errorf("seed %d: stalled for %v", seed, stall)
				}
				a.finish(30 * time.Second)
				if w.client.ActivePath() != 1 || w.server.ActivePath() != 3 {
					t.Errorf("seed %d: paths %d and %d", seed, w.client.ActivePath(), w.server.ActivePath())
				}
				if a.seen[PathSuspect] == 0 || a.seen[PathChanged] < 2 {
					t.Errorf("seed %d: %d suspects, %d changes told", seed, a.seen[PathSuspect], a.seen[PathChanged])
				}
			}
		})
	}
}

// Control: with one path only the same silence stops the transfer, the path is
// reported, and a path added then carries on.
func TestSilentPathIsReportedAndReplaced(t *testing.T) {
	w := established(t, 1, steady, steady)
	a := newApp(w)
	a.open(1<<20, 1<<20, PriorityNormal)
	w.run(40 * time.Millisecond)
	w.routes[0].down = true
	w.run(3 * time.Second)
	if a.done() || a.seen[PathSuspect] == 0 {
		t.Fatalf("done %v, %d suspects", a.done(), a.seen[PathSuspect])
	}
	w.client.AddPath(w.now, 2)
	w.client.RemovePath(w.now, 0)
	a.finish(10 * time.Second)
	if w.client.ActivePath() != 2 || w.server.ActivePath() != 2 {
		t.Errorf("paths %d and %d", w.client.ActivePath(), w.server.ActivePath())
	}
}

func TestPlannedMoveLosesNothing(t *testing.T) {
	w := twoPaths(t, 1, steady)
	a := newApp(w)
	a.open(4<<20, 4<<20, PriorityNormal)
	for i := range 6 {
		w.run(100 * time.Millisecond)
		w.client.SetActivePath(w.now, uint8(i&1)^1)
	}
	a.finish(20 * time.Second)
	if lost := w.client.Stats().Lost + w.server.Stats().Lost; lost > 0 {
		t.Errorf("%d packets taken for lost", lost)
	}
}

func TestRemovedPathAndNoneLeft(t *testing.T) {
	w := twoPaths(t, 1, steady)
	a := newApp(w)
	a.open(2<<20, 2<<20, PriorityNormal)
	w.run(50 * time.Millisecond)
	w.client.RemovePath(w.now, 0)
	w.client.RemovePath(w.now, 0)
	if w.client.ActivePath() != 1 {
		t.Fatalf("active path %d", w.client.ActivePath())
	}
	w.run(50 * time.Millisecond)
	w.client.RemovePath(w.now, 1)
	if w.client.ActivePath() != MaxPaths {
		t.Fatalf("active path %d", w.client.ActivePath())
	}
	w.run(time.Second)
	w.client.AddPath(w.now, 4)
	a.finish(20 * time.Second)
}

func TestServerFailsOverWithoutTheClientSending(t *testing.T) {
	w := twoPaths(t, 1, steady)
	a := newApp(w)
	a.answers = true
	id := a.open(10, 8<<20, PriorityNormal)
	w.until(5*time.Second, func() bool { return a.flows[id].downGot.Len() > 1<<20 })
	w.routes[0].down = true
	begin := w.now
	got := a.flows[id].downGot.Len()
	w.until(time.Second, func() bool { return a.flows[id].downGot.Len() > got+200_000 })
	t.Logf("stall %v", w.now.Sub(begin))
	a.finish(20 * time.Second)
}

func TestPathFrameOfThePastIsIgnored(t *testing.T) {
	w := twoPaths(t, 1, steady)
	w.server.handlePath(w.now, 3, 5)
	w.server.handlePath(w.now, 0, 4)
	w.server.handlePath(w.now, noPath, 9)
	if w.server.ActivePath() != 3 {
		t.Errorf("active path %d", w.server.ActivePath())
	}
}

func TestCloseIsToldOnceWithCodeAndReason(t *testing.T) {
	for _, loss := range []uint64{0, 300_000} {
		w := established(t, 3, Config{}, Config{})
		w.routes[0].loss = loss
		a := newApp(w)
		id := a.open(100, 100, PriorityNormal)
		w.run(time.Second)
		for range 3 {
			w.client.Close(w.now, 0x41, "enough \xff")
		}
		if _, err := w.client.Write(w.now, id, []byte("x")); err == nil {
			t.Error("Write after Close")
		}
		w.run(10 * time.Second)
		w.client.Close(w.now, 0x42, "again")
		w.server.Close(w.now, 0x43, "again")
		w.run(time.Second)
		for _, s := range []*Session{w.client, w.server} {
			if e, ok := a.closed[s]; !ok || e.Code != 0x41 || !s.Drained() || s.NextTimer() != (1<<63-1) {
				t.Errorf("loss %d: closed %v with %#x, drained %v", loss, ok, e.Code, s.Drained())
			}
			if s.out.key != (sealing{}).key || s.in.key != (sealing{}).key {
				t.Error("keys were not overwritten")
			}
		}
		if c := w.server.closing; c.reason != "enough " {
			t.Errorf("reason %q", c.reason)
		}
	}
}

func TestBothCloseAtOnce(t *testing.T) {
	w := established(t, 3, Config{}, Config{})
	a := newApp(w)
	w.client.Close(w.now, 1, "")
	w.server.Close(w.now, 2, "")
	w.run(2 * time.Second)
	if len(a.closed) != 2 || a.seen[Closed] != 2 {
		t.Errorf("%d sides closed, told %d times", len(a.closed), a.seen[Closed])
	}
}

func TestIdleTimeout(t *testing.T) {
	cfg := Config{IdleTimeout: 30 * time.Second}
	w := established(t, 3, cfg, cfg)
	a := newApp(w)
	a.open(100, 100, PriorityNormal)
	a.finish(time.Second)
	w.run(29*time.Second - 6*time.Second)
	if len(a.closed) != 0 {
		t.Fatal("closed too early")
	}
	w.run(5 * time.Second)
	for _, s := range []*Session{w.client, w.server} {
		if a.closed[s].Code != uint64(wire.CodeIdle) {
			t.Errorf("closed with %#x", a.closed[s].Code)
		}
	}
}

// An open stream keeps a session, by heartbeats, longer than the idle timeout;
// a peer that vanishes is found out.
func TestHeartbeatsKeepASessionAndFindAVanishedPeer(t *testing.T) {
	cfg := Config{IdleTimeout: 30 * time.Second, HeartbeatInterval: 10 * time.Second, VanishTimeout: 15 * time.Second}
	w := established(t, 3, cfg, cfg)
	a := newApp(w)
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	a.flows[id] = &flow{}
	w.client.Write(w.now, id, []byte("stay"))
	w.run(2 * time.Minute)
	st := w.client.Stats()
	if len(a.closed) != 0 || st.Heartbeats < 5 || w.server.Stats().HeartbeatsReceived < 5 {
		t.Fatalf("%d closed, %d heartbeats", len(a.closed), st.Heartbeats)
	}
	w.routes[0].down = true
	w.run(time.Minute)
	for _, s := range []*Session{w.client, w.server} {
		if a.closed[s].Code != uint64(wire.CodeVanished) {
			t.Errorf("closed with %#x", a.closed[s].Code)
		}
	}
}

// What came by a path before it fell silent is not sent again by another: whoever is
// heard there first says what came. Control: who does not wait for that sends it.
func TestNothingIsSentTwiceByAFailOver(t *testing.T) {
	twice := func(cfg Config) (frames uint64) {
		for seed := range uint64(8) {
			w := severalPaths(t, seed, cfg, 2)
			w.routes[0].delay, w.routes[0].jitter, w.routes[1].delay = 30*time.Millisecond, 2*time.Millisecond, 40*time.Millisecond
			w.bottleneck(0, 1_000_000)
			w.bottleneck(1, 1_000_000)
			a := newApp(w)
			a.open(10, 4<<20, PriorityNormal)
			a.open(1<<20, 10, PriorityNormal)
			w.run(time.Second + time.Duration(seed)*17*time.Millisecond)
			w.routes[w.client.ActivePath()].down = true
			before := w.ccounts[trace.LaneDuplicate] + w.scounts[trace.LaneDuplicate]
			a.finish(30 * time.Second)
			frames += w.ccounts[trace.LaneDuplicate] + w.scounts[trace.LaneDuplicate] - before
		}
		return frames
	}
	n, hasty := twice(Config{}), twice(Config{HastyFailOver: true})
	t.Logf("%d frames were sent twice; %d without waiting", n, hasty)
	if n > 40 || hasty < 100 { // of 40,000
		t.Errorf("%d frames were sent twice; %d without waiting", n, hasty)
	}
}

// The peer owes an answer to a question that went with its path, and to nothing
// else. It is asked by another path: a session whose peer lives does not end.
func TestAQuestionThatWentWithItsPathIsAskedAgain(t *testing.T) {
	cfg := Config{HeartbeatInterval: time.Hour, VanishTimeout: 15 * time.Second}
	w := twoPaths(t, 3, cfg)
	a := newApp(w)
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	a.flows[id] = &flow{}
	w.client.Write(w.now, id, []byte("stay"))
	w.run(time.Second)
	w.routes[1].down = true
	w.server.AskPaths()
	w.run(time.Millisecond)
	if w.server.flying(w.shift[1]) == 0 {
		t.Fatal("nothing was asked")
	}
	w.run(30 * time.Millisecond) // the other path has answered
	w.server.RemovePath(w.now, w.shift[1])
	w.run(time.Minute)
	if len(a.closed) != 0 {
		t.Errorf("the session ended with %#x", a.closed[w.server].Code)
	}
}

// Heartbeats ride with data, neither waiting for it nor taking its packets:
// a transfer with heartbeats in 40 % of its packets takes no longer.
func TestHeartbeatsDoNotPressData(t *testing.T) {
	took := func(beats bool) (time.Duration, uint64, uint64) {
		w := established(t, 3, Config{}, Config{})
		a := newApp(w)
		begin := w.now
		a.open(2<<20, 10, PriorityNormal)
		packets := w.client.Stats().PacketsSent
		next := packets
		w.until(10*time.Second, func() bool {
			if sent := w.client.Stats().PacketsSent; beats && sent >= next {
				w.client.SendHeartbeat(w.now)
				next = sent + 2
			}
			return a.done()
		})
		d := w.now.Sub(begin)
		a.check()
		return d, w.client.Stats().PacketsSent - packets, w.server.Stats().HeartbeatsReceived
	}
	alone, packets, _ := took(false)
	with, more, beats := took(true)
	if beats < 80 || more > packets*105/100 || with > alone*105/100 {
		t.Errorf("alone %v in %d packets; with %d heartbeats %v in %d", alone, packets, beats, with, more)
	}
}

// However many heartbeats there are, and however slow the route, they take a
// small share of its packets while data waits.
func TestHeartbeatsHaveASmallShare(t *testing.T) {
	cfg := Config{Congestion: congestion.Fixed, FixedRate: 64 << 10}
	w := established(t, 3, cfg, cfg)
	a := newApp(w)
	id := a.open(4<<20, 0, PriorityNormal)
	w.run(time.Second)
	packets, bytes := w.client.Stats().PacketsSent, w.client.Stats().BytesSent
	for range 10_000 {
		w.client.SendHeartbeat(w.now)
		w.run(time.Millisecond)
	}
	packets, bytes = w.client.Stats().PacketsSent-packets, w.client.Stats().BytesSent-bytes
	if most := bytes * 105 / 100 / 1040; packets > most {
		t.Errorf("%d packets for %d bytes of data", packets, bytes)
	}
	if a.flows[id].upGot.Len() == 0 || w.server.Stats().HeartbeatsReceived < 100 {
		t.Errorf("%d heartbeats came", w.server.Stats().HeartbeatsReceived)
	}
}

// A heartbeat leaves soon although the congestion window is full.
func TestHeartbeatHasItsOwnQueue(t *testing.T) {
	w := established(t, 3, Config{}, Config{})
	a := newApp(w)
	a.open(4<<20, 0, PriorityNormal)
	w.routes[0].delay = time.Second
	w.poll()
	if w.client.maySend(w.now, 0) {
		t.Fatal("the window is not full")
	}
	w.client.SendHeartbeat(w.now)
	var b [wire.SessionPacketSize]byte
	if w.client.PollPacket(w.now, 0, b[:]) {
		t.Error("the heartbeat does not wait for data")
	}
	w.now = w.client.NextTimer()
	w.client.HandleTimer(w.now)
	if !w.client.PollPacket(w.now, 0, b[:]) || w.client.Stats().Heartbeats != 1 {
		t.Error("the heartbeat waits behind data")
	}
}

func TestClassAndDropsAreTold(t *testing.T) {
	w := established(t, 3, Config{}, Config{})
	w.routes[0].loss = 300_000
	var class uint64
	w.on = func(s *Session, e Event) {
		if e.Kind == ClassChanged {
			class = e.Code
		}
	}
	w.client.SendClass(w.now, 50)
	w.run(20 * time.Millisecond)
	w.client.SendClass(w.now, 200)
	w.run(5 * time.Second)
	if class != 200 {
		t.Errorf("class %d", class)
	}
	w.routes[0].loss = 0
	w.client.NoteDrops(w.now, 1, 7)
	w.client.NoteDrops(w.now, 1, 3)
	w.run(time.Second)
	if n := w.server.Stats().NacksReceived; n != 10 {
		t.Errorf("%d drops told", n)
	}
}

func TestTraceEventsAreEmitted(t *testing.T) {
	var seen [trace.NumKinds]int
	cfg := Config{Sink: func(e trace.Event) { seen[e.Kind]++ }}
	w := established(t, 3, cfg, cfg)
	a := newApp(w)
	a.open(100, 100, PriorityNormal)
	a.finish(time.Second)
	w.client.Close(w.now, 0, "")
	w.run(time.Second)
	for _, k := range []trace.Kind{trace.SessionUp, trace.SessionDown, trace.StreamUp, trace.StreamDown} {
		if seen[k] != 2 {
			t.Errorf("%v: %d events", k, seen[k])
		}
	}
}

// All routes take longer than a silence may last by what was known of them. What arrives
// of a path that was left shows how long it takes: a session that moved a second time
// without an answer waits for that, instead of moving to and fro for ever.
func TestAnAnswerThatCameLateIsHeeded(t *testing.T) {
	for _, delay := range []time.Duration{200 * time.Millisecond, 700 * time.Millisecond} {
		w := severalPaths(t, 1, Config{}, 2)
		a := newApp(w)
		a.open(10, 64<<20, PriorityNormal)
		w.bottleneck(0, 4_000_000)
		w.bottleneck(1, 4_000_000)
		w.run(time.Second)
		w.routes[0].delay, w.routes[1].delay = delay, delay
		before := a.seen[PathChanged]
		w.run(10 * time.Second)
		if moves := a.seen[PathChanged] - before; moves > 6 {
			t.Errorf("%v one way: %d moves of both sides in 10 s", delay, moves)
		}
	}
}
