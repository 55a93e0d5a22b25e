package stream

import (
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// loop is two sessions back to back without a network: every packet arrives
// at once, the clock moves by step with each packet of the sender.
type loop struct {
	now    machine.Time
	step   time.Duration
	client *Session
	server *Session
	counts trace.Counts
	b      [wire.SessionPacketSize]byte
}

func newLoop(t testing.TB, ccfg, scfg Config) *loop {
	l := &loop{step: 5 * time.Microsecond}
	static := testKey(t)
	var err error
	if l.client, err = Dial(0, ccfg, static.Public(), prng.FromUint64(5), &l.counts); err != nil {
		t.Fatal(err)
	}
	hello := l.client.FirstFlight()
	if l.server, err = NewAcceptor(scfg, prng.FromUint64(6)).Accept(0, scfg.Level, static, hello, &l.counts); err != nil {
		t.Fatal(err)
	}
	l.server.AddPath(0, 0)
	l.client.AddPath(0, 0)
	for l.exchange() {
	}
	if !l.client.Established() || !l.server.confirmed {
		t.Fatal("no session")
	}
	for s := range l.sides {
		for {
			if _, ok := s.PollEvent(); !ok {
				break
			}
		}
	}
	return l
}

func (l *loop) sides(yield func(*Session) bool) { _ = yield(l.client) && yield(l.server) }

// exchange moves packets both ways, at most a burst, and reports whether any
// moved.
func (l *loop) exchange() bool {
	moved := false
	for range 16 {
		if !l.client.PollPacket(l.now, 0, l.b[:]) {
			break
		}
		l.now = l.now.Add(l.step)
		l.server.HandlePacket(l.now, 0, l.b[:])
		moved = true
	}
	for range 16 {
		if !l.server.PollPacket(l.now, 0, l.b[:]) {
			break
		}
		l.now = l.now.Add(l.step)
		l.client.HandlePacket(l.now, 0, l.b[:])
		moved = true
	}
	if !moved {
		next := min(l.client.NextTimer(), l.server.NextTimer())
		if next < l.now.Add(time.Second) {
			l.now = max(l.now, next)
			l.client.HandleTimer(l.now)
			l.server.HandleTimer(l.now)
			return true
		}
	}
	return moved
}

func drain(s *Session) {
	for {
		if _, ok := s.PollEvent(); !ok {
			return
		}
	}
}

// pump moves n bytes from client to server on a stream.
func (l *loop) pump(t testing.TB, id uint64, n int, src, dst []byte) {
	for got := 0; got < n; {
		for {
			if _, err := l.client.Write(l.now, id, src); err != nil {
				break
			}
		}
		l.exchange()
		for {
			k, err := l.server.Read(l.now, id, dst)
			got += k
			if err != nil {
				break
			}
		}
		drain(l.client)
		drain(l.server)
	}
}

func BenchmarkTransfer(b *testing.B) {
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"bbr", Config{}},
		{"cubic", Config{Congestion: congestion.Cubic}},
		{"fixed", Config{Congestion: congestion.Fixed, FixedRate: 1 << 30}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := newLoop(b, c.cfg, c.cfg)
			id, _ := l.client.OpenStream(l.now, PriorityNormal)
			src, dst := make([]byte, 32<<10), make([]byte, 32<<10)
			l.pump(b, id, 32<<20, src, dst)
			const chunk = 1 << 20
			b.SetBytes(chunk)
			b.ReportAllocs()
			for b.Loop() {
				l.pump(b, id, chunk, src, dst)
			}
			st := l.client.Stats()
			b.ReportMetric(float64(st.Lost), "lost")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(chunk/1041), "ns/packet")
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	l := newLoop(b, Config{}, Config{})
	request, answer, buf := make([]byte, 100), make([]byte, 400), make([]byte, 4096)
	b.ReportAllocs()
	before := l.client.Stats().PacketsSent + l.server.Stats().PacketsSent
	for b.Loop() {
		id, err := l.client.OpenStream(l.now, PriorityNormal)
		if err != nil {
			b.Fatal(err)
		}
		l.client.Write(l.now, id, request)
		l.client.CloseWrite(l.now, id)
		for done := false; !done; {
			l.exchange()
			for {
				e, ok := l.server.PollEvent()
				if !ok {
					break
				}
				if e.Kind == Readable {
					for {
						if _, err := l.server.Read(l.now, e.Stream, buf); err != nil {
							if err == io.EOF {
								l.server.Write(l.now, e.Stream, answer)
								l.server.CloseWrite(l.now, e.Stream)
							}
							break
						}
					}
				}
			}
			for {
				e, ok := l.client.PollEvent()
				if !ok {
					break
				}
				if e.Kind == Readable {
					for {
						if _, err := l.client.Read(l.now, e.Stream, buf); err != nil {
							done = done || err == io.EOF
							break
						}
					}
				}
			}
		}
	}
	after := l.client.Stats().PacketsSent + l.server.Stats().PacketsSent
	b.ReportMetric(float64(after-before)/float64(b.N), "packets/op")
}

// BenchmarkIdle reports the memory of one session end that is established and
// quiet, without streams.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		bytes := idleBytes(b, 0)
		b.ReportMetric(float64(bytes), "B/session")
		b.ReportMetric(float64(idleBytes(b, 1)), "B/session-with-stream")
	}
}

func idleBytes(t testing.TB, streams int) uint64 {
	const n = 200
	quiet := Config{HeartbeatInterval: -1}
	keep := make([]*Session, 0, 2*n)
	var before, after runtime.MemStats
	counts := &trace.Counts{}
	static := testKey(t)
	measure := func(m *runtime.MemStats) { runtime.GC(); runtime.GC(); runtime.ReadMemStats(m) }
	acceptor := NewAcceptor(quiet, prng.FromUint64(6))
	measure(&before)
	for i := range n {
		l := &loop{step: time.Microsecond}
		client, err := Dial(0, quiet, static.Public(), prng.FromUint64(uint64(i)), counts)
		if err != nil {
			t.Fatal(err)
		}
		server, err := acceptor.Accept(0, quiet.Level, static, client.FirstFlight(), counts)
		if err != nil {
			t.Fatal(err)
		}
		l.client, l.server = client, server
		server.AddPath(0, 0)
		client.AddPath(0, 0)
		for l.exchange() {
		}
		for range streams {
			id, _ := client.OpenStream(l.now, PriorityNormal)
			client.Write(l.now, id, []byte("hello"))
			for l.exchange() {
			}
			var buf [16]byte
			server.Read(l.now, id, buf[:])
			server.Read(l.now, id, buf[:])
			for l.exchange() {
			}
		}
		for s := range l.sides {
			drain(s)
			for range 50 {
				l.now = l.now.Add(2 * time.Second)
				if s.NextTimer() <= l.now {
					s.HandleTimer(l.now)
				}
				for l.exchange() {
				}
			}
			if s.work != nil {
				t.Fatalf("session still busy: %+v", s.Stats())
			}
			keep = append(keep, s)
		}
	}
	measure(&after)
	runtime.KeepAlive(keep)
	return (after.HeapAlloc - before.HeapAlloc) / (2 * n)
}

func TestTransferDoesNotAllocate(t *testing.T) {
	for _, kind := range []congestion.Kind{congestion.BBR, congestion.Cubic, congestion.Fixed} {
		cfg := Config{Congestion: kind, FixedRate: 1 << 30}
		l := newLoop(t, cfg, cfg)
		id, _ := l.client.OpenStream(l.now, PriorityNormal)
		src, dst := make([]byte, 32<<10), make([]byte, 32<<10)
		l.pump(t, id, 32<<20, src, dst)
		if n := testing.AllocsPerRun(20, func() { l.pump(t, id, 1<<20, src, dst) }); n > 0 {
			t.Errorf("controller %d: %.2f allocations per MiB", kind, n)
		}
	}
}

func TestIdleSessionIsSmall(t *testing.T) {
	if n := idleBytes(t, 0); n > 1300 {
		t.Errorf("an idle session takes %d bytes", n)
	} else {
		t.Logf("idle session: %d bytes, with one open stream %d", n, idleBytes(t, 1))
	}
}
