package link

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// pair is a client and a node with a link that is up and quiet.
func pair(t testing.TB) (w *world, c, n *host, ic, in ID) {
	w = newWorld(t)
	c, n = w.client(1), w.node(2)
	ic = c.dial(n)
	w.run(time.Second)
	return w, c, n, ic, n.upLink()
}

// sealOne returns the next datagram that h sends, with a cell in it.
func sealOne(h *host, id ID, text string) []byte {
	h.drain()
	h.push(id, text)
	b := make([]byte, wire.DatagramSize)
	if _, _, ok := h.PollTransmit(h.w.now, b); !ok {
		h.w.t.Fatal("nothing to send")
	}
	return b
}

func TestEveryFlippedBitIsDropped(t *testing.T) {
	w, c, n, ic, _ := pair(t)
	genuine := sealOne(c, ic, "cell")
	b := make([]byte, len(genuine))
	for bit := range 8 * len(genuine) {
		copy(b, genuine)
		b[bit/8] ^= 1 << (bit % 8)
		if _, _, ok := n.HandleDatagram(w.now, c.addr, b); ok {
			t.Fatalf("a datagram with bit %d flipped was accepted", bit)
		}
	}
	if _, text, ok := n.receive(c.addr, genuine); !ok || text != "cell" {
		t.Fatalf("the genuine datagram was dropped after %s", n.drops())
	}
}

func TestReplayedDatagramsAreDropped(t *testing.T) {
	w, c, n, ic, _ := pair(t)
	var sent [][]byte
	for i := range windowSize + 10 {
		sent = append(sent, sealOne(c, ic, fmt.Sprint(i)))
	}
	take := func(i int) bool {
		_, _, ok := n.receive(c.addr, append([]byte(nil), sent[i]...))
		return ok
	}
	last := len(sent) - 1
	for _, step := range []struct {
		i    int
		want bool
	}{{50, true}, {50, false}, {40, true}, {40, false}, {60, true}, {last, true}, {last, false},
		{last - windowSize, false}, {last - windowSize + 1, true}, {last - windowSize + 1, false}, {last - 1, true}, {50, false}} {
		if got := take(step.i); got != step.want {
			t.Fatalf("datagram %d accepted: %v, want %v", step.i, got, step.want)
		}
	}
	// A link that cooled down has forgotten its window, not what it saw.
	w.run(90 * time.Second)
	if k := n.links[n.upLink()].cur; k.hot != nil {
		t.Error("an idle link kept its cipher state")
	}
	for i := range sent {
		if take(i) {
			t.Fatalf("datagram %d was accepted again after the link cooled down", i)
		}
	}
	// Nor does it while it carries what heartbeats do, nor once it is in use again.
	for range beatFrames + 1 {
		if n.links[n.upLink()].cur.hot != nil {
			t.Fatal("a few datagrams warmed the link")
		}
		sent = append(sent, sealOne(c, ic, "again"))
		if !take(len(sent) - 1) {
			t.Fatal("a fresh datagram was refused")
		}
		for i := range sent {
			if take(i) {
				t.Fatalf("datagram %d was accepted again after a rest", i)
			}
		}
	}
	if n.links[n.upLink()].cur.hot == nil {
		t.Fatal("the link in use is not warm")
	}
	if n.counts[trace.DropLinkReplay] == 0 {
		t.Error("replays were not counted")
	}
}

// Keys are replaced under traffic in both directions and nothing is lost, for
// nodes and for clients, and the old keys are gone afterwards.
func TestRekeyUnderTrafficLosesNothing(t *testing.T) {
	for _, identified := range []bool{false, true} {
		w := newWorld(t)
		w.jitter = 30 * time.Millisecond
		a, b := w.client(1), w.node(2)
		if identified {
			a = w.node(3)
		}
		ia := a.dial(b)
		w.run(time.Second)
		ib := b.upLink()
		first := a.links[ia].cur
		sent := 0
		for w.now < machine.Time(rekeyAfter+time.Minute) {
			a.push(ia, "x")
			b.push(ib, "x")
			sent++
			gap := 100 * time.Millisecond
			if age := time.Duration(w.now) - rekeyAfter; age > -time.Second && age < 2*time.Second {
				gap = 2 * time.Millisecond // many are under way when the keys change
			}
			w.run(gap)
		}
		w.run(time.Second)
		if len(a.got) != sent || len(b.got) != sent {
			t.Errorf("identified %v: %d and %d of %d arrived: %s / %s", identified, len(a.got), len(b.got), sent, a.drops(), b.drops())
		}
		if a.counts[trace.LinkRekeys] != 1 || b.counts[trace.LinkRekeys] != 1 || a.links[ia].cur == first {
			t.Errorf("identified %v: rekeys %d and %d", identified, a.counts[trace.LinkRekeys], b.counts[trace.LinkRekeys])
		}
		if first.sendKey != (seal.Key{}) || first.recvKey != (seal.Key{}) || first.hot != nil || len(a.byIndex) != 1 || len(b.byIndex) != 1 {
			t.Error("replaced keys are still there")
		}
		if a.downs()+b.downs() != 0 || len(a.links) != 1 || len(b.links) != 1 {
			t.Errorf("links changed: %v %v", a.events, b.events)
		}
	}
}

func TestRekeyByCount(t *testing.T) {
	w, c, n, ic, _ := pair(t)
	c.links[ic].cur.next = rekeyCount
	c.push(ic, "go")
	w.run(15 * time.Second)
	if c.counts[trace.LinkRekeys] != 1 || n.counts[trace.LinkRekeys] != 1 {
		t.Errorf("rekeys %d and %d", c.counts[trace.LinkRekeys], n.counts[trace.LinkRekeys])
	}
}

// A rekey on a lossy network ends in keys that both sides use.
func TestRekeyOnABadNetwork(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, c, n, ic, in := pair(t)
		w.rng = prng.FromUint64(rapid.Uint64().Draw(rt, "seed")).Stream("network")
		w.loss, w.dup, w.jitter = 100_000, 100_000, 50*time.Millisecond
		c.links[ic].rekeyAt = w.now.Add(time.Second)
		c.reschedule(c.links[ic])
		w.run(40 * time.Second)
		w.loss = 0
		c.push(ic, "up")
		n.push(in, "down")
		w.run(time.Second)
		if c.counts[trace.LinkRekeys] == 0 || fmt.Sprint(c.got, n.got) != "[down] [up]" {
			rt.Fatalf("%v %v %v %v %s / %s", c.got, n.got, c.events, n.events, c.drops(), n.drops())
		}
	})
}

// A rekey that is not answered is tried again, and in the end gives the link up.
func TestRekeyUnanswered(t *testing.T) {
	w, c, n, ic, in := pair(t)
	w.tap = func(from, to netip.AddrPort, b []byte) bool {
		index, _ := wire.LinkHeader(b)
		return n.byIndex[index] != nil || c.byIndex[index] != nil // no INIT passes
	}
	c.links[ic].rekeyAt = w.now
	c.reschedule(c.links[ic])
	began := w.now
	for c.downs() == 0 && w.now.Sub(began) < 5*time.Minute {
		c.push(ic, "x")
		n.push(in, "x")
		w.run(time.Second)
	}
	if took := w.now.Sub(began); took < 2*rekeyPause || took > 2*rekeyPause+3*dialTime+2*time.Second || c.events[1].Reason != Unanswered {
		t.Errorf("given up after %v: %v", took, c.events)
	}
	if got := len(n.got); got < 80 {
		t.Errorf("%d frames passed on the old keys meanwhile", got)
	}
}

// Nobody without a link's keys can continue it: the index is on the wire.
func TestHijackByIndexIsRefused(t *testing.T) {
	w, _, n, _, in := pair(t)
	thief := w.client(9)
	before := n.links[in].cur
	id := thief.Dial(w.now, n.node, n.static.Public(), n.addr)
	l := thief.links[id]
	thief.endDial(l)
	// The thief claims to continue the victim's link with keys it made up.
	forged := &keyset{remote: before.local, suite: seal.AES256GCM, initiator: true, sendKey: seal.Key{1}, recvKey: seal.Key{2}, stage: live, owner: l}
	l.cur = forged
	thief.startDial(w.now, l)
	w.run(5 * time.Second)
	if n.links[in].cur != before || n.counts[trace.DropHandshakePeer] == 0 || n.counts[trace.LinkRekeys] != 0 {
		t.Errorf("hijack: %s", n.drops())
	}
	// The control: with the victim's keys the same steps succeed.
	forged.sendKey, forged.recvKey = before.recvKey, before.sendKey
	thief.endDial(l)
	thief.startDial(w.now, l)
	w.run(time.Second)
	if n.counts[trace.LinkRekeys] != 1 {
		t.Errorf("control: %s", n.drops())
	}
}

// An identified node cannot continue another's link, nor a client a node's.
func TestContinueAnotherKindOfLink(t *testing.T) {
	w := newWorld(t)
	a, n, other, client := w.node(1), w.node(2), w.node(3), w.client(4)
	a.dial(n)
	w.run(time.Second)
	victim := n.links[n.upLink()].cur
	for _, h := range []*host{other, client} {
		refused := n.counts[trace.DropHandshakePeer]
		id := h.Dial(w.now, n.node, n.static.Public(), n.addr)
		l := h.links[id]
		h.endDial(l)
		l.cur = &keyset{remote: victim.local, suite: seal.AES256GCM, initiator: true, sendKey: victim.recvKey, recvKey: victim.sendKey, stage: live, owner: l}
		h.startDial(w.now, l)
		w.run(time.Second)
		if n.counts[trace.DropHandshakePeer] == refused || n.counts[trace.LinkRekeys] != 0 {
			t.Errorf("continued: %s", n.drops())
		}
	}
}

// A client that moves is followed after it has answered from its new address;
// until then data goes to the old one.
func TestPathChange(t *testing.T) {
	w, c, n, ic, in := pair(t)
	old := c.addr
	fresh := netip.MustParseAddrPort("203.0.113.9:4242")
	c.addr = fresh
	var to []netip.AddrPort
	w.tap = func(from, dest netip.AddrPort, b []byte) bool {
		if from == n.addr {
			to = append(to, dest)
		}
		return true
	}
	n.receive(c.addr, sealOne(c, ic, "moved"))
	n.push(in, "before proof")
	n.drain()
	if fmt.Sprint(to) != fmt.Sprint([]netip.AddrPort{fresh, old}) {
		t.Fatalf("sent to %v, want the challenge to the new and data to the old address", to)
	}
	w.run(time.Second)
	c.got = nil
	n.push(in, "after")
	w.run(time.Second)
	c.wantGot("after")
	if n.counts[trace.LinkPathChanges] != 1 || n.links[in].path != nil || c.links[ic].path != nil {
		t.Errorf("%s", n.drops())
	}
}

// Datagrams copied to another address move nothing: the copy is a replay, and
// one that overtakes the original brings a challenge that is not answered from
// there.
func TestPathIsNotStolen(t *testing.T) {
	w, c, n, ic, in := pair(t)
	thief := netip.MustParseAddrPort("203.0.113.66:1")
	d := sealOne(c, ic, "x")
	n.receive(thief, append([]byte(nil), d...))
	n.receive(c.addr, d)
	var token [8]byte = n.links[in].path.token
	// The right token from the wrong address does not count either.
	m := wire.LinkPath{Type: wire.FramePathResponse, Token: token}
	var f wire.Frame
	m.Append(f.B[:0])
	b := make([]byte, wire.DatagramSize)
	c.sealTo(c.links[ic].cur, b, f.B[:])
	n.receive(c.addr, b)
	// Nor does the wrong token from the new address.
	m.Token[0] ^= 1
	m.Append(f.B[:0])
	c.sealTo(c.links[ic].cur, b, f.B[:])
	n.receive(thief, b)
	challenges := 0
	w.tap = func(_, to netip.AddrPort, _ []byte) bool {
		if to == thief {
			challenges++
		}
		return true
	}
	w.run(5 * time.Second)
	if n.links[in].addr != c.addr || n.counts[trace.LinkPathChanges] != 0 || challenges != challengesMax || n.links[in].path != nil {
		t.Errorf("address %v, %d challenges, %s", n.links[in].addr, challenges, n.drops())
	}
}

func TestPathChangeOnALossyNetwork(t *testing.T) {
	w, c, n, ic, in := pair(t)
	w.loss = 300_000
	c.addr = netip.MustParseAddrPort("203.0.113.9:4242")
	for range 20 {
		c.push(ic, "x")
		w.run(500 * time.Millisecond)
	}
	if n.links[in].addr != c.addr {
		t.Errorf("the link did not follow: %s", n.drops())
	}
}

func TestKeepAliveAndSilence(t *testing.T) {
	w, c, n, ic, in := pair(t)
	at := []int64{}
	w.tap = func(from, _ netip.AddrPort, _ []byte) bool {
		if from == c.addr {
			at = append(at, int64(w.now)/1e9)
		}
		return true
	}
	w.run(100 * time.Second)
	if len(at) < 9 || len(at) > 11 {
		t.Errorf("%d keep-alives in 100 s: %v", len(at), at)
	}
	c.wantUp(ic)
	n.wantUp(in)
	w.tap = func(from, _ netip.AddrPort, _ []byte) bool { return from != n.addr }
	lastHeard := c.links[ic].lastRecv
	for c.downs() == 0 {
		w.step(machine.Never - 1)
	}
	if took := w.now.Sub(lastHeard); took < silence || took > silence+50*time.Millisecond || c.events[1].Reason != Silent {
		t.Errorf("down after %v: %v", took, c.events)
	}
}

// Three keep-alives in a row get lost on a bad network; probes keep the link.
func TestLossDoesNotSilenceALink(t *testing.T) {
	w, c, n, ic, in := pair(t)
	w.loss = 200_000
	for range 60 {
		c.push(ic, "x")
		n.push(in, "x")
		w.run(2 * time.Minute)
	}
	if c.downs()+n.downs() != 0 {
		t.Errorf("%v %v after %v", c.events, n.events, time.Duration(w.now))
	}
}

func TestIdleLinksClose(t *testing.T) {
	w, c, n, ic, _ := pair(t)
	w.run(11 * time.Minute)
	c.push(ic, "use")
	w.run(11 * time.Minute)
	if c.downs()+n.downs() != 0 {
		t.Fatal("a link that was used closed")
	}
	w.run(70 * time.Second)
	if c.downs() != 1 || n.downs() != 1 || len(c.byIndex)+len(n.byIndex) != 0 {
		t.Errorf("%v %v", c.events, n.events)
	}
	if c.NextTimer() != machine.Never || c.timers.items[:0] == nil {
		t.Error("timers remain")
	}
}

func TestClose(t *testing.T) {
	w, c, n, ic, in := pair(t)
	keys := c.links[ic].cur
	c.push(ic, "dropped")
	c.Close(w.now, ic)
	c.Close(w.now, ic)
	w.run(time.Second)
	if c.downs() != 1 || c.events[1].Reason != Closed || n.downs() != 1 || n.events[1].Reason != PeerClosed {
		t.Fatalf("%v %v", c.events, n.events)
	}
	if keys.sendKey != (seal.Key{}) || c.pool.Out != 0 || n.QueueLen(in) != 0 || n.QueueLen(ID(999)) != 0 {
		t.Error("a closed link kept something")
	}
	if _, _, up := n.Endpoint.Peer(in); up {
		t.Error("a closed link is up")
	}
	id := c.dial(n)
	c.Close(w.now, id)
	if c.downs() != 2 || c.NextTimer() != machine.Never {
		t.Error("a dial could not be closed")
	}
}

func TestQueueIsBoundedAndFair(t *testing.T) {
	w := newWorld(t)
	n := w.add(2, true, Config{AcceptAnonymous: true, QueueMax: 200})
	var ids []ID
	for i := range 3 {
		w.client(10 + i).dial(n)
		w.run(time.Second)
		ids = append(ids, n.upLink())
	}
	for _, id := range ids {
		for i := range 250 {
			if ok := n.push(id, "x"); ok != (i < 200) {
				t.Fatalf("frame %d taken: %v", i, ok)
			}
		}
		if n.QueueLen(id) != 200 {
			t.Errorf("queue of %d", n.QueueLen(id))
		}
	}
	if n.counts[trace.DropLinkQueue] != 150 {
		t.Errorf("%s", n.drops())
	}
	runs, last := []int{}, netip.AddrPort{}
	b := make([]byte, wire.DatagramSize)
	for {
		to, _, ok := n.PollTransmit(w.now, b)
		if !ok {
			break
		}
		if to != last {
			runs, last = append(runs, 0), to
		}
		runs[len(runs)-1]++
	}
	if fmt.Sprint(runs) != "[64 64 64 64 64 64 64 64 64 8 8 8]" {
		t.Errorf("runs of %v", runs)
	}
	if n.pool.Out != 0 || n.queued != 0 {
		t.Errorf("%d frames out, %d queued", n.pool.Out, n.queued)
	}
}

func TestFramesOfUnknownTypeAreDropped(t *testing.T) {
	w, c, n, ic, _ := pair(t)
	for _, kind := range []byte{6, 15, 19, 255} {
		before := n.counts[trace.DropLinkMalformed]
		f := c.pool.Get()
		clear(f.B[:])
		f.B[0] = kind
		c.Push(ic, f)
		w.run(time.Second)
		if n.counts[trace.DropLinkMalformed] != before+1 {
			t.Errorf("frame type %d was not dropped", kind)
		}
	}
	for _, kind := range []wire.FrameType{wire.FrameClose, wire.FramePathChallenge, wire.FramePathResponse} {
		before := n.counts[trace.DropLinkMalformed]
		f := c.pool.Get()
		clear(f.B[:])
		f.B[0], f.B[1200] = byte(kind), 1
		c.Push(ic, f)
		w.run(time.Second)
		if n.counts[trace.DropLinkMalformed] != before+1 {
			t.Errorf("malformed frame of type %d was not dropped", kind)
		}
	}
	n.HandleDatagram(w.now, c.addr, make([]byte, 1279))
	n.HandleDatagram(w.now, c.addr, nil)
	if n.counts[trace.DropSize] != 2 || len(n.got) != 0 {
		t.Errorf("%s %v", n.drops(), n.got)
	}
}

// What an endpoint sends looks random after the header: no byte of the body
// has a value that stands out, in handshakes, pads and data alike.
func TestBodiesLookRandom(t *testing.T) {
	var histogram [256]int
	total := 0
	w := newWorld(t)
	c, n := w.client(1), w.node(2)
	w.tap = func(_, _ netip.AddrPort, b []byte) bool {
		for _, x := range b[wire.LinkHeaderSize:] {
			histogram[x]++
			total++
		}
		return true
	}
	id := c.dial(n)
	for range 200 {
		c.push(id, "the same text")
		w.run(time.Second)
	}
	chi := 0.0
	mean := float64(total) / 256
	for _, x := range histogram {
		chi += (float64(x) - mean) * (float64(x) - mean) / mean
	}
	// 255 degrees of freedom: mean 255, deviation 22.6; nine deviations.
	if chi > 460 {
		t.Errorf("chi-square of %d bytes is %.0f", total, chi)
	}
}

// A link at rest is small, and a million of them have timers that work.
func TestIdleLinkMemory(t *testing.T) {
	const count = 20000
	w := newWorld(t)
	n := w.node(2)
	n.Endpoint.cfg.MaxClients = count
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range count {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 9)
		l := n.newLink(w.now, from, nil)
		k := &keyset{suite: seal.AES256GCM, stage: live}
		n.register(k)
		n.install(w.now, l, k)
		n.reschedule(l)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := float64(after.HeapAlloc-before.HeapAlloc) / count
	t.Logf("%.0f bytes per idle link", per)
	if per > 600 {
		t.Errorf("%.0f bytes per idle link, want at most 600", per)
	}
	n.HandleTimer(w.now.Add(keepAlive))
	b := make([]byte, wire.DatagramSize)
	pads := 0
	for {
		if _, _, ok := n.PollTransmit(w.now, b); !ok {
			break
		}
		pads++
	}
	if pads != count {
		t.Errorf("%d keep-alives for %d links", pads, count)
	}
	for _, l := range n.links {
		if l.cur.hot != nil {
			t.Fatal("a keep-alive left cipher state behind")
		}
	}
	runtime.KeepAlive(n)
}

func BenchmarkHandshake(b *testing.B) {
	w := newWorld(b)
	w.latency = 0
	c, n := w.client(1), w.node(2)
	b.ReportAllocs()
	for b.Loop() {
		id := c.dial(n)
		w.run(time.Millisecond)
		c.wantUp(id)
		c.Close(w.now, id)
		w.run(time.Second)
		c.events, n.events = c.events[:0], n.events[:0]
	}
}

// Links tell what did not arrive: what newer datagrams overtook, less what came
// after all. A hostile counter tells no more than a window.
func TestLossIsCounted(t *testing.T) {
	w, c, n, ic, _ := pair(t)
	before := *n.counts
	var sent [][]byte
	for i := range 100 {
		sent = append(sent, sealOne(c, ic, fmt.Sprint(i)))
	}
	for i, b := range sent {
		if i%10 != 5 {
			n.HandleDatagram(w.now, c.addr, b)
		}
	}
	n.HandleDatagram(w.now, c.addr, sent[25])
	n.HandleDatagram(w.now, c.addr, sent[35])
	n.HandleDatagram(w.now, c.addr, sent[35]) // a replay is no arrival
	after := *n.counts
	if missed, late := after[trace.LinkMissed]-before[trace.LinkMissed], after[trace.LinkLate]-before[trace.LinkLate]; missed != 10 || late != 2 {
		t.Errorf("%d missed and %d late, want 10 and 2", missed, late)
	}
	lostBefore, sentBefore := before.PacketLoss()
	if lost, all := after.PacketLoss(); lost-lostBefore != 8 || all-sentBefore != 100 {
		t.Errorf("%d of %d lost, want 8 of 100", lost-lostBefore, all-sentBefore)
	}
	for _, k := range c.byIndex {
		k.sent += 1 << 40
	}
	n.HandleDatagram(w.now, c.addr, sealOne(c, ic, "far"))
	if missed := n.counts[trace.LinkMissed] - after[trace.LinkMissed]; missed != windowSize {
		t.Errorf("a counter far ahead tells %d losses", missed)
	}
}
