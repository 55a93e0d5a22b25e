package mix

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// caught runs one cell to link at and returns it, taken off the wire there.
func (n *testNet) caught(at int, out bool, send func()) []byte {
	n.t.Helper()
	var frame []byte
	n.tap = func(a int, o bool, f []byte) bool {
		if a != at || o != out {
			return true
		}
		frame = append([]byte(nil), f...)
		return false
	}
	send()
	n.run()
	n.tap = nil
	if frame == nil {
		n.t.Fatalf("no cell came to link %d", at)
	}
	return frame
}

// Property 5, on the way out: whatever bit of a cell is changed, and wherever,
// the next hop drops and counts it and nothing leaves.
func TestEveryFlippedBitIsDroppedByTheNextHop(t *testing.T) {
	const hops = 5
	for at := range hops {
		n := newNet(t, hops, Limits{Setups: 1 << 20, SetupsPerLink: 1 << 20})
		r := n.open(wire.Fast, nil, 21)
		frame := n.caught(at, true, func() { n.send(r, packetOf(1)) })
		n.advance(trainTimeout) // its frames are no longer late parts of the set-up
		before := len(n.end().deliveries)
		for bit := range len(frame) * 8 {
			drops := n.drops(at)
			spoilt := append([]byte(nil), frame...)
			spoilt[bit/8] ^= 1 << (bit % 8)
			n.carry(at, true, spoilt)
			if bit < 8 && n.nodes[at].trains.head != nil {
				n.advance(trainTimeout) // it became part of a train that never ends
			}
			if n.step() || n.drops(at) != drops+1 {
				t.Fatalf("link %d: bit %d flipped: %d drops", at, bit, n.drops(at)-drops)
			}
		}
		for short := range 40 {
			n.nodes[at].HandleFrame(n.now, toward(at), frame[:short*32])
			if n.step() {
				t.Fatalf("link %d: a cell of %d bytes was passed on", at, short*32)
			}
		}
		// The control: unchanged, it goes through, so the flips were what
		// stopped it; then, as a replay, no more.
		n.carry(at, true, append([]byte(nil), frame...))
		n.run()
		if got := len(n.end().deliveries) - before; got != 1 {
			t.Fatalf("link %d: the unchanged cell made %d deliveries", at, got)
		}
		replays := n.nodes[at].counts[trace.DropCellReplay]
		n.carry(at, true, append([]byte(nil), frame...))
		n.run()
		n.wantCount(at, trace.DropCellReplay, replays+1)
		if got := len(n.end().deliveries) - before; got != 1 {
			t.Errorf("link %d: the replay was delivered", at)
		}
		n.settled()
	}
}

// On the way back the client finds the change, and between which hops it was
// made: the hop before passes it on, sealed, as it cannot know.
func TestClientFindsWhereABackCellWasChanged(t *testing.T) {
	const hops = 5
	for at := 1; at < hops; at++ {
		n := newNet(t, hops, Limits{})
		r := n.open(wire.Fast, nil, 22)
		frame := n.caught(at, false, func() { n.end().SendBack(n.now, n.lastEnd(), packetOf(2)) })
		end := wire.CellOffset + wire.LayerSize(at)
		for bit := 0; bit < len(frame)*8; bit += 3 {
			spoilt := append([]byte(nil), frame...)
			spoilt[bit/8] ^= 1 << (bit % 8)
			drops := n.drops(at - 1)
			hop := n.nodes[at-1].back[keyOf(toward(at), wire.FrameRouteID(frame))]
			hop.forgetBack() // a flipped counter moves it, to the sender's loss
			n.home = nil
			n.carry(at, false, spoilt)
			n.run()
			if len(n.home) == 0 {
				if n.nodes[at-1].trains.head != nil {
					n.advance(trainTimeout)
				}
				if n.drops(at-1) != drops+1 || bit >= 9*8 && bit < end*8 {
					t.Fatalf("link %d: bit %d flipped: no cell came and %d were counted", at, bit, n.drops(at-1)-drops)
				}
				continue
			}
			if b, ok := r.Open(n.now, n.home[0]); ok || b.Kind != BackFault || b.Position != at {
				t.Fatalf("link %d: bit %d flipped: the client got %+v, %v", at, bit, b, ok)
			}
		}
		n.home = nil
		n.nodes[at-1].back[keyOf(toward(at), wire.FrameRouteID(frame))].forgetBack()
		for range 2 { // the second is a replay, which the hop drops
			n.carry(at, false, append([]byte(nil), frame...))
			n.run()
		}
		if len(n.home) != 1 {
			t.Fatalf("link %d: %d cells came of one and its replay", at, len(n.home))
		}
		if b, ok := r.Open(n.now, n.home[0]); !ok || b.Kind != BackPacket {
			t.Errorf("link %d: the unchanged cell gave %+v, %v", at, b, ok)
		}
		n.settled()
	}
}

// A hop that replays an inner cell under fresh outer layers is found too: the
// client keeps a window for each hop's layer.
func TestClientFindsAReplayBehindFreshLayers(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.Fast, nil, 23)
	frame := n.caught(3, false, func() { n.end().SendBack(n.now, n.lastEnd(), packetOf(2)) })
	for i := range 3 {
		n.nodes[2].back[keyOf(toward(3), wire.FrameRouteID(frame))].forgetBack()
		n.home = nil
		n.carry(3, false, append([]byte(nil), frame...))
		n.run()
		b, ok := r.Open(n.now, n.home[0])
		if ok != (i == 0) || !ok && b.Position != 3 {
			t.Fatalf("time %d: %+v, %v", i, b, ok)
		}
	}
	if r.Counts[trace.DropCellReplay] != 2 {
		t.Errorf("%d replays counted", r.Counts[trace.DropCellReplay])
	}
	if _, ok := r.Open(n.now, append([]byte(nil), n.home[0]...)); ok {
		t.Error("a frame was opened twice")
	}
}

func TestTooOldCellsAreDropped(t *testing.T) {
	n := newNet(t, 3, Limits{})
	r := n.open(wire.Fast, nil, 24)
	old := n.caught(0, true, func() { n.send(r, packetOf(1)) })
	for range 2000 { // slow enough that the window stays at its least
		n.now = n.now.Add(100 * time.Millisecond)
		var f wire.Frame
		r.SealDrop(&f, 0)
		n.carry(0, true, f.B[:])
	}
	before := n.nodes[0].counts[trace.DropCellReplay]
	n.carry(0, true, old)
	n.wantCount(0, trace.DropCellReplay, before+1)
}

// Set-ups are dropped at the second appearance, by the same hop and by the
// next, also by another train id, over another link, and after a restart with
// its record. Without the record (the control) they would be taken.
func TestSetupReplayIsDropped(t *testing.T) {
	n := newNet(t, 3, Limits{})
	_, train, err := Build(n.specs(0), wire.Fast, time.Minute, nil, prng.FromUint64(31))
	if err != nil {
		t.Fatal(err)
	}
	n.sendTrain(train)
	n.run()
	var kept [][]ReplayTag
	for _, node := range n.nodes {
		var tags []ReplayTag
		for {
			r, ok := node.PollReplay()
			if !ok {
				break
			}
			tags = append(tags, r)
		}
		kept = append(kept, tags)
	}
	again := func(want trace.Counter, value uint64) {
		t.Helper()
		n.advance(2 * time.Minute) // the route is over, the record is not
		train.id++
		n.sendTrain(train)
		n.run()
		n.wantCount(0, want, value)
	}
	again(trace.DropSetupReplay, 1)
	n.nodes[0].RotateOnion(n.now, testKey(t, 99))
	again(trace.DropSetupReplay, 2)

	restart := func(tags []ReplayTag) {
		node := n.nodes[0]
		node.counts = trace.Counts{}
		node.Table = NewTable(n.config(0, node.private, Limits{}), prng.FromUint64(5), &node.pool, &node.counts)
		node.RotateOnion(n.now, testKey(t, 99))
		for _, r := range tags {
			node.LoadReplay(r)
		}
	}
	restart(kept[0])
	again(trace.DropSetupReplay, 1)
	n.wantCount(0, trace.SetupDone, 0)
	restart(nil)
	again(trace.SetupDone, 1)
	n.wantCount(1, trace.DropSetupReplay, 1)
	restart(kept[1])
	again(trace.SetupDone, 1)
}

// Two copies of one set-up in work at once: the second is dropped.
func TestSetupReplayDuringTheJobIsDropped(t *testing.T) {
	n := newNet(t, 3, Limits{})
	_, train, _ := Build(n.specs(0), wire.Fast, time.Minute, nil, prng.FromUint64(32))
	n.sendTrain(train)
	train.id++
	n.sendTrain(train)
	n.run()
	n.wantCount(0, trace.SetupIn, 2)
	n.wantCount(0, trace.SetupDone, 1)
	n.wantCount(0, trace.DropSetupReplay, 1)
}

// Flips all over a set-up: each is dropped by the hop that gets it. (All
// 89,712 bits take a minute; every byte of the short parts and a sample of the
// long ones take a second.)
func TestEveryFlippedPartOfASetupIsDropped(t *testing.T) {
	n := newNet(t, 3, Limits{Setups: 1 << 30, SetupsPerLink: 1 << 30})
	key := n.nodes[0].private
	_, train, _ := Build(n.specs(0), wire.Fast, time.Minute, []byte("first"), prng.FromUint64(33))
	rng := prng.FromUint64(34).Stream("bits")
	for at := alphaAt; at < onionSize; at++ {
		if step := 7; at >= alphaAt+32 && (at < gammaAt || at >= betaAt) && at%step != 0 {
			continue
		}
		o := train.onion
		o[at] ^= 1 << rng.IntN(8)
		if _, _, result := peel(&o, key); result != peelAuth && result != peelKey {
			t.Fatalf("byte %d changed: peels to %d", at, result)
		}
	}
	o := train.onion
	o[alphaAt+31] ^= 0x80 // the bit that X25519 ignores
	if _, _, result := peel(&o, key); result != peelAuth {
		t.Errorf("the ignored bit changed: peels to %d", result)
	}
	o = train.onion
	if _, _, result := peel(&o, key); result != peelDone {
		t.Errorf("unchanged: peels to %d", result)
	}
}

// Points of low order and garbage are counted drops.
func TestBadKeysAreCountedDrops(t *testing.T) {
	n := newNet(t, 3, Limits{})
	send := func(spoil func(o *onion)) {
		_, train, _ := Build(n.specs(0), wire.Fast, time.Minute, nil, prng.FromUint64(uint64(n.nodes[0].counts[trace.SetupIn])))
		train.id += uint32(n.nodes[0].counts[trace.SetupIn])
		spoil(&train.onion)
		encodeTrain(train.onion.packet(), &train.parity)
		n.sendTrain(train)
		n.run()
	}
	zero := func(o *onion) { clear(o[alphaAt : alphaAt+32]) }
	one := func(o *onion) { zero(o); o[alphaAt] = 1 }
	send(zero)
	send(one)
	n.wantCount(0, trace.DropSetupMalformed, 2)
	send(func(o *onion) { clear(o[alphaAt+32 : gammaAt]) })
	send(func(o *onion) { prng.FromUint64(8).Stream("garbage").Read(o[:]) })
	n.wantCount(0, trace.DropSetupAuth, 2)
	n.wantCount(0, trace.SetupDone, 0)
	send(func(*onion) {})
	n.wantCount(0, trace.SetupDone, 1)
	n.settled()
}

// FuzzHop throws arbitrary frames at a hop with a live route; nothing may
// leave but what the route's client sealed.
func FuzzHop(f *testing.F) {
	f.Add(uint8(17), []byte{1, 2, 3}, false)
	f.Add(uint8(18), []byte{0}, true)
	f.Add(uint8(16), []byte{0, 11}, true)
	n := newNet(f, 3, Limits{})
	r := n.open(wire.Fast, nil, 41)
	f.Fuzz(func(t *testing.T, kind uint8, body []byte, known bool) {
		frame := make([]byte, wire.LinkPayloadSize)
		frame[0] = kind
		copy(frame[1:], body)
		if known {
			wire.PutFrameHeader(frame, wire.FrameType(kind), r.ID())
		}
		n.nodes[0].HandleFrame(0, toward(0), frame)
		if _, ok := n.nodes[0].PollDeliver(); ok {
			t.Fatal("a made-up frame was delivered")
		}
		if _, _, ok := n.nodes[0].PollSend(0); ok {
			t.Fatal("a made-up frame was passed on")
		}
	})
}

// FuzzOpen throws arbitrary frames at a client.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	n := newNet(f, 3, Limits{})
	r := n.open(wire.Fast, nil, 42)
	f.Fuzz(func(t *testing.T, body []byte) {
		frame := make([]byte, wire.LinkPayloadSize)
		wire.PutFrameHeader(frame, wire.FrameBack, r.ID())
		copy(frame[wire.FrameHeaderSize:], body)
		if _, ok := r.Open(machine.Time(0), frame); ok {
			t.Fatal("a made-up cell was opened")
		}
	})
}
