package mix

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// opened is the next cell that came home, opened.
func (n *testNet) opened(r *Route) (Back, bool) {
	n.t.Helper()
	if len(n.home) == 0 {
		n.t.Fatal("nothing came home")
	}
	f := n.home[0]
	n.home = n.home[1:]
	return r.Open(n.now, f)
}

// Property 3: after the set-up no hop and no client can, or needs to, do a
// public-key operation: the keys are taken away, and cells go on. The control
// is a set-up, which without them fails.
func TestCellsNeedNoPublicKeyOperation(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.Fast, nil, 61)
	for _, node := range n.nodes {
		node.onions = [onionKeys]*onionKey{}
		node.jobs = 0
	}
	for i := range uint64(1000) {
		n.send(r, packetOf(i))
		n.end().SendBack(n.now, n.lastEnd(), packetOf(i))
		n.run()
		if b, ok := n.opened(r); !ok || b.Kind != BackPacket {
			t.Fatalf("cell %d came back as %+v", i, b)
		}
	}
	for i, node := range n.nodes {
		if node.jobs != 0 || n.drops(i) != 0 {
			t.Errorf("hop %d made %d jobs and %d drops of 2000 cells", i, node.jobs, n.drops(i))
		}
	}
	n.wantCount(4, trace.CellDelivered, 1000)
	_, train, _ := Build(n.specs(0), wire.Fast, time.Minute, nil, prng.FromUint64(62))
	n.sendTrain(train)
	n.run()
	if n.nodes[0].jobs != 1 || n.drops(0) != 1 {
		t.Errorf("a set-up made %d jobs and %d drops without an onion key", n.nodes[0].jobs, n.drops(0))
	}
}

func TestDropAndLoopEndWhereTheyShould(t *testing.T) {
	const hops = 5
	n := newNet(t, hops, Limits{})
	r := n.open(wire.Standard, nil, 63)
	for p := range hops {
		var f wire.Frame
		if !r.SealDrop(&f, p) {
			t.Fatal("the route does not seal")
		}
		n.carry(0, true, f.B[:])
		n.run()
		n.wantCount(p, trace.CellDropped, 1)

		r.SealLoop(&f, p, uint64(p)<<40|7)
		n.carry(0, true, f.B[:])
		n.run()
		n.wantCount(p, trace.CellDropped, 2)
		if b, ok := n.opened(r); !ok || b.Kind != BackLoop || b.Position != p || b.Echo != uint64(p)<<40|7 {
			t.Errorf("loop to hop %d came back as %+v, %v", p, b, ok)
		}
	}
	if len(n.home) != 0 || len(n.end().deliveries) != 1 {
		t.Errorf("%d cells too many came back, %d deliveries", len(n.home), len(n.end().deliveries)-1)
	}
	for i := range hops {
		if n.drops(i) != 0 {
			t.Errorf("hop %d dropped %d", i, n.drops(i))
		}
	}
	n.settled()
}

func TestCloseEndsTheRouteEverywhere(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Extreme} {
		n := newNet(t, level.Hops(), Limits{})
		r := n.open(level, nil, 64)
		n.send(r, packetOf(1))
		var f wire.Frame
		r.SealClose(&f)
		n.carry(0, true, f.B[:])
		n.run()
		n.advance(3 * time.Second)
		d := n.end().deliveries
		if len(d) != 3 || d[1].Kind != Packet || d[2].Kind != Closed || d[2].Route != d[0].Route {
			t.Errorf("%v: %d deliveries after the close, want a packet, then the end", level, len(d)-1)
		}
		for i, node := range n.nodes {
			n.wantCount(i, trace.RoutesClosed, 1)
			if node.Routes() != 0 || len(node.back) != 0 || node.wheel.count != 0 {
				t.Errorf("%v: hop %d still has the route", level, i)
			}
		}
		if n.end().SendBack(n.now, d[0].Route, packetOf(1)) {
			t.Errorf("%v: a closed route took a packet", level)
		}
		n.send(r, packetOf(2))
		n.wantCount(0, trace.DropCellRoute, 1)
		r.Close()
		if r.Seal(&f, packetOf(1), 0) || r.hops[0].keys != (hopKeys{}) {
			t.Error("a closed route seals, or keeps its keys")
		}
		n.settled()
	}
}

// Cells that were sent before the close and are overtaken by it still arrive.
func TestCloseWaitsForOvertakenCells(t *testing.T) {
	n := newNet(t, 7, Limits{})
	r := n.open(wire.Extreme, nil, 65)
	for i := range uint64(300) {
		n.send(r, packetOf(i))
	}
	var f wire.Frame
	r.SealClose(&f)
	n.carry(0, true, f.B[:])
	n.run()
	if got := n.end().counts[trace.CellDelivered]; got != 300 {
		t.Errorf("%d of 300 cells arrived beside the close", got)
	}
}

func TestCloseEndIsQuiet(t *testing.T) {
	n := newNet(t, 3, Limits{})
	r := n.open(wire.Fast, nil, 66)
	end := n.lastEnd()
	n.end().CloseEnd(n.now, end)
	n.end().CloseEnd(n.now, end)
	n.end().CloseEnd(n.now, End{})
	n.send(r, packetOf(1))
	n.run()
	n.wantCount(2, trace.DropCellRoute, 1)
	n.wantCount(2, trace.RoutesClosed, 1)
	if len(n.end().deliveries) != 1 || end.r.keys != (cellKeys{}) || n.end().SendBack(n.now, end, packetOf(1)) {
		t.Error("the end was told of its own close, or keeps keys")
	}
}

func TestNackWhenTheQueueIsFull(t *testing.T) {
	n := newNet(t, 5, Limits{Queue: 50})
	r := n.open(wire.Extreme, nil, 67)
	sent := map[uint32]bool{}
	n.tap = func(at int, out bool, f []byte) bool {
		if at == 1 && out {
			sent[wire.CellCounter(f)] = true
		}
		return true
	}
	for i := range uint64(80) {
		n.send(r, packetOf(i))
		for n.step() {
		}
	}
	n.wantCount(1, trace.DropCellQueue, 30)
	n.wantCount(1, trace.NackSent, 30)
	n.run()
	if len(n.home) != 30 {
		t.Fatalf("%d NACKs came home, want 30", len(n.home))
	}
	for len(n.home) > 0 {
		b, ok := n.opened(r)
		if !ok || b.Kind != BackNack || b.Position != 1 || b.Reason != wire.NackQueueFull || !sent[b.Counter] {
			t.Fatalf("a NACK came as %+v, %v", b, ok)
		}
		delete(sent, b.Counter)
	}
	if r.Counts[trace.NackReceived] != 30 || n.end().counts[trace.CellDelivered] != 50 {
		t.Errorf("%d NACKs counted, %d cells delivered", r.Counts[trace.NackReceived], n.end().counts[trace.CellDelivered])
	}
	n.settled()
}

// When even the reserve is used up, nothing more is queued.
func TestQueueIsBounded(t *testing.T) {
	n := newNet(t, 3, Limits{Queue: 20})
	r := n.open(wire.Extreme, nil, 68)
	for i := range uint64(3000) {
		var f wire.Frame
		r.Seal(&f, packetOf(i), 0)
		n.carry(0, true, f.B[:]) // no step: nobody polls
	}
	if q := n.nodes[0].Queued(); q != 20+nackReserve+1 {
		t.Errorf("%d frames are queued", q)
	}
	if n.nodes[0].SendBack(0, End{}, packetOf(1)) {
		t.Error("a packet was sent nowhere")
	}
}

// A NACK names the packet that was dropped, and only one that this route carried
// not long ago.
func TestNackNamesThePacket(t *testing.T) {
	n := newNet(t, 4, Limits{})
	r := n.open(wire.Fast, nil, 71)
	drop := uint64(0)
	n.nodes[1].cfg.Room = func(id link.ID) bool { return id != toward(2) || drop == 0 }
	p := packetOf(1)
	send := func(number uint64) {
		wire.PutSessionHeader(p, wire.SessionData, 1, number)
		n.send(r, p)
		n.run()
	}
	for number := range uint64(20) {
		drop = number % 7 / 6
		send(number)
		if drop == 0 {
			continue
		}
		b, ok := n.opened(r)
		if got, known := r.Dropped(b); !ok || !known || uint64(got) != number {
			t.Errorf("packet %d was dropped, the NACK names %d, %v", number, got, known)
		}
		b.Counter--
		if got, known := r.Dropped(b); known && uint64(got) == number {
			t.Error("another counter names the same packet")
		}
	}
	drop = 1
	send(100)
	b, _ := n.opened(r)
	for range sentMax {
		var f wire.Frame
		r.Seal(&f, p, 0)
	}
	if _, known := r.Dropped(b); known {
		t.Error("a packet of long ago is known")
	}
	r.Close()
	if _, known := r.Dropped(b); known {
		t.Error("a closed route knows its packets")
	}
}

func TestNackWhenALinkTakesNoMoreOrIsGone(t *testing.T) {
	n := newNet(t, 4, Limits{})
	r := n.open(wire.Fast, nil, 69)
	full := true
	n.nodes[1].cfg.Room = func(id link.ID) bool { return id != toward(2) || !full }
	n.send(r, packetOf(1))
	n.run()
	if b, ok := n.opened(r); !ok || b.Kind != BackNack || b.Position != 1 || b.Reason != wire.NackQueueFull {
		t.Errorf("a full link is told as %+v, %v", b, ok)
	}
	full = false
	n.send(r, packetOf(2))
	n.run()
	n.wantCount(3, trace.CellDelivered, 1)

	n.nodes[1].LinkDown(n.now, toward(2))
	n.nodes[1].LinkDown(n.now, toward(2))
	n.run()
	if b, ok := n.opened(r); !ok || b.Reason != wire.NackLinkGone || b.Counter != 0 {
		t.Errorf("a lost link is told as %+v, %v", b, ok)
	}
	n.send(r, packetOf(3))
	n.run()
	if b, ok := n.opened(r); !ok || b.Reason != wire.NackLinkGone || b.Counter == 0 || b.Position != 1 {
		t.Errorf("a cell over a lost link is told as %+v, %v", b, ok)
	}
	// Towards the client there is nobody to tell: the route ends.
	n.nodes[2].LinkDown(n.now, toward(2))
	n.nodes[3].LinkDown(n.now, toward(3))
	n.nodes[3].LinkDown(n.now, 12345)
	n.run()
	if d := n.end().deliveries; d[len(d)-1].Kind != Closed || n.nodes[2].Routes() != 0 || n.nodes[3].Routes() != 0 {
		t.Error("the end of the route does not know of the lost link")
	}
	n.advance(11 * time.Minute)
	for i, node := range n.nodes {
		if i > 0 && len(node.links) > 1 || node.Routes() != 0 {
			t.Errorf("hop %d still knows %d links", i, len(node.links))
		}
	}
	n.settled()
}

// The other packets, full rooms and wrong commands: all are counted drops.
func TestWhatTheClientMaySealAndTheHopRefuse(t *testing.T) {
	n := newNet(t, 3, Limits{})
	r := n.open(wire.Fast, nil, 70)
	bad := []struct {
		position int
		command  wire.Command
		content  []byte
	}{
		{0, wire.CommandDeliver, nil},                             // a mix is no end
		{1, 9, nil},                                               // no such command
		{2, wire.CommandRelay, nil},                               // nothing follows
		{2, wire.CommandDrop, []byte{1}},                          // cover is empty
		{1, wire.CommandLoop, make([]byte, 9)[:9:9]},              // fine: echo and zero
		{2, wire.CommandLoop, []byte{8: 1}},                       // nine bytes of echo
		{2, wire.CommandDeliver, append(packetOf(1), 0, 0, 0, 1)}, // longer than a packet
	}
	for i, c := range bad {
		var f wire.Frame
		before := n.drops(c.position)
		r.seal(&f, c.position, c.command, 0, c.content, 0)
		n.carry(0, true, f.B[:])
		n.run()
		want := before + 1
		if i == 4 {
			want = before
		}
		if n.drops(c.position) != want {
			t.Errorf("case %d: %d drops", i, n.drops(c.position)-before)
		}
	}
	n.nodes[1].HandleFrame(n.now, toward(1), make([]byte, wire.LinkPayloadSize))
	n.wantCount(1, trace.DropCellMalformed, 2)
	if len(n.end().deliveries) != 1 {
		t.Error("a bad cell was delivered")
	}
	n.end().cfg.Room = func(link.ID) bool { return false }
	if n.end().SendBack(n.now, n.lastEnd(), packetOf(1)) {
		t.Error("a packet was taken for a full link")
	}
	n.end().cfg.Room = nil
	n.end().SendBack(n.now, n.lastEnd(), packetOf(1))
	n.nodes[1].cfg.Room = func(link.ID) bool { return false }
	n.run()
	n.wantCount(1, trace.DropCellQueue, 1)
	n.settled()
}

// The same for cells that a hop makes up for the client.
func TestWhatAHopMaySealAndTheClientRefuse(t *testing.T) {
	n := newNet(t, 3, Limits{})
	r := n.open(wire.Fast, nil, 71)
	hop := n.nodes[1]
	rt := hop.forward[keyOf(toward(1), onlyID(hop))]
	for i, c := range []struct {
		command wire.BackCommand
		content []byte
	}{
		{wire.BackPacket, nil},
		{wire.BackNack, []byte{9, 0, 0, 0, 1}},
		{wire.BackNack, []byte{1, 0, 0, 0, 1, 1}},
		{wire.BackLoop, []byte{8: 1}},
		{0x7f, nil},
	} {
		f := hop.backFrame(rt, c.command)
		copy(f.B[contentAt:], c.content)
		hop.sendBack(n.now, rt, f)
		n.run()
		if b, ok := n.opened(r); ok || b.Kind != BackFault || b.Position != 1 || b.Drop != trace.DropCellMalformed {
			t.Errorf("case %d: %+v, %v", i, b, ok)
		}
	}
	f := hop.backFrame(rt, wire.BackLoop)
	f.B[wire.CellOffset+1] = 1 // a delay is not for the client
	hop.sendBack(n.now, rt, f)
	last := n.end().forward[keyOf(toward(2), onlyID(n.end()))]
	n.end().sendBack(n.now, last, n.end().backFrame(last, wire.BackRelay))
	n.run()
	for _, position := range []int{1, 2} {
		if b, ok := n.opened(r); ok || b.Position != position || b.Drop != trace.DropCellMalformed {
			t.Errorf("hop %d: %+v, %v", position, b, ok)
		}
	}
	if _, ok := r.Open(0, make([]byte, 9)); ok || r.Counts[trace.DropCellMalformed] != 7 {
		t.Errorf("%d malformed cells counted", r.Counts[trace.DropCellMalformed])
	}
	n.settled()
}

// A direction whose counters are spent seals no more: a nonce never repeats.
func TestSpentCountersSealNoMore(t *testing.T) {
	n := newNet(t, 3, Limits{})
	r := n.open(wire.Fast, nil, 72)
	r.hops[2].counter = ^uint32(0) - 10
	var f wire.Frame
	sealed := 0
	for sealed < 20 && r.Seal(&f, packetOf(1), 0) {
		sealed++
	}
	if sealed == 0 || sealed > 10 || r.hops[2].counter < ^uint32(0)-10 || !r.SealDrop(&f, 1) {
		t.Errorf("%d cells sealed with ten counters left, next %d", sealed, r.hops[2].counter)
	}
	end := n.lastEnd()
	end.r.backCounter = ^uint32(0) - 10
	sent := 0
	for sent < 20 && n.end().SendBack(n.now, end, packetOf(1)) {
		sent++
	}
	if sent == 0 || sent > 10 {
		t.Errorf("%d packets sent back with ten counters left", sent)
	}
	n.run()
	mid := n.nodes[1].forward[keyOf(toward(1), onlyID(n.nodes[1]))]
	mid.forgetBack()
	mid.backCounter, end.r.backCounter = ^uint32(0), 1<<30
	n.end().SendBack(n.now, end, packetOf(1))
	n.run()
	n.wantCount(1, trace.DropCellRoute, 1)
	n.settled()
}
