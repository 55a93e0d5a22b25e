package session

import (
	"errors"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

var serverKey = func() *seal.KEMPrivate {
	k, err := seal.NewKEMPrivate(&[seal.KEMSeedSize]byte{1})
	if err != nil {
		panic(err)
	}
	return k
}()

func dial(t *testing.T, seed uint64) *stream.Session {
	t.Helper()
	core, err := stream.Dial(0, stream.Config{}, serverKey.Public(), prng.FromUint64(seed), new(trace.Counts))
	if err != nil {
		t.Fatal(err)
	}
	return core
}

// drain yields what Next does, settled.
func drain(s *Set[string]) (owners string) {
	for range s.Waiting() {
		m, ok := s.Next()
		if !ok {
			break
		}
		owners += m.Owner
		s.Settle(m)
	}
	return owners
}

func TestTouchedMembersComeOnceAndInOrder(t *testing.T) {
	s := NewSet[string]()
	a, b, c := s.Add(dial(t, 1), "a"), s.Add(dial(t, 2), "b"), s.AddAs(7, dial(t, 3), "c")
	if got := drain(s); got != "abc" {
		t.Errorf("new members: %q", got)
	}
	s.Touch(c)
	s.Touch(a)
	s.Touch(c)
	if got := drain(s); got != "ca" {
		t.Errorf("touched c, a, c: %q", got)
	}
	s.Touch(b)
	s.Touch(a)
	s.Remove(b)
	if got := drain(s); got != "a" {
		t.Errorf("a removed member came: %q", got)
	}
	s.Touch(b)
	s.Settle(b)
	if s.Waiting() != 0 || s.Get(b.ID) != nil || s.Get(7) != c || s.Len() != 2 {
		t.Error("a removed member is still known")
	}
	if m := s.Members(); len(m) != 2 || m[0] != a || m[1] != c {
		t.Errorf("members %v", m)
	}
}

// A set of which some member always has work must not grow.
func TestBusySetStaysSmall(t *testing.T) {
	s := NewSet[string]()
	a, b := s.Add(dial(t, 1), "a"), s.Add(dial(t, 2), "b")
	for range 100_000 {
		s.Next()
		s.Touch(a)
		s.Touch(b)
	}
	if cap(s.run) > 64 {
		t.Errorf("two members take a queue of %d", cap(s.run))
	}
}

func TestTimersRunTheirSessions(t *testing.T) {
	s := NewSet[string]()
	m := s.Add(dial(t, 1), "a")
	m.Core.AddPath(0, 0)
	drain(s)
	if s.NextTimer() == machine.Never {
		t.Fatal("a handshake without a timer")
	}
	for range 100 {
		if s.NextTimer() == machine.Never {
			break
		}
		s.HandleTimer(s.NextTimer())
		drain(s)
	}
	if !m.Core.Drained() {
		t.Error("a handshake that nobody answers does not end")
	}
}

// pair is a client's and a server's set with one established session each.
func pair(t *testing.T) (client, server *Set[string], c, v *Member[string]) {
	t.Helper()
	client, server = NewSet[string](), NewSet[string]()
	c = client.Add(dial(t, 1), "client")
	core, err := stream.NewAcceptor(stream.Config{}, prng.FromUint64(2)).Accept(0, 0, serverKey, c.Core.FirstFlight(), new(trace.Counts))
	if err != nil {
		t.Fatal(err)
	}
	v = server.Add(core, "server")
	c.Core.AddPath(0, 0)
	v.Core.AddPath(0, 0)
	pump(c, v)
	if !c.Core.Established() {
		t.Fatal("no session")
	}
	return client, server, c, v
}

func pump(c, v *Member[string]) {
	var b [wire.SessionPacketSize]byte
	for moved := true; moved; {
		moved = false
		for v.Core.PollPacket(1, 0, b[:]) {
			c.Core.HandlePacket(1, 0, b[:])
			moved = true
		}
		for c.Core.PollPacket(1, 0, b[:]) {
			v.Core.HandlePacket(1, 0, b[:])
			moved = true
		}
	}
}

func TestStreamsAreReachedByRef(t *testing.T) {
	client, server, c, v := pair(t)
	drain(client)
	id, err := c.Core.OpenStream(1, stream.PriorityNormal)
	if err != nil {
		t.Fatal(err)
	}
	here, there := Ref{c.ID, id}, Ref{v.ID, id}
	n, err := client.Write(1, here, []byte("hello"))
	if n != 5 || err != nil || client.Waiting() != 1 {
		t.Fatalf("write: %d, %v, %d touched", n, err, client.Waiting())
	}
	if err := client.SendDatagram(1, here, []byte("unreliable")); err != nil {
		t.Fatal(err)
	}
	if err := client.SetWeight(1, c.ID, 5, 9, 0); err != nil {
		t.Fatal(err)
	}
	if err := client.SetLane(1, here, 5, 0); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(1, here); err != nil {
		t.Fatal(err)
	}
	pump(c, v)
	var b [100]byte
	l, _, err := v.Core.Lane(id)
	if weight, _ := v.Core.Weight(5); err != nil || l != 5 || weight != 9 {
		t.Errorf("the server knows lane %d (%v) and its weight %d", l, err, weight)
	}
	if n, err := server.Read(1, there, b[:]); err != nil || string(b[:n]) != "hello" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	if n, err := server.ReadDatagram(1, there, b[:]); err != nil || string(b[:n]) != "unreliable" {
		t.Errorf("datagram %q, %v", b[:n], err)
	}
	if _, err := server.Write(1, there, []byte("x")); err != nil {
		t.Fatal(err)
	}
	client.StopReading(1, here, 3)
	pump(c, v)
	var reset *stream.ResetError
	if _, err := server.Write(1, there, []byte("x")); !errors.As(err, &reset) || reset.Code != 3 {
		t.Errorf("write to who stopped reading: %v", err)
	}
	server.Abort(1, there, 4)
}

func TestRefsOfEndedSessionsAreGone(t *testing.T) {
	client, _, c, _ := pair(t)
	client.Remove(c)
	r := Ref{c.ID, 0}
	var b [1]byte
	_, read := client.Read(1, r, b[:])
	_, write := client.Write(1, r, b[:])
	_, message := client.ReadDatagram(1, r, b[:])
	for _, err := range []error{read, write, message, client.CloseWrite(1, r), client.SendDatagram(1, r, b[:]),
		client.SetLane(1, r, 1, 0), client.SetWeight(1, r.Session, 1, 1, 0)} {
		if !errors.Is(err, ErrGone) {
			t.Errorf("a ref of an ended session gives %v", err)
		}
	}
	client.StopReading(1, r, 0)
	client.Abort(1, r, 0)
	if client.Waiting() != 0 && func() bool { _, ok := client.Next(); return ok }() {
		t.Error("an ended session was touched")
	}
}

// What a session tells reaches the application side as events, and its end, for
// all streams, when the owner says so.
func TestEventsAreToldInOrder(t *testing.T) {
	client, server, c, v := pair(t)
	id, err := c.Core.OpenStream(1, stream.PriorityNormal)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write(1, Ref{c.ID, id}, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	pump(c, v)
	if ev, own := server.Pass(v); own {
		t.Fatalf("the owner is told %v", ev)
	}
	there := Ref{v.ID, id}
	server.End(v)
	for _, want := range []Event{{Opened, there}, {Readable, there}, {Closed, Ref{v.ID, AllStreams}}} {
		if ev, ok := server.PollEvent(); !ok || ev != want {
			t.Errorf("told %v, want %v", ev, want)
		}
	}
	if _, ok := server.PollEvent(); ok || server.EventsWait() || server.Get(v.ID) != nil {
		t.Error("an ended session goes on")
	}
	c.Core.Close(1, 0, "")
	c.Core.HandleTimer(machine.Time(time.Hour))
	if ev, own := client.Pass(c); !own || ev.Kind != stream.Closed {
		t.Errorf("the owner is told %v, %v of a session that closed", ev, own)
	}
}
