package stream

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// release is a version of the software, as its peer sees it.
type release struct {
	name string
	cfg  Config
}

// releases are those whose sessions must go together.
func releases() []release {
	return []release{
		{"first", Config{Without: []uint16{wire.CapDatagrams, wire.CapHeartbeats}, HeartbeatInterval: time.Second}},
		{"present", Config{HeartbeatInterval: time.Second}},
		{"strong", Config{KEM: seal.KEM1024, HeartbeatInterval: time.Second}},
		{"next", Config{KEM: seal.KEM1024, Optional: []uint16{40, 41}, HeartbeatInterval: time.Second}},
	}
}

// kems notes the KEM of each HELLO that leaves.
func (w *world) kems() *[]seal.KEM {
	var seen []seal.KEM
	last := w.rewrite
	w.rewrite = func(fromClient bool, path uint8, b []byte) []byte {
		if p, ok := wire.ParseSessionPart(b); ok && fromClient && wire.SessionPacketKind(b) == wire.SessionHello && p.Part == 0 {
			if k := seal.KEM(p.Chunk[1]); len(seen) == 0 || seen[len(seen)-1] != k {
				seen = append(seen, k)
			}
		}
		if last != nil {
			return last(fromClient, path, b)
		}
		return b
	}
	return &seen
}

// Every release as a client against every release as a responder: streams,
// heartbeats and, where both have them, datagrams; the KEM is the best that
// both have, and a first choice that is not taken costs one HELLO more.
func TestReleasesGoTogether(t *testing.T) {
	for _, c := range releases() {
		for _, s := range releases() {
			t.Run(c.name+" to "+s.name, func(t *testing.T) {
				w := newWorld(t, 11, c.cfg, s.cfg)
				kems := w.kems()
				a := newApp(w)
				a.open(4_000, 30_000, PriorityNormal)
				w.until(5*time.Second, a.done)
				a.check()
				w.on = nil
				long, _ := w.client.OpenStream(w.now, PriorityNormal)
				w.client.Write(w.now, long, []byte("stays open"))
				w.run(5 * time.Second) // heartbeats
				err := w.client.SendDatagram(w.now, long, []byte("once"))
				both := len(c.cfg.Without)+len(s.cfg.Without) == 0
				if both != (err == nil) || !both && !errors.Is(err, ErrNoDatagrams) {
					t.Errorf("datagram: %v", err)
				}
				w.run(time.Second)
				if !w.client.Established() || !w.server.Established() {
					t.Fatal("the session ended")
				}
				want := []seal.KEM{max(c.cfg.KEM, seal.KEM768)}
				if best := min(max(c.cfg.KEM, 1), max(s.cfg.KEM, 1)); best != want[0] {
					want = append(want, best)
				}
				if fmt.Sprint(*kems) != fmt.Sprint(want) {
					t.Errorf("HELLOs with KEMs %v, not %v", *kems, want)
				}
				beats := w.client.Stats().HeartbeatsReceived + w.server.Stats().HeartbeatsReceived
				if both != (beats > 0) {
					t.Errorf("%d heartbeats", beats)
				}
				for _, counts := range []*trace.Counts{&w.ccounts, &w.scounts} {
					if counts[trace.VersionMismatch]+counts[trace.ClientVersionErrors] != 0 {
						t.Error("a mismatch was counted")
					}
				}
				if w.scounts[trace.PQHandshakeSuccess] != 1 || w.scounts[trace.HandshakesRefused] != uint64(len(want)-1) ||
					w.scounts[trace.PQHandshakes] != uint64(len(want)) {
					t.Errorf("%d handshakes, %d refused, %d finished", w.scounts[trace.PQHandshakes], w.scounts[trace.HandshakesRefused], w.scounts[trace.PQHandshakeSuccess])
				}
			})
		}
	}
}

// Control: a side that uses what its peer has not announced ends the session,
// and is counted.
func TestWhatWasNotAnnouncedEndsTheSession(t *testing.T) {
	first := releases()[0].cfg
	for name, use := range map[string]func(*world, uint64){
		"datagram":  func(w *world, id uint64) { w.client.SendDatagram(w.now, id, []byte("once")) },
		"heartbeat": func(w *world, _ uint64) { w.client.SendHeartbeat(w.now) },
	} {
		w := established(t, 12, Config{}, first)
		id, _ := w.client.OpenStream(w.now, PriorityNormal)
		w.client.common = setOf([]uint16{wire.CapDatagrams, wire.CapHeartbeats})
		use(w, id)
		w.run(time.Second)
		if w.client.Established() || w.scounts[trace.VersionMismatch] != 1 || w.scounts[trace.ClientVersionErrors] != 1 {
			t.Errorf("%s: %d mismatches", name, w.scounts[trace.VersionMismatch])
		}
	}
}

// What was written before a refusal arrives all the same, once, whatever happens
// to a packet of the handshake.
func TestRefusedHandshakeSurvivesWhatHappensToAnyPacket(t *testing.T) {
	for victim := range 14 {
		w := newWorld(t, 13, Config{KEM: seal.KEM1024}, Config{})
		n := 0
		w.rewrite = func(_ bool, _ uint8, b []byte) []byte {
			if n++; n-1 == victim {
				return nil
			}
			return b
		}
		a := newApp(w)
		a.open(3_000, 5_000, PriorityNormal)
		a.finish(5 * time.Second)
		if a.seen[Established] != 2 {
			t.Errorf("packet %d lost: Established was told %d times", victim, a.seen[Established])
		}
	}
}

// Nobody between two sides that both have the stronger KEM brings them to the
// weaker one: not by a refusal of his own making, and not by a change of what
// the HELLO says.
func TestNoDowngradeByWhoIsBetween(t *testing.T) {
	forged := func(w *world, tag byte) []byte {
		m := append(wire.HelloRefusal{Version: wire.SessionVersion, KEM: uint8(seal.KEM768)}.Append(nil), bytes.Repeat([]byte{tag}, wire.TagSize)...)
		b := make([]byte, wire.SessionPacketSize)
		wire.PutSessionPart(b, wire.SessionReply, w.client.localID, m, 0)
		return b
	}
	strong := Config{KEM: seal.KEM1024}
	for name, attack := range map[string]func(w *world, fromClient bool, b []byte) []byte{
		"forged refusal": func(w *world, fromClient bool, b []byte) []byte {
			if !fromClient && wire.SessionPacketKind(b) == wire.SessionReply && w.packets < 12 {
				return forged(w, 0)
			}
			return b
		},
		"KEM of the HELLO changed": func(w *world, fromClient bool, b []byte) []byte {
			if fromClient && wire.SessionPacketKind(b) == wire.SessionHello && b[5] == 0 && w.packets < 12 {
				b = bytes.Clone(b)
				b[wire.SessionHeaderSize+1] = byte(seal.KEM768)
			}
			return b
		},
		"KEM of the HELLO unknown": func(w *world, fromClient bool, b []byte) []byte {
			if fromClient && wire.SessionPacketKind(b) == wire.SessionHello && b[5] == 0 && w.packets < 12 {
				b = bytes.Clone(b)
				b[wire.SessionHeaderSize+1] = 9
			}
			return b
		},
		"version of the HELLO unknown": func(w *world, fromClient bool, b []byte) []byte {
			if fromClient && wire.SessionPacketKind(b) == wire.SessionHello && b[5] == 0 && w.packets < 12 {
				b = bytes.Clone(b)
				b[wire.SessionHeaderSize] = 9
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 14, strong, strong)
			w.rewrite = func(fromClient bool, _ uint8, b []byte) []byte { return attack(w, fromClient, b) }
			kems := w.kems()
			a := newApp(w)
			a.open(500, 500, PriorityNormal)
			w.until(14*time.Second, a.done)
			a.check()
			if fmt.Sprint(*kems) != fmt.Sprint([]seal.KEM{seal.KEM1024}) {
				t.Errorf("HELLOs with KEMs %v", *kems)
			}
		})
	}
}

// The second guard, should a client ever be led to the weaker KEM: its HELLO
// names, sealed, what it could use besides, and the responder asks for that.
func TestResponderAsksForTheBestThatBothHave(t *testing.T) {
	strong := Config{KEM: seal.KEM1024}
	run := func(cfg Config) (kems []seal.KEM) {
		w := newWorld(t, 15, cfg, strong)
		seen := w.kems()
		if err := w.client.offer(seal.KEM768, nil); err != nil {
			t.Fatal(err)
		}
		w.until(5*time.Second, func() bool { return w.client.Established() })
		return *seen
	}
	if got := run(strong); fmt.Sprint(got) != fmt.Sprint([]seal.KEM{seal.KEM768, seal.KEM1024}) {
		t.Errorf("HELLOs with KEMs %v", got)
	}
	// Control: without the offer the weaker one stands.
	quiet := strong
	quiet.Without = []uint16{wire.CapKEM1024}
	if got := run(quiet); fmt.Sprint(got) != fmt.Sprint([]seal.KEM{seal.KEM768}) {
		t.Errorf("control: HELLOs with KEMs %v", got)
	}
}

// A responder that keeps changing its mind, or has nothing in common, ends the
// handshake with code 0x07 instead of going round.
func TestRefusalsEnd(t *testing.T) {
	for name, told := range map[string]func(n int) wire.HelloRefusal{
		"another version":  func(int) wire.HelloRefusal { return wire.HelloRefusal{Version: 2, KEM: 1} },
		"an unknown KEM":   func(int) wire.HelloRefusal { return wire.HelloRefusal{Version: 1, KEM: 9} },
		"one and another":  func(n int) wire.HelloRefusal { return wire.HelloRefusal{Version: 1, KEM: uint8(1 + n%2)} },
		"the one that was": func(int) wire.HelloRefusal { return wire.HelloRefusal{Version: 1, KEM: 2} },
	} {
		var counts trace.Counts
		static := testKey(t)
		client, err := Dial(0, Config{KEM: seal.KEM1024}, static.Public(), prng.FromUint64(1), &counts)
		if err != nil {
			t.Fatal(err)
		}
		client.AddPath(0, 0)
		var b [wire.SessionPacketSize]byte
		for n := 0; !client.Drained() && n < 10; n++ {
			client.PollPacket(0, 0, b[:])
			r := told(n)
			tag := refusalSchedule(static.Public(), client.hs.message, &client.hs.secret, r.Append(nil)).SealNext(nil, nil)
			if !client.handleRefusal(0, r, tag) {
				t.Fatalf("%s: an authentic refusal was not taken", name)
			}
		}
		if !client.Drained() || client.closing.code != wire.CodeCapability || counts[trace.VersionMismatch] != 1 {
			t.Errorf("%s: the handshake goes on", name)
		}
	}
}

// A HELLO of a version that is not known here is told so, authentically, by what
// has its place in every version.
func TestUnknownVersionIsToldAuthentically(t *testing.T) {
	var counts trace.Counts
	static := testKey(t)
	client, err := Dial(0, Config{}, static.Public(), prng.FromUint64(1), &counts)
	if err != nil {
		t.Fatal(err)
	}
	hello := bytes.Clone(client.FirstFlight())
	hello[0] = 77
	_, err = NewAcceptor(Config{KEM: seal.KEM1024}, prng.FromUint64(2)).Accept(0, 0, static, hello, &counts)
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("unknown version: %v", err)
	}
	p, ok := wire.ParseSessionPart(refusal.Packet[:])
	r, tag, err := wire.ParseHelloRefusal(p.Chunk)
	if !ok || err != nil || r != (wire.HelloRefusal{Version: wire.SessionVersion, KEM: uint8(seal.KEM1024)}) {
		t.Fatalf("refusal %+v, %v", r, err)
	}
	if _, err := refusalSchedule(static.Public(), hello, &client.hs.secret, r.Append(nil)).OpenNext(nil, tag); err != nil {
		t.Error("the refusal does not authenticate")
	}
	if _, err := refusalSchedule(static.Public(), client.hs.message, &client.hs.secret, r.Append(nil)).OpenNext(nil, tag); err == nil {
		t.Error("the refusal is not bound to the HELLO that it answers")
	}
}
