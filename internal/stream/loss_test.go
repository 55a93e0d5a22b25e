package stream

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// The last packet of a request is lost: no later one shows it, the probe timer
// brings it again.
func TestTailLossIsRecoveredByAProbe(t *testing.T) {
	w := established(t, 1, Config{}, Config{})
	a := newApp(w)
	a.answers = true
	w.run(time.Second)
	lost := false
	w.rewrite = func(fromClient bool, _ uint8, b []byte) []byte {
		if fromClient && !lost {
			lost = true
			return nil
		}
		return b
	}
	begin := w.now
	a.open(800, 10, PriorityNormal)
	w.until(2*time.Second, a.done)
	if !lost || w.now.Sub(begin) > 80*time.Millisecond {
		t.Errorf("recovered after %v on a route of 20 ms", w.now.Sub(begin))
	}
	a.finish(time.Second)
}

// What arrived by another packet is not sent again.
func TestOnlyWhatIsMissingIsSentAgain(t *testing.T) {
	l := newLoop(t, Config{}, Config{})
	id, _ := l.client.OpenStream(l.now, PriorityNormal)
	l.client.Write(l.now, id, make([]byte, 10_000))
	for l.client.PollPacket(l.now, 0, l.b[:]) {
	}
	st := l.client.streams.get(id)
	l.client.streamArrived(l.now, st, 3000, 5000, false)
	l.client.streamArrived(l.now, st, 0, 1000, false)
	if !l.client.streamLost(st, 500, 6000, false) || l.client.streamLost(st, 3500, 4500, false) {
		t.Error("queued what arrived, or not what did not")
	}
	if n := l.client.send.backlog; n != 3000 || len(st.out.lost) != 2 {
		t.Errorf("%d bytes queued again in %d pieces, want 3000 in 2", n, len(st.out.lost))
	}
}

// A whole window's tail is lost several times over, probes included.
func TestRepeatedTailLoss(t *testing.T) {
	w := established(t, 1, Config{}, Config{})
	a := newApp(w)
	a.open(20_000, 20_000, PriorityNormal)
	n := 0
	w.rewrite = func(bool, uint8, []byte) []byte { n++; return nil }
	w.run(700 * time.Millisecond)
	w.rewrite = nil
	if n < 4 {
		t.Fatalf("only %d packets tried", n)
	}
	a.finish(10 * time.Second)
}

// On a route whose delays vary widely the first packets taken for lost were
// only late; the delay that is waited for grows, and it happens no more.
func TestSpuriousRetransmissionsShrinkAfterAdaptation(t *testing.T) {
	cfg := Config{Congestion: congestion.Fixed, FixedRate: 1 << 20}
	w := established(t, 1, cfg, cfg)
	w.routes[0].jitter = 25 * time.Millisecond
	a := newApp(w)
	id := a.open(20<<20, 0, PriorityNormal)
	var rate [4]float64
	for i := range rate {
		before := w.client.Stats()
		w.run(4 * time.Second)
		after := w.client.Stats()
		rate[i] = float64(after.Spurious-before.Spurious) / float64(after.PacketsSent-before.PacketsSent)
	}
	t.Logf("spurious share per 4 s: %.4f, loss delay %v, rtt %v", rate, w.client.Stats().LossDelay, w.client.Stats().RTT)
	if rate[3] > 0.005 || rate[3] > rate[0]/3 {
		t.Errorf("spurious share per 4 s: %.4f", rate)
	}
	if w.ccounts[trace.SpuriousRetransmit] != w.client.Stats().Spurious || w.ccounts[trace.SpuriousRetransmit] == 0 {
		t.Errorf("counted %d", w.ccounts[trace.SpuriousRetransmit])
	}
	if a.flows[id].upGot.Len() == 0 {
		t.Error("nothing arrived")
	}
}

// The delay that spurious losses taught is given up again on a calm route.
func TestLossDelayComesDownAgain(t *testing.T) {
	cfg := Config{Congestion: congestion.Fixed, FixedRate: 8 << 20}
	w := established(t, 1, cfg, cfg)
	a := newApp(w)
	w.client.track(0).rtt.extra = 500 * time.Millisecond
	a.open(200<<20, 0, PriorityNormal)
	w.run(20 * time.Second)
	if e := w.client.track(0).rtt.extra; e > 200*time.Millisecond {
		t.Errorf("still %v", e)
	}
}

// Every bit of a packet is flipped once; each time the packet is dropped and
// counted, and the transfer is whole.
func TestFlippedBitsAreDroppedAndCounted(t *testing.T) {
	w := established(t, 1, Config{}, Config{})
	a := newApp(w)
	var sample []byte
	w.rewrite = func(fromClient bool, _ uint8, b []byte) []byte {
		if fromClient && sample == nil {
			sample = bytes.Clone(b)
			return nil // the original arrives last
		}
		return b
	}
	a.open(500, 10, PriorityNormal)
	w.poll()
	w.rewrite = nil
	dropped := func() uint64 {
		c := &w.scounts
		return c[trace.DropSessionAuth] + c[trace.DropSessionReplay] + c[trace.DropSessionMalformed] + c[trace.DropSessionUnknown]
	}
	in := w.scounts[trace.SessionPacketIn]
	for bit := range len(sample) * 8 {
		before := dropped()
		bad := bytes.Clone(sample)
		bad[bit/8] ^= 1 << (bit % 8)
		w.server.HandlePacket(w.now, 0, bad)
		if dropped() != before+1 {
			t.Fatalf("bit %d: not counted", bit)
		}
	}
	if w.scounts[trace.SessionPacketIn] != in {
		t.Fatal("a changed packet was accepted")
	}
	w.server.HandlePacket(w.now, 0, bytes.Clone(sample))
	if w.scounts[trace.SessionPacketIn] != in+1 {
		t.Error("the unchanged packet was refused")
	}
	a.finish(2 * time.Second)
}

func TestReplaysAreDroppedAndCounted(t *testing.T) {
	w := established(t, 1, Config{}, Config{})
	a := newApp(w)
	var record [][]byte
	w.rewrite = func(fromClient bool, _ uint8, b []byte) []byte {
		if fromClient {
			record = append(record, bytes.Clone(b))
		}
		return b
	}
	a.open(100_000, 1000, PriorityNormal)
	w.until(2*time.Second, a.done)
	w.rewrite = nil
	w.run(100 * time.Millisecond)
	in, before := w.scounts[trace.SessionPacketIn], w.scounts[trace.DropSessionReplay]
	for _, b := range record {
		w.server.HandlePacket(w.now, 0, bytes.Clone(b))
	}
	if got := w.scounts[trace.DropSessionReplay] - before; got != uint64(len(record)) || w.scounts[trace.SessionPacketIn] != in {
		t.Errorf("%d of %d replays counted, %d accepted", got, len(record), w.scounts[trace.SessionPacketIn]-in)
	}
	w.run(10 * time.Second) // the session drops what it kept
	if w.server.arrived.runs != nil {
		t.Fatal("the record of arrivals was kept")
	}
	for _, b := range record {
		w.server.HandlePacket(w.now, 0, bytes.Clone(b))
	}
	if w.scounts[trace.SessionPacketIn] != in {
		t.Error("a replay was accepted after the sweep")
	}
	a.finish(2 * time.Second)
}

func TestPacketsForOthersAreDropped(t *testing.T) {
	w := established(t, 1, Config{}, Config{})
	w.run(2 * time.Second)
	var b [wire.SessionPacketSize]byte
	wire.PutSessionHeader(b[:], wire.SessionData, w.server.LocalID()+1, 5)
	w.server.HandlePacket(w.now, 0, b[:])
	b[0] = 77
	w.server.HandlePacket(w.now, 0, b[:])
	w.server.HandlePacket(w.now, 0, b[:20])
	w.server.HandlePacket(w.now, MaxPaths, b[:])
	wire.PutSessionHeader(b[:], wire.SessionEarly, w.server.LocalID(), 5)
	w.server.HandlePacket(w.now, 0, b[:])
	w.client.HandlePacket(w.now, 0, b[:])
	if c := w.scounts; c[trace.DropSessionUnknown] != 2 || c[trace.DropSessionMalformed] != 3 {
		t.Errorf("unknown %d, malformed %d", c[trace.DropSessionUnknown], c[trace.DropSessionMalformed])
	}
}

// Keys roll by volume and by time while data flows through loss and jitter,
// and a replaced key opens nothing once its time is over.
func TestRekeyUnderTraffic(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		most time.Duration
	}{
		{"volume", Config{RekeyBytes: 300_000, Congestion: congestion.Fixed, FixedRate: 4 << 20}, 0},
		{"time", Config{RekeyInterval: 500 * time.Millisecond, Congestion: congestion.Fixed, FixedRate: 4 << 20}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := established(t, 1, c.cfg, c.cfg)
			w.routes[0] = route{delay: 10 * time.Millisecond, jitter: 15 * time.Millisecond, loss: 50_000}
			a := newApp(w)
			a.open(8<<20, 8<<20, PriorityNormal)
			w.run(time.Second)
			old := w.client.out // the client's sending key of now
			w.until(30*time.Second, a.done)
			a.check()
			if n := w.client.Stats().Rekeys; n < 8 {
				t.Errorf("%d rekeys", n)
			}
			if n := w.scounts[trace.DropSessionAuth]; n != 0 {
				t.Errorf("%d packets refused in the course", n)
			}
			if old.key == w.client.out.key || old.key == w.server.in.key || w.server.in.old != nil && old.key == w.server.in.old.key {
				t.Error("the old key is still there")
			}
			replaced := w.server.in.old
			w.run(3 * time.Second)
			if w.server.in.oldUntil != 0 || w.server.in.old != nil || replaced != nil && replaced.key != (seal.Key{}) {
				t.Error("the replaced key was not overwritten")
			}
			forged := forge(w.client, &old, w.server.arrived.largest+1)
			in, auth := w.scounts[trace.SessionPacketIn], w.scounts[trace.DropSessionAuth]
			w.server.HandlePacket(w.now, 0, forged)
			if w.scounts[trace.SessionPacketIn] != in || w.scounts[trace.DropSessionAuth] != auth+1 {
				t.Error("a packet under an old key was accepted")
			}
			fresh := w.client.out
			w.server.HandlePacket(w.now, 0, forge(w.client, &fresh, w.server.arrived.largest+1))
			if w.scounts[trace.SessionPacketIn] != in+1 {
				t.Error("control: a packet under the present key was refused")
			}
		})
	}
}

// forge makes a PING of a session under a key of its past.
func forge(s *Session, k *sealing, pn uint64) []byte {
	b := make([]byte, wire.SessionPacketSize)
	kept, next := s.out, pn+1
	w := s.work
	s.work = &work{} // without the cipher state of the present key
	s.out = sealing{key: k.key, phase: k.phase, next: next}
	b[wire.SessionHeaderSize] = byte(wire.SFramePing)
	s.sealPacket(0, b)
	s.out, s.work = kept, w
	return b
}

// The defaults of the specification: 10 minutes and 1 GiB.
// Sessions that began together change keys within a tenth of the interval before
// its end, each at a moment of its own and a new one each time.
func TestRekeyMomentsSpread(t *testing.T) {
	moments := func(cfg Config) (buckets [20]int) {
		cfg, err := cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		s := &Session{cfg: &shared{Config: cfg}}
		key := seal.Key{1}
		for range 4000 {
			s.out.start(0, key)
			early := cfg.RekeyInterval - s.ageMax()
			if early < 0 || early >= cfg.RekeyInterval/10 {
				t.Fatalf("a key ends %v early", early)
			}
			buckets[early*20/(cfg.RekeyInterval/10)]++
			key = seal.Derive(&key, nextPhase)
		}
		return buckets
	}
	for i, n := range moments(Config{}) {
		if n < 120 || n > 280 {
			t.Errorf("%d of 4,000 keys end in part %d of 20", n, i)
		}
	}
	if control := moments(Config{RekeySpread: -1}); control[0] != 4000 {
		t.Errorf("control: %d of 4,000 keys end together", control[0])
	}
}

// What a change of keys adds to a round trip is measured where it happens.
func TestRekeyLatencyIsMeasured(t *testing.T) {
	var added []time.Duration
	cfg := Config{RekeyInterval: time.Second, Sink: func(e trace.Event) {
		if e.Kind == trace.KeyConfirmed {
			added = append(added, time.Duration(e.A))
		}
	}}
	w := established(t, 3, cfg, Config{})
	a := newApp(w)
	for range 20 {
		a.open(3_000, 3_000, PriorityNormal)
		w.run(250 * time.Millisecond)
	}
	if len(added) < 3 || w.ccounts[trace.Rekeys] < 3 {
		t.Fatalf("%d changes of keys were measured of %d", len(added), w.ccounts[trace.Rekeys])
	}
	if most := slices.Max(added); most > 30*time.Millisecond {
		t.Errorf("on a route of 20 ms both ways a change of keys added %v", most)
	}
}

func TestRekeyDefaults(t *testing.T) {
	cfg, err := Config{}.withDefaults()
	if err != nil || cfg.RekeyBytes != 1<<30 || cfg.RekeyInterval != 10*time.Minute {
		t.Errorf("rekey at %d bytes, %v", cfg.RekeyBytes, cfg.RekeyInterval)
	}
	w := established(t, 1, Config{IdleTimeout: -1}, Config{IdleTimeout: -1})
	a := newApp(w)
	a.open(10, 10, PriorityNormal)
	a.finish(time.Second)
	before := w.client.out.key
	w.run(10 * time.Minute)
	a.open(10, 10, PriorityNormal)
	a.finish(time.Second)
	if w.client.out.key == before || w.client.Stats().Rekeys == 0 {
		t.Error("the key of 10 minutes ago is still used")
	}
}

// Acknowledgements cross with data and never wait in front of it: with a
// window to spare, what is written leaves at the next poll.
func TestAcknowledgementsDoNotDelayData(t *testing.T) {
	w := established(t, 1, Config{}, Config{})
	a := newApp(w)
	a.open(200_000, 2_000_000, PriorityNormal)
	w.run(30 * time.Millisecond)
	w.until(time.Second, func() bool { return w.client.arrived.pending > 0 && w.client.Stats().Backlog == 0 })
	id, _ := w.client.OpenStream(w.now, PriorityHigh)
	a.flows[id] = &flow{}
	w.client.Write(w.now, id, []byte("now"))
	var b [wire.SessionPacketSize]byte
	if !w.client.PollPacket(w.now, 0, b[:]) || w.client.streams.get(id).out.next != 3 {
		t.Error("data did not leave in the next packet")
	}
	if w.client.arrived.pending != 0 {
		t.Error("the acknowledgement did not ride along")
	}
}

func TestAckDelayIsKept(t *testing.T) {
	w := established(t, 1, Config{}, Config{AckDelay: 7 * time.Millisecond})
	w.routes[0].delay = 0
	w.run(time.Second)
	var acked machine.Time
	w.rewrite = func(fromClient bool, _ uint8, b []byte) []byte {
		if !fromClient && acked == 0 {
			acked = w.now
		}
		return b
	}
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	begin := w.now
	w.client.Write(w.now, id, []byte("x"))
	w.run(100 * time.Millisecond)
	if d := acked.Sub(begin); d != 7*time.Millisecond {
		t.Errorf("acknowledged after %v", d)
	}
}

// What a faulty peer sends authentically but wrongly ends the session.
func TestFaultyFramesCloseTheSession(t *testing.T) {
	padded := make([]byte, wire.SessionPayloadSize)
	padded[0], padded[wire.SessionPayloadSize-1] = byte(wire.SFramePing), 1
	for name, c := range map[string]struct {
		payload []byte
		code    wire.Code
	}{
		"padding that is not zero":   {padded, wire.CodeProtocol},
		"unknown frame":              {[]byte{0x3f}, wire.CodeProtocol},
		"ack of what was never sent": {[]byte{2, 0x7f, 0xff, 0, 0, 0}, wire.CodeProtocol},
		"stream never opened":        {wire.AppendStreamHeader(nil, 1, 0, 0, true), wire.CodeProtocol},
		"reset never opened":         {wire.ResetFrame{Stream: 1}.Append(nil), wire.CodeProtocol},
		"stop never opened":          {wire.StopFrame{Stream: 1}.Append(nil), wire.CodeProtocol},
		"window never opened":        {wire.AppendMaxStreamData(nil, 1, 9), wire.CodeProtocol},
		"flow never opened":          {wire.DatagramFrame{Flow: 1}.Append(nil), wire.CodeProtocol},
		"data past the end":          {append(wire.AppendStreamHeader(wire.AppendStreamHeader(nil, 0, 0, 0, true), 0, 0, 1, false), 'x'), wire.CodeProtocol},
		"end before data":            {wire.AppendStreamHeader(append(wire.AppendStreamHeader(nil, 0, 0, 1, false), 'x'), 0, 0, 0, true), wire.CodeProtocol},
		"reset past the window":      {wire.ResetFrame{Stream: 0, Final: 1 << 40}.Append(nil), wire.CodeFlow},
	} {
		l := newLoop(t, Config{}, Config{})
		if len(c.payload) < wire.SessionPayloadSize {
			c.payload = append(c.payload, make([]byte, wire.SessionPayloadSize-len(c.payload))...)
		}
		l.server.accept(l.now, 0, l.server.arrived.largest+1, c.payload)
		if l.server.state != stateClosing || l.server.closing.code != c.code {
			t.Errorf("%s: state %d", name, l.server.state)
		} else if l.counts[trace.DropSessionMalformed] != 1 {
			t.Errorf("%s: not counted", name)
		}
	}
}

// A peer that sends and never acknowledges, or that cuts a stream into crumbs,
// cannot make this side hold more than its bounds.
func TestFaultyPeersAreBounded(t *testing.T) {
	l := newLoop(t, Config{}, Config{})
	id, _ := l.server.OpenStream(l.now, PriorityNormal)
	l.server.Write(l.now, id, []byte("never acknowledged"))
	ping := make([]byte, wire.SessionPayloadSize)
	ping[0] = byte(wire.SFramePing)
	for range 3 * recordsMax {
		l.server.accept(l.now, 0, l.server.arrived.largest+1, ping)
		if !l.server.PollPacket(l.now, 0, l.b[:]) {
			t.Fatal("no acknowledgement")
		}
	}
	if n := len(l.server.work.sent.rec); n > recordsMax {
		t.Errorf("%d records", n)
	}
	for offset := uint64(1); l.server.state == stateOpen; {
		var b [wire.SessionPayloadSize]byte
		p := b[:0]
		for len(p) < 1000 {
			p = append(wire.AppendStreamHeader(p, 0, offset, 1, false), 'x')
			offset += 2
		}
		if l.server.accept(l.now, 0, l.server.arrived.largest+1, b[:]); offset > 4*piecesMax {
			t.Fatal("a stream in crumbs is taken")
		}
	}
}

// What a hop tells that it dropped is sent again at once, and only once; without
// its word the sender waits for more than a round trip.
func TestToldDropsAreSentAgainAtOnce(t *testing.T) {
	for _, told := range []bool{true, false} {
		w := established(t, 5, Config{}, Config{})
		id, err := w.client.OpenStream(w.now, PriorityNormal)
		if err != nil {
			t.Fatal(err)
		}
		write := func(b []byte) {
			if n, err := w.client.Write(w.now, id, b); n != len(b) || err != nil {
				t.Fatal(n, err)
			}
		}
		write([]byte("before"))
		w.run(time.Second)
		lost := -1
		w.rewrite = func(fromClient bool, _ uint8, b []byte) []byte {
			if fromClient && lost < 0 && wire.SessionPacketKind(b) == wire.SessionData {
				lost = int(wire.SessionPacketNumber(b))
				return nil
			}
			return b
		}
		write(bytes.Repeat([]byte{1}, 5000))
		w.run(time.Millisecond)
		before := w.client.Stats().Retransmitted
		if lost < 0 || before != 0 {
			t.Fatalf("packet %d was lost, %d sent again", lost, before)
		}
		if told && !w.client.Dropped(w.now, uint32(lost)) {
			t.Error("the packet is not known")
		}
		if told && w.client.Dropped(w.now, uint32(lost)) || w.client.Dropped(w.now, uint32(lost)+1000) {
			t.Error("a packet was dropped twice, or one that was never sent")
		}
		w.run(10 * time.Millisecond)
		if again := w.client.Stats().Retransmitted; (again == 1) != told {
			t.Errorf("told %v: %d packets sent again", told, again)
		}
		w.run(5 * time.Second)
		if w.client.Stats().Spurious != 0 {
			t.Error("a packet was sent again for nothing")
		}
	}
}
