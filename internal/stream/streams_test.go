package stream

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/wire"
)

// A reader that does not read stops the writer at the stream's window, a second
// stream still moves, and all of them stop where the session may hold no more
// unread. What begins then still gets its first bytes through.
func TestFlowControlHoldsAtBothLevels(t *testing.T) {
	const most = 2 << 20
	w := established(t, 1, Config{}, Config{SessionWindowMax: most})
	a := newApp(w)
	a.lag = func(s *Session) bool { return s == w.server }
	first := a.open(3<<20, 10, PriorityNormal)
	w.run(2 * time.Second)
	st := w.server.streams.get(first)
	if got := st.in.have; got != firstStreamWindow {
		t.Errorf("%d bytes arrived unread, window %d", got, firstStreamWindow)
	}
	for range 11 {
		a.open(1<<20, 10, PriorityNormal)
	}
	w.run(2 * time.Second)
	if got := w.server.recv.used; got != most-creditReserve {
		t.Errorf("%d bytes arrived unread on all streams, at most %d may but %d for what begins", got, most, creditReserve)
	}
	if st := w.client.Stats(); st.Backlog == 0 || w.client.send.buffered > sendBufferTotal {
		t.Errorf("backlog %d, buffered %d", st.Backlog, w.client.send.buffered)
	}
	young := a.open(1<<20, 10, PriorityNormal)
	w.run(2 * time.Second)
	if st := w.server.streams.get(young); st == nil || st.in.have != creditFirst {
		t.Error("the first bytes of a stream wait for those that nobody reads")
	}
	a.lag = nil
	for _, id := range a.ids {
		a.read(w.server, id)
	}
	a.finish(30 * time.Second)
}

// Streams that nobody reads any more do not hold up one that is read. It has the
// window that a long route needs, and its first one where they hold too much for
// that; those of them that had a fast reader have great windows.
func TestUnreadStreamsHoldUpNoOther(t *testing.T) {
	const size = 4 << 20
	took := func(unread, readFirst int) time.Duration {
		w := established(t, 1, Config{Congestion: congestion.Fixed, FixedRate: 12_500_000}, Config{})
		w.routes[0].delay = 50 * time.Millisecond
		a := newApp(w)
		a.lag = func(s *Session) bool { return s == w.server }
		for range unread {
			id := a.open(readFirst+4<<20, 10, PriorityNormal)
			for begin := w.now; a.flows[id].upGot.Len() < readFirst && w.now.Sub(begin) < 10*time.Second; {
				w.run(10 * time.Millisecond)
				a.read(w.server, id)
			}
		}
		w.run(5 * time.Second)
		a.lag = nil
		begin, id := w.now, a.open(size, 10, PriorityNormal)
		w.until(time.Minute, func() bool { return a.flows[id].upGot.Len() == size })
		return w.now.Sub(begin)
	}
	alone := took(0, 0)
	for _, c := range []struct {
		unread, readFirst int
		slower            time.Duration
	}{{40, 0, 2}, {2, 4 << 20, 2}, {100, 0, 6}, {24, 2 << 20, 6}} {
		beside := took(c.unread, c.readFirst)
		t.Logf("%d bytes alone in %v, beside %d unread streams in %v", size, alone, c.unread, beside)
		if beside > c.slower*alone {
			t.Errorf("beside %d streams that nobody reads after %d bytes, %d bytes took %v, alone %v", c.unread, c.readFirst, size, beside, alone)
		}
	}
}

// Without enforcement a sender that ignores the window would fill memory: the
// receiver closes with CodeFlow.
func TestWindowsAreEnforced(t *testing.T) {
	for _, level := range []string{"stream", "session"} {
		w := established(t, 1, Config{}, Config{SessionWindowMax: firstSessionWindow})
		a := newApp(w)
		a.lag = func(s *Session) bool { return s == w.server }
		w.client.send.max = wire.MaxVarint
		if level == "stream" {
			w.client.send.streamWindow = wire.MaxVarint
			a.open(600<<10, 0, PriorityNormal)
		} else {
			for range 6 {
				a.open(firstStreamWindow, 0, PriorityNormal)
			}
		}
		w.run(3 * time.Second)
		if e := a.closed[w.client]; e.Code != uint64(wire.CodeFlow) {
			t.Errorf("%s: closed with %#x", level, e.Code)
		}
	}
}

// On a long fat route the window grows with the reader; with a slow reader it
// shrinks to what the reader takes, not below 64 KiB.
func TestWindowFollowsTheReader(t *testing.T) {
	cfg := Config{Congestion: congestion.Fixed, FixedRate: 12_500_000}
	w := established(t, 1, cfg, cfg)
	w.routes[0].delay = 50 * time.Millisecond
	a := newApp(w)
	id := a.open(30<<20, 10, PriorityNormal)
	w.until(20*time.Second, func() bool { return a.flows[id].upGot.Len() > 20<<20 })
	grown := w.server.streams.get(id).in.win.size
	if grown < 1_250_000 || grown > 16<<20 {
		t.Errorf("window %d at 12.5 MB/s and 100 ms", grown)
	}
	due, buf := w.now, make([]byte, 2000)
	a.lag = func(s *Session) bool { return s == w.server }
	for range 5000 { // 200 kB/s
		due = due.Add(10 * time.Millisecond)
		w.until(time.Second, func() bool { return w.now >= due || !w.step(due) })
		n, _ := w.server.Read(w.now, id, buf)
		a.flows[id].upGot.Write(buf[:n])
	}
	w.run(time.Second)
	if shrunk := w.server.streams.get(id).in.win.size; shrunk > 256<<10 || shrunk < windowMin {
		t.Errorf("window %d of %d for a reader of 200 kB/s", shrunk, grown)
	}
	a.lag = nil
	a.read(w.server, id)
	a.finish(time.Minute)
}

func TestHalfCloseKeepsTheOtherDirection(t *testing.T) {
	w := established(t, 1, Config{}, Config{})
	a := newApp(w)
	a.answers = true
	id := a.open(100, 200_000, PriorityNormal)
	w.until(time.Second, func() bool { return a.flows[id].upEnd })
	if _, err := w.client.Write(w.now, id, []byte("more")); !errors.Is(err, ErrWriteClosed) {
		t.Errorf("Write after CloseWrite: %v", err)
	}
	a.finish(5 * time.Second)
}

func TestDataAndEndLeaveInOnePacket(t *testing.T) {
	w := established(t, 1, Config{}, Config{})
	a := newApp(w)
	a.answers = true
	w.run(time.Second)
	before := w.client.Stats().PacketsSent
	id := a.open(900, 900, PriorityNormal)
	w.until(time.Second, func() bool { return a.flows[id].downEnd })
	w.run(time.Millisecond) // less than the delay of the last acknowledgement
	if n := w.client.Stats().PacketsSent - before; n != 1 {
		t.Errorf("a request of one packet took %d", n)
	}
	a.finish(time.Second)
}

func TestResetAndStop(t *testing.T) {
	w := established(t, 2, Config{}, Config{})
	w.routes[0].loss = 100_000
	a := newApp(w)
	// The writer resets: the reader gets the code.
	id := a.open(1<<20, 10, PriorityNormal)
	w.run(50 * time.Millisecond)
	if err := w.client.Reset(w.now, id, 77); err != nil {
		t.Fatal(err)
	}
	f := a.flows[id]
	w.until(5*time.Second, func() bool { return f.upErr != nil && f.downEnd })
	var reset *ResetError
	if !errors.As(f.upErr, &reset) || reset.Code != 77 || reset.Error() == "" {
		t.Errorf("reader got %v", f.upErr)
	}
	// The reader stops: the writer gets the code.
	id = a.open(1<<20, 10, PriorityNormal)
	w.run(50 * time.Millisecond)
	if err := w.server.StopReading(w.now, id, 88); err != nil {
		t.Fatal(err)
	}
	f = a.flows[id]
	w.until(5*time.Second, func() bool {
		a.pushUp(id)
		return f.upErr != nil && f.downEnd
	})
	if !errors.As(f.upErr, &reset) || reset.Code != 88 {
		t.Errorf("writer got %v", f.upErr)
	}
	// Both ends abort both directions at once.
	id = a.open(1<<20, 1<<20, PriorityNormal)
	w.run(50 * time.Millisecond)
	for _, s := range []*Session{w.client, w.server} {
		s.Reset(w.now, id, 1)
		s.StopReading(w.now, id, 1)
		s.Reset(w.now, id, 2)
		s.StopReading(w.now, id, 2)
	}
	w.run(10 * time.Second)
	for _, s := range []*Session{w.client, w.server} {
		if st := s.Stats(); st.Streams != 0 || s.send.buffered != 0 || st.Backlog != 0 {
			t.Errorf("%d streams, %d buffered, %d backlog after the aborts", st.Streams, s.send.buffered, st.Backlog)
		}
		if s.recv.used != s.recv.win.eaten {
			t.Errorf("session window: %d arrived, %d credited", s.recv.used, s.recv.win.eaten)
		}
	}
}

func TestStreamLimit(t *testing.T) {
	w := established(t, 2, Config{MaxStreams: 64}, Config{MaxStreams: 32})
	a := newApp(w)
	for range 64 {
		a.open(200, 200, PriorityNormal)
	}
	if _, err := w.client.OpenStream(w.now, PriorityNormal); !errors.Is(err, ErrStreamLimit) {
		t.Errorf("stream 65 of 64: %v", err)
	}
	most := 0
	w.until(10*time.Second, func() bool { most = max(most, w.server.Stats().Streams); return a.done() })
	if most > 32 {
		t.Errorf("%d streams at once, limit 32", most)
	}
	for range 1000 { // the limit moves on as streams end
		a.open(10, 10, PriorityNormal)
		w.until(5*time.Second, a.done)
		w.run(30 * time.Millisecond)
	}
	a.finish(5 * time.Second)
}

func TestStreamLimitIsEnforced(t *testing.T) {
	w := established(t, 2, Config{}, Config{MaxStreams: 32})
	a := newApp(w)
	w.client.send.maxStreams = 1000
	for range 40 {
		a.open(10, 10, PriorityNormal)
	}
	w.run(time.Second)
	if e := a.closed[w.client]; e.Code != uint64(wire.CodeStreams) {
		t.Errorf("closed with %#x", e.Code)
	}
}

func TestPrioritiesShareTheRoute(t *testing.T) {
	cfg := Config{Congestion: congestion.Fixed, FixedRate: 2 << 20}
	w := established(t, 2, cfg, cfg)
	a := newApp(w)
	low, normal, high := a.open(8<<20, 0, PriorityLow), a.open(8<<20, 0, PriorityNormal), a.open(8<<20, 0, PriorityHigh)
	second := a.open(8<<20, 0, PriorityNormal)
	w.run(3 * time.Second)
	got := func(id uint64) float64 { return float64(a.flows[id].upGot.Len()) }
	if r := got(high) / (got(normal) + got(second)); r < 1.6 || r > 2.4 {
		t.Errorf("high to normal %.2f, want 2", r)
	}
	if r := (got(normal) + got(second)) / got(low); r < 3.2 || r > 4.8 {
		t.Errorf("normal to low %.2f, want 4", r)
	}
	if r := got(normal) / got(second); r < 0.9 || r > 1.1 {
		t.Errorf("two equal streams share %.2f to 1", r)
	}
}

func TestUnknownStreams(t *testing.T) {
	w := established(t, 2, Config{}, Config{})
	for _, err := range []error{
		w.client.CloseWrite(w.now, 8), w.client.Reset(w.now, 8, 1), w.client.StopReading(w.now, 8, 1), w.client.SendDatagram(w.now, 8, nil),
	} {
		if !errors.Is(err, ErrStreamUnknown) {
			t.Errorf("call on a stream that is not: %v", err)
		}
	}
	if _, err := w.client.Read(w.now, 8, nil); !errors.Is(err, ErrStreamUnknown) {
		t.Errorf("Read: %v", err)
	}
}

func TestServerOpensStreamsToo(t *testing.T) {
	w := established(t, 2, Config{}, Config{})
	id, err := w.server.OpenStream(w.now, PriorityHigh)
	if err != nil || id&1 != 1 {
		t.Fatalf("stream %d, %v", id, err)
	}
	data := pattern(100_000, 1)
	var got bytes.Buffer
	sent, done := 0, false
	w.on = func(s *Session, e Event) {
		if s == w.client && e.Kind == Readable && e.Stream == id {
			done = readAll(s, w.now, id, &got) == io.EOF
		}
	}
	w.until(5*time.Second, func() bool {
		n, _ := w.server.Write(w.now, id, data[sent:])
		if sent += n; sent == len(data) {
			w.server.CloseWrite(w.now, id)
		}
		return done
	})
	if !bytes.Equal(got.Bytes(), data) {
		t.Error("bytes differ")
	}
}

func TestDatagrams(t *testing.T) {
	w := established(t, 2, Config{}, Config{})
	w.routes[0].loss = 100_000
	w.routes[0].jitter = 5 * time.Millisecond
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	got := map[string]int{}
	w.on = func(s *Session, e Event) {
		for s == w.server && e.Kind == DatagramReadable {
			var b [wire.MaxDatagramSize]byte
			n, err := s.ReadDatagram(w.now, e.Stream, b[:])
			if err != nil {
				return
			}
			if e.Stream != id {
				t.Errorf("flow %d", e.Stream)
			}
			got[string(b[:n])]++
		}
	}
	const n = 500
	for i := range n {
		if err := w.client.SendDatagram(w.now, id, pattern(i*2, uint64(i))); err != nil {
			t.Fatal(err)
		}
		w.run(2 * time.Millisecond)
	}
	w.run(time.Second)
	arrived := 0
	for i := range n {
		c := got[string(pattern(i*2, uint64(i)))]
		if c > 1 {
			t.Errorf("datagram %d came %d times", i, c)
		}
		arrived += c
	}
	if arrived < n*8/10 || arrived == n || arrived != len(got) {
		t.Errorf("%d of %d datagrams through 10 %% loss, %d different", arrived, n, len(got))
	}
	if err := w.client.SendDatagram(w.now, id, make([]byte, wire.MaxDatagramSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	for range 2000 {
		w.client.SendDatagram(w.now, id, make([]byte, 1000))
	}
	if st := w.client.Stats(); st.DatagramsDropped == 0 || st.Backlog > mailMax {
		t.Errorf("dropped %d, backlog %d", st.DatagramsDropped, st.Backlog)
	}
}

// heldBack runs a writer, and a reader that after a second in which it read
// everything takes only reads bytes a second, or none. It returns how long after
// a window of the peer's was used up Write found no room, how much then waited
// here, and how much at the peer.
func heldBack(t *testing.T, writes, reads int) (after time.Duration, here, there uint64) {
	cfg := Config{Congestion: congestion.Fixed, FixedRate: 8 << 20}
	w := established(t, 3, cfg, cfg)
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	st := w.client.streams.get(id)
	const tick = time.Millisecond
	chunk, buf := make([]byte, max(1, writes/1000)), make([]byte, 1<<20)
	usedUp := machine.Time(0)
	for begin := w.now; w.now.Sub(begin) < 30*time.Second; w.run(tick) {
		slow := w.now.Sub(begin) > time.Second
		if slow && reads == 0 {
			buf = buf[:0]
		} else if slow {
			buf = buf[:max(1, reads/1000)]
		}
		if len(buf) > 0 {
			w.server.Read(w.now, id, buf)
		}
		if slow && usedUp == 0 && (st.out.next >= st.out.limit || st.list == listBlocked) {
			usedUp = w.now
		}
		for left := chunk; len(left) > 0; {
			n, err := w.client.Write(w.now, id, left)
			if left = left[n:]; err == nil {
				continue
			}
			if !errors.Is(err, ErrWouldBlock) {
				t.Fatal(err)
			}
			if usedUp > 0 {
				in := &w.server.streams.get(id).in
				return w.now.Sub(usedUp), st.out.end - st.out.next, in.have - in.read
			}
			break
		}
	}
	t.Fatalf("a writer of %d bytes a second was not held back by a reader of %d", writes, reads)
	return 0, 0, 0
}

// A reader that is slow, or stops, holds the writer back: what waits is the
// window that the peer gave, and beyond it no more than the reader last took.
func TestASlowReaderHoldsTheWriterBack(t *testing.T) {
	for _, c := range []struct{ writes, reads int }{{400 << 10, 100 << 10}, {400 << 10, 0}, {1 << 20, 200 << 10}, {4 << 20, 0}} {
		after, here, there := heldBack(t, c.writes, c.reads)
		t.Logf("writes %d KiB/s, reads %d KiB/s: held back %v after the window was used up, %d KiB wait here, %d KiB there",
			c.writes>>10, c.reads>>10, after, here>>10, there>>10)
		if after > 50*time.Millisecond {
			t.Errorf("writes %d, reads %d: held back %v after the window was used up, want 50 ms", c.writes, c.reads, after)
		}
	}
}

// A window that a slow reader has shrunk leaves less room than a writer was once
// woken for. A writer that waits for Writable, as every machine does, must not
// wait for ever.
func TestAWriterIsWokenWhateverTheWindow(t *testing.T) {
	for _, chunk := range []int{500, 5_000, 20_000, 40_000} {
		w := established(t, 3, Config{}, Config{})
		id, _ := w.client.OpenStream(w.now, PriorityNormal)
		b := make([]byte, 64<<10)
		write := func() {
			for {
				if _, err := w.client.Write(w.now, id, b); err != nil {
					return
				}
			}
		}
		w.on = func(s *Session, e Event) {
			if s == w.client && e.Kind == Writable {
				write()
			}
		}
		write()
		const ticks = 2000
		got, late, buf := 0, 0, make([]byte, chunk)
		for range ticks {
			w.run(5 * time.Millisecond)
			n, _ := w.server.Read(w.now, id, buf)
			if got += n; n < chunk {
				late++
			}
		}
		win := w.server.streams.get(id).in.win.size
		t.Logf("reads of %d bytes: %d ticks of %d without enough, window %d KiB", chunk, late, ticks, win>>10)
		if late > ticks/10 {
			t.Errorf("reads of %d bytes: nothing came in %d of %d ticks; the writer was not woken", chunk, late, ticks)
		}
	}
}
