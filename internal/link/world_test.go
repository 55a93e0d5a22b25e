package link

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// world is a few endpoints on virtual time, joined by a network that the test
// can make worse.
type world struct {
	t     testing.TB
	now   machine.Time
	hosts []*host
	wires []flight
	rng   *prng.Stream
	// latency, jitter: one way. loss, dup: parts in a million.
	latency, jitter time.Duration
	loss, dup       uint64
	// tap sees every datagram as it is sent; false drops it.
	tap func(from, to netip.AddrPort, b []byte) bool
}

type flight struct {
	at       machine.Time
	from, to netip.AddrPort
	b        []byte
}

type host struct {
	*Endpoint
	w      *world
	addr   netip.AddrPort
	node   wire.NodeID
	static *seal.KEMPrivate
	pool   *wire.Pool
	counts *trace.Counts
	events []Event
	got    []string // frames received, as "link:text"
}

func newWorld(t testing.TB) *world {
	return &world{t: t, rng: prng.FromUint64(1).Stream("network"), latency: 20 * time.Millisecond}
}

// drawn is a world whose network a property test draws: latency in milliseconds,
// loss and duplicates up to these.
func drawn(t *testing.T, rt *rapid.T, latency int, loss, dup uint64) *world {
	t.Helper()
	w := newWorld(t)
	w.rng = prng.FromUint64(rapid.Uint64().Draw(rt, "seed")).Stream("network")
	w.latency = time.Duration(rapid.IntRange(0, latency).Draw(rt, "latency ms")) * time.Millisecond
	w.jitter = time.Duration(rapid.IntRange(0, 100).Draw(rt, "jitter ms")) * time.Millisecond
	w.loss = rapid.Uint64Range(0, loss).Draw(rt, "loss")
	w.dup = rapid.Uint64Range(0, dup).Draw(rt, "dup")
	return w
}

func staticKey(t testing.TB, n int) *seal.KEMPrivate {
	t.Helper()
	var seed [seal.KEMSeedSize]byte
	prng.FromUint64(uint64(n)).Stream("static").Read(seed[:])
	k, err := seal.NewKEMPrivate(&seed)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// node adds an endpoint with a static key that knows all other nodes.
func (w *world) node(n int) *host { return w.add(n, true, Config{AcceptAnonymous: true}) }

// client adds an endpoint without a static key.
func (w *world) client(n int) *host { return w.add(n, false, Config{}) }

func (w *world) add(n int, static bool, cfg Config) *host {
	h := &host{w: w, pool: &wire.Pool{}, counts: &trace.Counts{},
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 9000)}
	if static {
		h.static = staticKey(w.t, n)
		h.node = wire.NodeID{byte(n), 1}
		cfg.Static, cfg.Self = h.static, h.node
		cfg.Peer = func(id wire.NodeID) *seal.KEMPublic {
			for _, o := range w.hosts {
				if o.static != nil && o.node == id {
					return o.static.Public()
				}
			}
			return nil
		}
	}
	h.Endpoint = New(cfg, prng.FromUint64(99).Child(fmt.Sprint("host/", n)), h.pool, h.counts)
	w.hosts = append(w.hosts, h)
	return h
}

func (h *host) dial(to *host) ID {
	h.w.t.Helper()
	id := h.Dial(h.w.now, to.node, to.static.Public(), to.addr)
	if id == 0 {
		h.w.t.Fatal("dial refused")
	}
	return id
}

// push sends a text as a cell on a link.
func (h *host) push(id ID, text string) bool {
	f := h.pool.Get()
	clear(f.B[:])
	f.B[0] = byte(wire.FrameForward)
	copy(f.B[1:], text)
	return h.Push(id, f)
}

func (h *host) drain() {
	var b [wire.DatagramSize]byte
	for {
		to, n, ok := h.PollTransmit(h.w.now, b[:])
		if !ok {
			break
		}
		if n != wire.DatagramSize {
			h.w.t.Fatalf("a datagram of %d bytes", n)
		}
		h.w.send(h.addr, to, b[:])
	}
	for {
		ev, ok := h.PollEvent()
		if !ok {
			return
		}
		h.events = append(h.events, ev)
	}
}

func (w *world) send(from, to netip.AddrPort, b []byte) {
	if w.tap != nil && !w.tap(from, to, b) {
		return
	}
	copies := 1
	if w.rng.Chance(w.dup) {
		copies = 2
	}
	for range copies {
		if w.rng.Chance(w.loss) {
			continue
		}
		at := w.now.Add(w.latency)
		if w.jitter > 0 {
			at = at.Add(w.rng.Exp(w.jitter))
		}
		w.wires = append(w.wires, flight{at, from, to, append([]byte(nil), b...)})
	}
}

func (h *host) receive(from netip.AddrPort, b []byte) (ID, string, bool) {
	id, frame, ok := h.HandleDatagram(h.w.now, from, b)
	if !ok {
		return 0, "", false
	}
	n := 1
	for n < len(frame) && frame[n] != 0 {
		n++
	}
	text := string(frame[1:n])
	h.got = append(h.got, text)
	return id, text, true
}

// step moves to the next datagram or timer, if it comes before end.
func (w *world) step(end machine.Time) bool {
	for _, h := range w.hosts {
		h.drain()
	}
	at, which := end, -1
	for i, f := range w.wires {
		if f.at <= at && (which < 0 || f.at < w.wires[which].at) {
			at, which = f.at, i
		}
	}
	var timer *host
	for _, h := range w.hosts {
		if t := h.NextTimer(); t < at {
			at, timer, which = t, h, -1
		}
	}
	w.now = max(w.now, at)
	switch {
	case timer != nil:
		timer.HandleTimer(w.now)
	case which >= 0:
		f := w.wires[which]
		w.wires = append(w.wires[:which], w.wires[which+1:]...)
		for _, h := range w.hosts {
			if h.addr == f.to {
				h.receive(f.from, f.b)
			}
		}
	default:
		return false
	}
	return true
}

func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.step(end); {
	}
}

func (h *host) wantUp(id ID) {
	h.w.t.Helper()
	if _, _, up := h.Endpoint.Peer(id); !up {
		h.w.t.Fatalf("link %d is not up; counts %v", id, h.drops())
	}
}

func (h *host) drops() string {
	s := ""
	for c, n := range h.counts {
		if n > 0 {
			s += fmt.Sprintf("%v=%d ", trace.Counter(c), n)
		}
	}
	return s
}

// upLink is the link of the last Up event.
func (h *host) upLink() ID {
	h.drain()
	for i := len(h.events) - 1; i >= 0; i-- {
		if h.events[i].Kind == Up {
			return h.events[i].Link
		}
	}
	h.w.t.Helper()
	h.w.t.Fatalf("no link came up; counts %v", h.drops())
	return 0
}

func (h *host) downs() (n int) {
	h.drain()
	for _, ev := range h.events {
		if ev.Kind == Down {
			n++
		}
	}
	return n
}

func (h *host) wantGot(texts ...string) {
	h.w.t.Helper()
	if fmt.Sprint(h.got) != fmt.Sprint(texts) {
		h.w.t.Fatalf("received %q, want %q; counts %v", h.got, texts, h.drops())
	}
	h.got = nil
}
