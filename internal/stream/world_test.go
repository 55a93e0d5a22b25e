package stream

import (
	"bytes"
	"container/heap"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// world is a client and a responder joined by up to MaxPaths simulated routes,
// on virtual time in one goroutine.
type world struct {
	t        tb
	now      machine.Time
	rng      *prng.Stream
	static   *seal.KEMPrivate
	acceptor *Acceptor
	ccfg     Config
	scfg     Config
	client   *Session
	server   *Session
	ccounts  trace.Counts
	scounts  trace.Counts
	hello    Assembly
	flight   flight
	seq      uint64
	routes   [MaxPaths]route
	// rewrite may change, drop (nil) or observe each packet on its way.
	rewrite func(fromClient bool, path uint8, b []byte) []byte
	// on takes the events of both sides; nil ignores them.
	on      func(side *Session, e Event)
	packets int
	shift   [MaxPaths]uint8 // server's path id of a client's
	hold    bool            // packets leave in slots (slotted), not by themselves
}

// route is the model of one path.
type route struct {
	delay   time.Duration
	jitter  time.Duration // mean of an exponential
	loss    uint64        // per million
	dup     uint64
	down    bool
	fifo    [2]machine.Time
	inOrder bool
	rate    int64           // bytes per second of a bottleneck; 0: none
	buffer  time.Duration   // queue before it
	free    [2]machine.Time // when the bottleneck has passed what it holds
	full    int             // packets for which the queue had no room
	line    *route          // whose bottleneck it is, if several routes share one
}

type letter struct {
	at       machine.Time
	seq      uint64
	toServer bool
	path     uint8
	b        []byte
}

type flight []letter

func (f flight) Len() int { return len(f) }
func (f flight) Less(i, j int) bool {
	return f[i].at < f[j].at || f[i].at == f[j].at && f[i].seq < f[j].seq
}
func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flight) Push(x any)   { *f = append(*f, x.(letter)) }
func (f *flight) Pop() any {
	old := *f
	x := old[len(old)-1]
	*f = old[:len(old)-1]
	return x
}

func testKey(t tb) *seal.KEMPrivate {
	var seed [seal.KEMSeedSize]byte
	prng.FromUint64(77).Stream("static").Read(seed[:])
	k, err := seal.NewKEMPrivate(&seed)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newWorld(t tb, seed uint64, ccfg, scfg Config) *world {
	w := &world{t: t, rng: prng.FromUint64(seed).Stream("world"), static: testKey(t), ccfg: ccfg, scfg: scfg}
	w.acceptor = NewAcceptor(scfg, prng.FromUint64(seed).Child("server"))
	var err error
	w.client, err = Dial(w.now, ccfg, w.static.Public(), prng.FromUint64(seed).Child("client"), &w.ccounts)
	if err != nil {
		t.Fatal(err)
	}
	w.client.AddPath(w.now, 0)
	for i := range w.routes {
		w.routes[i] = route{delay: 10 * time.Millisecond}
		w.shift[i] = uint8(i)
	}
	return w
}

// established returns a world whose handshake is done.
func established(t testing.TB, seed uint64, ccfg, scfg Config) *world {
	w := newWorld(t, seed, ccfg, scfg)
	w.until(10*time.Second, func() bool {
		return w.server != nil && w.server.confirmed && w.client.confirmed || w.client.Established() && w.server.confirmed
	})
	w.run(200 * time.Millisecond)
	return w
}

func (w *world) send(fromClient bool, path uint8, b []byte) {
	r := &w.routes[path]
	if w.rewrite != nil {
		if b = w.rewrite(fromClient, path, b); b == nil {
			return
		}
	}
	if r.down || w.rng.Chance(r.loss) {
		return
	}
	dir := 0
	if fromClient {
		dir = 1
	}
	if r.line != nil {
		r = r.line
	}
	queued := time.Duration(0)
	if r.rate > 0 {
		r.free[dir] = max(r.free[dir], w.now)
		if queued = r.free[dir].Sub(w.now); queued > r.buffer {
			r.full++
			return
		}
		r.free[dir] = r.free[dir].Add(time.Duration(int64(len(b)) * int64(time.Second) / r.rate))
	}
	copies := 1
	if r.dup > 0 && w.rng.Chance(r.dup) {
		copies = 2
	}
	for range copies {
		at := w.now.Add(queued + r.delay + w.rng.Exp(r.jitter))
		if r.inOrder {
			at = max(at, r.fifo[dir])
			r.fifo[dir] = at
		}
		w.seq++
		heap.Push(&w.flight, letter{at, w.seq, fromClient, path, bytes.Clone(b)})
	}
}

func (w *world) poll() {
	if w.hold {
		return
	}
	var b [wire.SessionPacketSize]byte
	for busy := true; busy; {
		busy = false
		for path := range uint8(MaxPaths) {
			for n := 0; n < 64 && w.client.PollPacket(w.now, path, b[:]); n++ {
				w.packets++
				busy = true
				w.send(true, path, b[:])
			}
			if w.server == nil {
				continue
			}
			for n := 0; n < 64 && w.server.PollPacket(w.now, w.shift[path], b[:]); n++ {
				w.packets++
				busy = true
				w.send(false, path, b[:])
			}
		}
		w.events(w.client)
		w.events(w.server)
	}
}

func (w *world) events(s *Session) {
	for s != nil {
		e, ok := s.PollEvent()
		if !ok {
			return
		}
		if w.on != nil {
			w.on(s, e)
		}
	}
}

func (w *world) deliver(l letter) {
	if !l.toServer {
		w.client.HandlePacket(w.now, l.path, l.b)
		return
	}
	switch wire.SessionPacketKind(l.b) {
	case wire.SessionHello:
		if hello, whole := w.hello.Add(l.b); whole {
			w.accept(l.path, hello)
		}
	default:
		if w.server != nil {
			w.server.AddPath(w.now, w.shift[l.path]) // as a gateway does
			w.server.HandlePacket(w.now, w.shift[l.path], l.b)
		}
	}
}

func (w *world) accept(path uint8, hello []byte) {
	s, err := w.acceptor.Accept(w.now, w.scfg.Level, w.static, hello, &w.scounts)
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		w.send(false, path, refusal.Packet[:])
	}
	if err != nil {
		return
	}
	if w.server != nil && w.server != s {
		w.t.Fatal("one HELLO made two sessions")
	}
	w.server = s
	s.AddPath(w.now, w.shift[path])
}

// step advances to the next thing that happens and reports whether there is
// one before end.
func (w *world) step(end machine.Time) bool {
	w.poll()
	next := w.client.NextTimer()
	if w.server != nil {
		next = min(next, w.server.NextTimer())
	}
	if len(w.flight) > 0 {
		next = min(next, w.flight[0].at)
	}
	if next > end {
		w.now = end
		return false
	}
	w.now = max(w.now, next)
	for len(w.flight) > 0 && w.flight[0].at <= w.now {
		w.deliver(heap.Pop(&w.flight).(letter))
	}
	if w.client.NextTimer() <= w.now {
		w.client.HandleTimer(w.now)
	}
	if w.server != nil && w.server.NextTimer() <= w.now {
		w.server.HandleTimer(w.now)
	}
	w.events(w.client)
	w.events(w.server)
	return true
}

func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.step(end); {
	}
}

// until runs until done holds, and fails the test after limit.
func (w *world) until(limit time.Duration, done func() bool) {
	w.t.Helper()
	begin := w.now
	for end := w.now.Add(limit); !done(); {
		if !w.step(end) {
			if done() {
				return
			}
			w.t.Fatalf("not done after %v; client %+v", w.now.Sub(begin), w.client.Stats())
		}
	}
}

// readAll reads what a stream has and returns io.EOF at its end.
func readAll(s *Session, now machine.Time, id uint64, into *bytes.Buffer) error {
	var b [4096]byte
	for {
		n, err := s.Read(now, id, b[:])
		into.Write(b[:n])
		if err != nil {
			return err
		}
	}
}

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	prng.FromUint64(seed).Stream("pattern").Read(b)
	return b
}

func TestHappyPath(t *testing.T) {
	w := newWorld(t, 1, Config{}, Config{})
	id, err := w.client.OpenStream(w.now, PriorityNormal)
	if err != nil {
		t.Fatal(err)
	}
	request := []byte("GET / HTTP/1.1\r\nHost: example.test\r\n\r\n")
	answer := pattern(300_000, 4)
	if _, err := w.client.Write(w.now, id, request); err != nil {
		t.Fatal(err)
	}
	w.client.CloseWrite(w.now, id)
	var got, asked bytes.Buffer
	sent, done := 0, false
	push := func() {
		for sent < len(answer) {
			n, err := w.server.Write(w.now, id, answer[sent:])
			sent += n
			if errors.Is(err, ErrWouldBlock) {
				return
			}
		}
		w.server.CloseWrite(w.now, id)
	}
	w.on = func(s *Session, e Event) {
		switch {
		case s == w.server && e.Kind == Readable:
			if readAll(s, w.now, id, &asked) == io.EOF {
				push()
			}
		case s == w.server && e.Kind == Writable:
			push()
		case s == w.client && e.Kind == Readable:
			done = readAll(s, w.now, id, &got) == io.EOF
		}
	}
	w.until(5*time.Second, func() bool { return done })
	if !bytes.Equal(asked.Bytes(), request) || !bytes.Equal(got.Bytes(), answer) {
		t.Fatalf("request %d of %d, answer %d of %d bytes", asked.Len(), len(request), got.Len(), len(answer))
	}
	t.Logf("%v, %d packets, client %+v", time.Duration(w.now), w.packets, w.client.Stats())
	w.run(time.Second)
	if w.client.Stats().Streams != 0 || w.server.Stats().Streams != 0 {
		t.Errorf("streams left: %d and %d", w.client.Stats().Streams, w.server.Stats().Streams)
	}
}

// tb is what tests, benchmarks and rapid's checks share.
type tb interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Error(...any)
	Errorf(string, ...any)
}
