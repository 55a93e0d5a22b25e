package link

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Whatever the network does to handshake datagrams, a link comes up, and each
// frame arrives once at most.
func TestHandshakeOnABadNetwork(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := drawn(t, rt, 200, 100_000, 500_000)
		dialler := w.client(1)
		if rapid.Bool().Draw(rt, "identified") {
			dialler = w.node(3)
		}
		n := w.node(2)
		id := dialler.dial(n)
		w.run(15 * time.Second)
		if _, _, up := dialler.Endpoint.Peer(id); !up {
			rt.Fatalf("not up: %s / %s", dialler.drops(), n.drops())
		}
		for i := range 50 {
			dialler.push(id, fmt.Sprint(i))
			n.push(n.upLink(), fmt.Sprint(i))
		}
		w.run(5 * time.Second)
		for _, h := range []*host{dialler, n} {
			seen := map[string]bool{}
			for _, s := range h.got {
				if seen[s] {
					rt.Fatalf("frame %q delivered twice", s)
				}
				seen[s] = true
			}
			if len(seen) < 25 {
				rt.Fatalf("%d of 50 frames arrived", len(seen))
			}
		}
	})
}

// A repeated INIT is answered by the same RESP, without new key work.
func TestRepeatedInitHasTheSameAnswer(t *testing.T) {
	w := newWorld(t)
	c, n := w.client(1), w.node(2)
	lost := 0
	w.tap = func(from, to netip.AddrPort, b []byte) bool {
		if from == n.addr && n.answers.waiting.n > 0 && lost < 6 {
			lost++
			return false
		}
		return true
	}
	id := c.dial(n)
	w.run(8 * time.Second)
	c.wantUp(id)
	if lost != 6 || n.answers.kem.due != 0 && n.counts[trace.HandshakesDone] != 1 {
		t.Errorf("%d lost, %s", lost, n.drops())
	}
	if got := len(n.byIndex); got != 1 {
		t.Errorf("%d keysets at the responder, want 1", got)
	}
}

// A RESP that is asked for again and not yet sent when the link is confirmed
// still goes out whole.
func TestConfirmationOvertakesARepeatedResp(t *testing.T) {
	w := newWorld(t)
	c, n := w.client(1), w.node(2)
	var inits [][]byte
	w.tap = func(from, to netip.AddrPort, b []byte) bool {
		if from == c.addr && n.cookies.keyed && len(inits) < 2 {
			inits = append(inits, append([]byte(nil), b...))
		}
		return true
	}
	id := c.dial(n)
	for len(n.answers.table) == 0 || n.answers.waiting.n == 0 {
		w.step(machine.Never - 1)
	}
	for _, h := range w.hosts {
		h.drain()
	}
	w.now = w.now.Add(w.latency)
	for _, f := range w.wires {
		if f.to == c.addr {
			c.receive(f.from, f.b)
		}
	}
	w.wires = nil
	for _, b := range inits {
		n.HandleDatagram(w.now, c.addr, b) // repeated
	}
	n.receive(c.addr, sealFirst(c, id))
	if n.counts[trace.HandshakesDone] != 1 || n.outbox.n != 2 {
		t.Fatalf("%d parcels, %s", n.outbox.n, n.drops())
	}
	n.drain()
}

// sealFirst returns the next datagram that h sends with a cell in it, without
// what waits before.
func sealFirst(h *host, id ID) []byte {
	b := make([]byte, wire.DatagramSize)
	h.links[id].flags = 0
	h.push(id, "first")
	if _, _, ok := h.PollTransmit(h.w.now, b); !ok {
		h.w.t.Fatal("nothing to send")
	}
	return b
}

// reseal opens a handshake datagram, lets change alter its body, and seals it
// again: what anyone can do who knows the node.
func reseal(t *testing.T, shape *seal.AEAD, b []byte, change func(body []byte)) []byte {
	t.Helper()
	out := append([]byte(nil), b...)
	_, counter := wire.LinkHeader(out)
	body, ok := shape.Open(out[12:12], out[12:], out[:12], counter)
	if !ok {
		t.Fatal("not a handshake datagram")
	}
	change(body)
	shape.Seal(out[12:12], body, out[:12], counter)
	return out
}

// Every byte of an INIT is bound: by the cookie, or by the transcript.
func TestAlteredInitIsRefused(t *testing.T) {
	w := newWorld(t)
	c, n := w.node(1), w.node(2)
	var parts [][]byte
	w.tap = func(from, to netip.AddrPort, b []byte) bool {
		if from == c.addr && n.cookies.keyed {
			parts = append(parts, append([]byte(nil), b...))
			return false
		}
		return true
	}
	c.dial(n)
	w.run(200 * time.Millisecond)
	if len(parts) != 2 {
		t.Fatalf("%d datagrams with a cookie", len(parts))
	}
	for bit := range 8 * wire.LinkHeaderSize {
		b := append([]byte(nil), parts[0]...)
		b[bit/8] ^= 1 << (bit % 8)
		n.HandleDatagram(w.now, c.addr, b)
	}
	if len(n.answers.table) != 0 {
		t.Error("an INIT with another header was taken")
	}
	key := shapeKey(n.node)
	shape := seal.NewAEAD(shapeSuite, &key)
	try := func(change func(part int, body []byte)) bool {
		n.answers.init(defaultMaxHandshakes)
		n.outbox = fifo[parcel]{max: outboxMax}
		for i, b := range parts {
			b = reseal(t, shape, b, func(body []byte) { change(i, body) })
			n.HandleDatagram(w.now, c.addr, b)
		}
		for {
			p, ok := n.outbox.pop()
			if !ok {
				return false
			}
			if p.kind == parcelResp {
				return true
			}
		}
	}
	if !try(func(int, []byte) {}) {
		t.Fatalf("the unaltered INIT was refused: %s", n.drops())
	}
	for at := range 7 + wire.LinkNonceSize { // the header, in both parts alike
		if at != 2 && try(func(_ int, body []byte) { body[at] ^= 0x20 }) {
			t.Fatalf("INIT with byte %d of its header altered was answered", at)
		}
	}
	for part := range parts {
		for at := 0; at < wire.LinkPayloadSize; at += 1 + at/40 {
			if try(func(i int, body []byte) {
				if i == part {
					body[at] ^= 0x20
				}
			}) {
				t.Fatalf("INIT with byte %d of part %d altered was answered", at, part)
			}
		}
	}
}

// Every byte of a RESP is bound, and a forged one does not spoil the real one.
func TestAlteredRespIsRefused(t *testing.T) {
	for _, identified := range []bool{false, true} {
		w := newWorld(t)
		c, n := w.client(1), w.node(2)
		if identified {
			c = w.node(3)
		}
		var parts [][]byte
		w.tap = func(from, to netip.AddrPort, b []byte) bool {
			if from == n.addr && n.answers.waiting.n > 0 {
				parts = append(parts, append([]byte(nil), b...))
				return false
			}
			return true
		}
		id := c.dial(n)
		w.run(200 * time.Millisecond)
		if len(parts) != 2 {
			t.Fatalf("%d datagrams of RESP", len(parts))
		}
		d := c.links[id].dial
		for part := range parts {
			for at := 0; at < wire.LinkPayloadSize; at += 1 + at/40 {
				for i := range parts {
					b := reseal(t, &d.back, parts[i], func(body []byte) {
						if i == part {
							body[at] ^= 0x20
						}
					})
					c.HandleDatagram(w.now, n.addr, b)
				}
				d.respTries, d.parts = 0, [2][]byte{}
				if _, _, up := c.Endpoint.Peer(id); up {
					t.Fatalf("RESP with byte %d of part %d altered was accepted", at, part)
				}
			}
		}
		for i := range parts {
			c.HandleDatagram(w.now, n.addr, append([]byte(nil), parts[i]...))
		}
		c.wantUp(id)
	}
}

// A responder without the static key of the dialled node cannot answer.
func TestImpostorIsNotBelieved(t *testing.T) {
	w := newWorld(t)
	c, n := w.client(1), w.node(2)
	n.Endpoint.cfg.Static = staticKey(t, 77)
	id := c.dial(n)
	genuine := staticKey(t, 2)
	c.links[id].remote.key = genuine.Public()
	// The INIT was made for n.static, whose private half the impostor lacks.
	w.run(12 * time.Second)
	if c.downs() != 1 || n.counts[trace.HandshakesDone] != 0 {
		t.Errorf("impostor: %v %s", c.events, n.drops())
	}
}

// An initiator that claims a node's identity without its key gets a RESP, and
// no link.
func TestClaimedIdentityWithoutKeyIsNotBelieved(t *testing.T) {
	w := newWorld(t)
	liar, n := w.node(1), w.node(2)
	liar.Endpoint.cfg.Static = staticKey(t, 88)
	liar.dial(n)
	w.run(12 * time.Second)
	if n.counts[trace.HandshakesDone] != 0 || len(n.links) != 0 {
		t.Errorf("a liar has a link: %s", n.drops())
	}
	if liar.downs() != 1 {
		t.Errorf("the liar thinks otherwise: %v", liar.events)
	}
}

func TestWhoIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*host)
		client bool
		count  trace.Counter
	}{
		{"anonymous where none are admitted", func(n *host) { n.Endpoint.cfg.AcceptAnonymous = false }, true, trace.DropHandshakePeer},
		{"unknown node", func(n *host) { n.Endpoint.cfg.Peer = func(wire.NodeID) *seal.KEMPublic { return nil } }, false, trace.DropHandshakePeer},
		{"any node", func(n *host) { n.Endpoint.cfg.Peer = nil }, false, trace.DropHandshakePeer},
		{"table full", func(n *host) { n.Endpoint.cfg.MaxClients = 0 }, true, trace.DropHandshakeLimit},
		{"node that only dials", func(n *host) { n.shape.Forget() }, true, trace.DropLinkUnknown},
	} {
		w := newWorld(t)
		n, from := w.node(2), w.node(1)
		if c.client {
			from = w.client(3)
		}
		c.change(n)
		from.dial(n)
		w.run(12 * time.Second)
		if n.counts[c.count] == 0 || len(n.links) != 0 || from.downs() != 1 || from.events[0].Reason != Unanswered {
			t.Errorf("%s: %s %v", c.name, n.drops(), from.events)
		}
	}
}

// Clients fill the room for clients and no more, and then open no more links; a
// node's link is none of theirs, and they go on with fresh keys.
func TestClientsLeaveRoomForNodes(t *testing.T) {
	const most = 3
	w := newWorld(t)
	n := w.node(2)
	n.Endpoint.cfg.MaxClients = most
	var clients []*host
	for i := range most + 2 {
		clients = append(clients, w.client(10+i))
		clients[i].dial(n)
		w.run(time.Second)
	}
	if len(n.links) != most || n.counts[trace.DropHandshakeLimit] == 0 {
		t.Errorf("%d clients are linked, %d wanted", len(n.links), most)
	}
	w.node(1).dial(n)
	w.run(time.Second)
	if len(n.byPeer) != 1 {
		t.Error("a node found no room")
	}
	rekeys := n.counts[trace.LinkRekeys]
	for _, l := range clients[0].links {
		clients[0].startDial(w.now, l)
	}
	w.run(time.Second)
	if n.counts[trace.LinkRekeys] == rekeys {
		t.Error("a client that is linked got no fresh keys where the room is full")
	}
}

// An unknown suite or required capability is refused with code 0x07, and the
// refusal is authentic; an unknown optional capability is ignored.
func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		suite seal.Suite
		bits  uint32
		up    bool
	}{
		{seal.AES256GCM, 0, true},
		{seal.ChaCha20Poly1305, 0, true},
		{seal.AES256GCM, 0x0000ffff, true},
		{seal.AES256GCM, 0x00010000, false},
		{9, 0, false},
	} {
		w := newWorld(t)
		dialler, n := w.client(1), w.node(2)
		dialler.capabilities = c.bits
		dialler.Endpoint.cfg.Suite = c.suite
		id := dialler.dial(n)
		w.run(time.Second)
		_, _, up := dialler.Endpoint.Peer(id)
		if up != c.up {
			t.Errorf("suite %d capabilities %#x: up is %v", c.suite, c.bits, up)
		}
		if !c.up && (dialler.downs() != 1 || dialler.events[0].Reason != Refused || n.counts[trace.DropHandshakePeer] != 1) {
			t.Errorf("suite %d capabilities %#x: %v", c.suite, c.bits, dialler.events)
		}
	}
}

func TestDialRefusals(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	if a.Dial(0, b.node, nil, b.addr) != 0 || a.Dial(0, b.node, b.static.Public(), netip.AddrPort{}) != 0 ||
		a.Dial(0, a.node, a.static.Public(), b.addr) != 0 {
		t.Error("an impossible dial was accepted")
	}
	encoded := append([]byte(nil), b.static.Public().Bytes()...)
	clear(encoded[:32]) // a point of order one
	low, err := seal.ParseKEMPublic(encoded)
	if err == nil && a.Dial(0, b.node, low, b.addr) != 0 {
		t.Error("a low-order key was dialled")
	}
	if len(a.links) != 0 || len(a.byIndex) != 0 || a.NextTimer() != machine.Never {
		t.Error("a refused dial left state behind")
	}
}

// Where 15 % is lost each way, 99 handshakes of 100 are done within 1.2 s, and
// in none does the responder send more than it got. (Control: repeated at
// doubling distances from 250 ms, the 99th takes 4.1 s.)
func TestHandshakesAreQuickInABadNetwork(t *testing.T) {
	var took []time.Duration
	for i := range 300 {
		w := newWorld(t)
		w.rng, w.loss = prng.FromUint64(uint64(i)).Stream("network"), 150_000
		c, n := w.client(1), w.node(2)
		sent := map[netip.AddrPort]int{}
		w.tap = func(from, _ netip.AddrPort, _ []byte) bool {
			sent[from]++
			return true
		}
		c.dial(n)
		for len(c.events) == 0 {
			w.run(10 * time.Millisecond)
		}
		if c.events[0].Kind != Up || sent[n.addr] > sent[c.addr] {
			t.Errorf("handshake %d: %v; %d datagrams were answered by %d", i, c.events, sent[c.addr], sent[n.addr])
		}
		took = append(took, w.now.Sub(0))
	}
	slices.Sort(took)
	if p99 := took[len(took)*99/100]; p99 > 1200*time.Millisecond {
		t.Errorf("the 99th handshake of 100 takes %v", p99)
	}
}

func TestDialGivesUp(t *testing.T) {
	w := newWorld(t)
	c, n := w.client(1), w.node(2)
	var at []machine.Time
	w.tap = func(netip.AddrPort, netip.AddrPort, []byte) bool { at = append(at, w.now); return false }
	id := c.dial(n)
	c.push(id, "never")
	w.run(20 * time.Second)
	ms := []int64{}
	for i, x := range at {
		if i%2 == 0 {
			ms = append(ms, int64(x)/1e6)
		}
	}
	if fmt.Sprint(ms) != "[0 200 400 600 800 1200 2000 3600 5600 7600 9600]" {
		t.Errorf("INIT sent at %v ms", ms)
	}
	if c.downs() != 1 || c.events[0].Reason != Unanswered || c.events[0].Link != id || c.pool.Out != 0 {
		t.Errorf("%v, %d frames out", c.events, c.pool.Out)
	}
	if c.push(id, "late") || c.pool.Out != 0 {
		t.Error("a link that is gone took a frame")
	}
	if again := c.dial(n); again == id {
		t.Error("an id was used again")
	}
}

// A peer that lost its state opens a new link; the old one goes down.
func TestRestartedPeerReplacesItsLink(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	a.dial(b)
	w.run(30 * time.Second)
	old := b.upLink()
	a.Endpoint = New(a.cfg, prng.FromUint64(1234), a.pool, a.counts)
	id := a.dial(b)
	w.run(5 * time.Second)
	a.wantUp(id)
	fresh := b.upLink()
	if fresh == old || b.downs() != 1 {
		t.Fatalf("events %v", b.events)
	}
	b.push(fresh, "hello")
	w.run(time.Second)
	a.wantGot("hello")
}

// The same seed gives the same run: times, addresses, sizes and indices.
func TestSameSeedSameRun(t *testing.T) {
	run := func() (log string) {
		w := newWorld(t)
		w.loss, w.dup, w.jitter = 50_000, 50_000, 20*time.Millisecond
		c, n, m := w.client(1), w.node(2), w.node(3)
		w.tap = func(from, to netip.AddrPort, b []byte) bool {
			log += fmt.Sprintf("%d %v>%v %x\n", w.now, from, to, b[:4])
			return true
		}
		i1, i2 := c.dial(n), m.dial(n)
		for i := range 20 {
			w.run(time.Second)
			c.push(i1, fmt.Sprint(i))
			m.push(i2, fmt.Sprint(i))
		}
		return log
	}
	if a, b := run(), run(); a != b {
		t.Error("two runs of one seed differ")
	}
}
