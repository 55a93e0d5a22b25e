package stream

import (
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Every packet of a handshake is in turn lost, doubled, and held back behind
// what follows; the session must stand and carry data all the same.
func TestHandshakeSurvivesWhatHappensToAnyPacket(t *testing.T) {
	for _, what := range []string{"lost", "doubled", "late"} {
		for victim := range 12 {
			t.Run(fmt.Sprintf("%s/%d", what, victim), func(t *testing.T) {
				w := newWorld(t, 3, Config{}, Config{})
				n := 0
				w.rewrite = func(fromClient bool, path uint8, b []byte) []byte {
					n++
					if n-1 != victim {
						return b
					}
					switch what {
					case "doubled":
						w.seq++
						heap.Push(&w.flight, letter{w.now.Add(10 * time.Millisecond), w.seq, fromClient, path, bytes.Clone(b)})
					case "late":
						w.seq++
						heap.Push(&w.flight, letter{w.now.Add(140 * time.Millisecond), w.seq, fromClient, path, bytes.Clone(b)})
						return nil
					default:
						return nil
					}
					return b
				}
				a := newApp(w)
				a.open(3_000, 5_000, PriorityNormal)
				a.finish(5 * time.Second)
				if a.seen[Established] != 2 {
					t.Errorf("Established was told %d times", a.seen[Established])
				}
			})
		}
	}
}

func TestHandshakeThroughHeavyLossAndReordering(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed, Config{}, Config{})
		w.routes[0] = route{delay: 5 * time.Millisecond, jitter: 25 * time.Millisecond, loss: 250_000, dup: 200_000}
		a := newApp(w)
		a.open(500, 500, PriorityNormal)
		w.until(12*time.Second, a.done)
		a.check()
	}
}

func TestSmallRequestTravelsInTheHelloAndIsAnsweredAtOnce(t *testing.T) {
	w := newWorld(t, 1, Config{}, Config{})
	a := newApp(w)
	a.answers = true
	id := a.open(300, 200, PriorityNormal)
	w.until(time.Second, func() bool { return a.flows[id].upEnd })
	if w.now > machine.Time(10*time.Millisecond) {
		t.Errorf("the request took %v on a route of 10 ms", time.Duration(w.now))
	}
	w.until(time.Second, a.done)
	if w.now > machine.Time(20*time.Millisecond) {
		t.Errorf("the answer took %v on a route of 20 ms both ways", time.Duration(w.now))
	}
	a.check()
}

func TestFirstFlightCarriesTheRequest(t *testing.T) {
	var counts trace.Counts
	static := testKey(t)
	client, err := Dial(0, Config{}, static.Public(), prng.FromUint64(1), &counts)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := client.OpenStream(0, PriorityNormal)
	client.Write(0, id, []byte("question"))
	client.CloseWrite(0, id)
	hello := client.FirstFlight()
	if len(hello) > wire.MaxHelloSize || !bytes.Equal(hello, client.FirstFlight()) {
		t.Fatalf("HELLO of %d bytes, or another each time", len(hello))
	}
	server, err := NewAcceptor(Config{}, prng.FromUint64(2)).Accept(0, 0, static, hello, &counts)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := readAll(server, 0, id, &got); err == nil || got.String() != "question" {
		t.Errorf("read %q, %v", got.String(), err)
	}
	if client.FirstFlight(); client.Established() {
		t.Error("established without a REPLY")
	}
}

// Replays of HELLO and EARLY packets, at once and later, before and after the
// end of the session, never bring the early data in a second time.
func TestEarlyDataIsTakenOnce(t *testing.T) {
	w := newWorld(t, 9, Config{}, Config{})
	var record [][]byte
	w.rewrite = func(fromClient bool, _ uint8, b []byte) []byte {
		if k := wire.SessionPacketKind(b); fromClient && (k == wire.SessionHello || k == wire.SessionEarly) {
			record = append(record, bytes.Clone(b))
		}
		return b
	}
	a := newApp(w)
	id := a.open(20_000, 100, PriorityNormal)
	replay := func() {
		for range 3 {
			for _, b := range record {
				w.deliver(letter{toServer: true, b: bytes.Clone(b)})
			}
		}
	}
	w.run(12 * time.Millisecond)
	if early := len(record); early < 10 {
		t.Fatalf("only %d packets before the REPLY", early)
	}
	replay()
	w.until(5*time.Second, a.done)
	replay()
	a.check()
	if got := a.flows[id].upGot.Len(); got != 20_000 || a.seen[StreamOpened] != 1 {
		t.Errorf("%d bytes on %d streams", got, a.seen[StreamOpened])
	}
	if w.scounts[trace.DropSessionReplay] == 0 {
		t.Error("no replay was counted")
	}
	first := w.server
	w.client.Close(w.now, wire.CodeNone, "")
	w.run(5 * time.Second)
	if !first.Drained() {
		t.Fatal("the session did not end")
	}
	w.acceptor.Forget(first)
	hello := w.clientHello(record)
	if s, err := w.acceptor.Accept(w.now, 0, w.static, hello, &w.scounts); !errors.Is(err, ErrReplayed) {
		t.Errorf("a HELLO of a past session gave %v, %v", s, err)
	}
}

// clientHello joins the parts of a HELLO.
func (w *world) clientHello(packets [][]byte) []byte {
	var a Assembly
	for _, b := range packets {
		if wire.SessionPacketKind(b) == wire.SessionHello {
			if hello, whole := a.Add(b); whole {
				return hello
			}
		}
	}
	w.t.Fatal("no HELLO")
	return nil
}

// With clocks known, an acceptor that has forgotten a HELLO, or was started
// after it, makes a session of it but refuses its early data.
func TestEarlyDataOfAForgottenHelloIsRefused(t *testing.T) {
	static := testKey(t)
	var counts trace.Counts
	const unix = 1_800_000_000
	start := machine.Time(time.Hour)
	dial := func(cfg Config) []byte {
		client, err := Dial(start, cfg, static.Public(), prng.FromUint64(1), &counts)
		if err != nil {
			t.Fatal(err)
		}
		id, _ := client.OpenStream(start, PriorityNormal)
		client.Write(start, id, []byte("once"))
		return client.FirstFlight()
	}
	hello := dial(Config{UnixStart: unix})
	early := func(a *Acceptor, now machine.Time, hello []byte) bool {
		s, err := a.Accept(now, 0, static, hello, &counts)
		if err != nil {
			t.Fatal(err)
		}
		e, _ := s.PollEvent()
		e, ok := s.PollEvent()
		return ok && e.Kind == StreamOpened
	}
	other := dial(Config{})

	a := NewAcceptor(Config{UnixStart: unix}, prng.FromUint64(2))
	a.turn(start.Add(-time.Minute)) // has run for a minute
	if !early(a, start.Add(time.Second), hello) {
		t.Error("fresh early data refused")
	}
	a.turn(start.Add(helloKeep))
	a.turn(start.Add(2 * helloKeep))
	if _, seen := a.find(helloHash{}); seen || len(a.old.seen) != 0 {
		t.Fatal("the record was not forgotten")
	}
	if early(a, start.Add(2*helloKeep), hello) {
		t.Error("early data of a forgotten HELLO taken twice")
	}
	if early(NewAcceptor(Config{UnixStart: unix}, prng.FromUint64(3)), start.Add(2*time.Second), hello) {
		t.Error("early data from before the start of the acceptor taken")
	}
	if early(a, start.Add(2*helloKeep), other) {
		t.Error("early data without a time taken by an acceptor with a clock")
	}
}

// Refused early data comes again under the session keys.
func TestRefusedEarlyDataIsSentAgain(t *testing.T) {
	w := newWorld(t, 5, Config{}, Config{UnixStart: 1_800_000_000})
	a := newApp(w)
	a.open(25_000, 1_000, PriorityNormal)
	w.until(time.Second, a.done)
	if w.now > machine.Time(42*time.Millisecond) {
		t.Errorf("took %v: one round trip lost, and no more, makes 40 ms", time.Duration(w.now))
	}
	a.finish(5 * time.Second)
}

// An answer that overtakes the REPLY is kept until the keys are there.
func TestAnswerThatOvertakesTheReplyIsKept(t *testing.T) {
	w := newWorld(t, 5, Config{}, Config{})
	w.rewrite = func(fromClient bool, path uint8, b []byte) []byte {
		if wire.SessionPacketKind(b) == wire.SessionReply {
			w.seq++
			heap.Push(&w.flight, letter{w.now.Add(30 * time.Millisecond), w.seq, fromClient, path, bytes.Clone(b)})
			return nil
		}
		return b
	}
	a := newApp(w)
	id := a.open(100, 10_000, PriorityNormal)
	w.until(time.Second, func() bool { return a.flows[id].downEnd })
	if w.now > machine.Time(40*time.Millisecond) {
		t.Errorf("the answer took %v, the REPLY 40 ms", time.Duration(w.now))
	}
	a.finish(time.Second)
}

func TestUnknownRequiredCapabilityClosesWith07(t *testing.T) {
	for _, c := range []struct {
		name           string
		client, server Config
		code           wire.Code
	}{
		{"client requires", Config{Required: []uint16{999}}, Config{}, 0x07},
		{"responder requires", Config{}, Config{Required: []uint16{999}}, 0x07},
		{"known required", Config{Required: []uint16{wire.CapPaths}}, Config{Required: []uint16{wire.CapDatagrams}}, 0},
		{"unknown optional", Config{Optional: []uint16{998, 999}}, Config{Optional: []uint16{997}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 6, c.client, c.server)
			a := newApp(w)
			if c.code == 0 {
				a.open(100, 100, PriorityNormal)
				a.finish(time.Second)
				return
			}
			w.run(20 * time.Second)
			for _, s := range []*Session{w.client, w.server} {
				if e, ok := a.closed[s]; !ok || e.Code != uint64(c.code) {
					t.Errorf("closed %v with %#x", ok, e.Code)
				}
				if s.NextTimer() != machine.Never {
					t.Error("a closed session wants a timer")
				}
			}
		})
	}
}

func TestHandshakeGivesUp(t *testing.T) {
	w := newWorld(t, 6, Config{HandshakeTimeout: 3 * time.Second}, Config{})
	w.routes[0].down = true
	a := newApp(w)
	id, _ := w.client.OpenStream(0, PriorityNormal)
	w.run(4 * time.Second)
	if e := a.closed[w.client]; e.Code != uint64(wire.CodeHandshake) {
		t.Errorf("closed with %#x", e.Code)
	}
	var closed *ClosedError
	if _, err := w.client.Write(w.now, id, []byte("x")); !errors.As(err, &closed) || closed.Code != wire.CodeHandshake || closed.Error() == "" {
		t.Errorf("Write says %v", err)
	}
}

// A handshake that gets no answer on one path is repeated on the others.
func TestHandshakeTriesOtherPaths(t *testing.T) {
	w := newWorld(t, 6, Config{}, Config{})
	w.routes[0].down = true
	w.client.AddPath(0, 1)
	a := newApp(w)
	a.open(1000, 1000, PriorityNormal)
	a.finish(5 * time.Second)
}

// A path that comes late is tried at once, however rarely the HELLO was repeated
// by then.
func TestHandshakeTriesANewPathAtOnce(t *testing.T) {
	w := newWorld(t, 6, Config{}, Config{})
	w.routes[0].down = true
	a := newApp(w)
	a.open(1000, 1000, PriorityNormal)
	w.run(8 * time.Second)
	w.client.AddPath(w.now, 1)
	a.finish(500 * time.Millisecond)
}

func TestHelloFailsClosed(t *testing.T) {
	static := testKey(t)
	var counts trace.Counts
	client, err := Dial(0, Config{}, static.Public(), prng.FromUint64(1), &counts)
	if err != nil {
		t.Fatal(err)
	}
	hello := client.FirstFlight()
	a := NewAcceptor(Config{}, prng.FromUint64(2))
	for bit := 0; bit < len(hello)*8; bit += 97 {
		bad := bytes.Clone(hello)
		bad[bit/8] ^= 1 << (bit % 8)
		if s, err := a.Accept(0, 0, static, bad, &counts); err == nil {
			t.Fatalf("HELLO with bit %d flipped made session %d", bit, s.LocalID())
		}
	}
	for n := 0; n < len(hello); n += 61 {
		if _, err := a.Accept(0, 0, static, hello[:n], &counts); !errors.Is(err, ErrHello) {
			t.Fatalf("HELLO of %d bytes: %v", n, err)
		}
	}
	var seed [seal.KEMSeedSize]byte
	other, _ := seal.NewKEMPrivate(&seed)
	if _, err := a.Accept(0, 0, other, hello, &counts); !errors.Is(err, ErrHello) {
		t.Errorf("HELLO for another key: %v", err)
	}
	if _, err := a.Accept(0, 0, static, hello, &counts); err != nil {
		t.Errorf("the right HELLO after the wrong ones: %v", err)
	}
}

// A REPLY of somebody without the static key, or a changed one, opens nothing;
// the real one does afterwards.
func TestReplyMustAuthenticate(t *testing.T) {
	w := newWorld(t, 8, Config{}, Config{})
	var reply [][]byte
	w.rewrite = func(fromClient bool, _ uint8, b []byte) []byte {
		if !fromClient && wire.SessionPacketKind(b) == wire.SessionReply {
			reply = append(reply, bytes.Clone(b))
			return nil
		}
		return b
	}
	w.run(15 * time.Millisecond)
	if len(reply) != 2 {
		t.Fatalf("REPLY of %d parts", len(reply))
	}
	for bit := 0; bit < 1200*8; bit += 131 {
		whole := slices.Concat(reply[0][wire.SessionHeaderSize:], reply[1][wire.SessionHeaderSize:])
		whole[bit/8] ^= 1 << (bit % 8)
		for i, part := range reply {
			b := bytes.Clone(part)
			copy(b[wire.SessionHeaderSize:], whole[i*wire.SessionChunkSize:(i+1)*wire.SessionChunkSize])
			w.client.HandlePacket(w.now, 0, b)
		}
		if w.client.Established() {
			t.Fatalf("REPLY with bit %d flipped was taken", bit)
		}
	}
	if w.ccounts[trace.DropSessionAuth] == 0 {
		t.Error("nothing counted")
	}
	for _, part := range reply {
		w.client.HandlePacket(w.now, 0, part)
	}
	if !w.client.Established() {
		t.Error("the real REPLY was not taken")
	}
}

func TestConfigIsChecked(t *testing.T) {
	var counts trace.Counts
	for _, cfg := range []Config{{Suite: 9}, {Level: 9}, {Required: make([]uint16, 33)}} {
		if _, err := Dial(0, cfg, testKey(t).Public(), prng.FromUint64(1), &counts); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestEverySuiteLevelAndControllerWorks(t *testing.T) {
	for _, cfg := range []Config{
		{Suite: seal.ChaCha20Poly1305}, {Suite: seal.AES256GCM}, {Level: wire.Standard}, {Level: wire.Extreme},
		{Congestion: congestion.Cubic}, {Congestion: congestion.Fixed, FixedRate: 5 << 20},
	} {
		w := newWorld(t, 4, cfg, cfg)
		a := newApp(w)
		a.open(50_000, 200_000, PriorityNormal)
		a.finish(10 * time.Second)
	}
}
