package client_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/rogue"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

var w0 = netip.MustParseAddrPort("192.0.2.1:1")

// hosting is a service, and the client that offers it.
type hosting struct {
	key  *service.Key
	w    *lab.Network
	user *lab.User
	open int
}

func newService(t *testing.T) *hosting {
	t.Helper()
	key, err := service.NewKey(prng.FromUint64(5))
	if err != nil {
		t.Fatal(err)
	}
	return &hosting{key: key}
}

// host has user 0 of a network echo what the service's callers send.
func host(t *testing.T, w *lab.Network) *hosting {
	t.Helper()
	h := newService(t)
	h.w, h.user = w, w.Users[0]
	h.user.Node.OnStep(func(now machine.Time) { h.step(now) })
	w.Sim.Do(h.user.Node, func(now machine.Time) {
		if err := h.core().Host(now, h.key); err != nil {
			t.Fatal(err)
		}
		if h.core().Host(now, h.key) == nil {
			t.Error("one service was offered twice")
		}
	})
	if !w.Sim.RunWhile(w.Sim.Now().Add(20*time.Second), func() bool { return len(h.meetings()) < 3 }) {
		t.Fatalf("the service waits at %d meetings", len(h.meetings()))
	}
	return h
}

func (h *hosting) core() *client.Client        { return h.user.Core() }
func (h *hosting) meetings() []service.Meeting { return h.core().Meetings(h.key.Address()) }

func (h *hosting) descriptor(at []service.Meeting) *service.Descriptor {
	return &service.Descriptor{Address: h.key.Address(), KEM: h.key.KEM.Public(), Meetings: at}
}

// step echoes each stream's bytes.
func (h *hosting) step(now machine.Time) {
	var b [4096]byte
	for {
		ev, ok := h.core().PollEvent()
		if !ok {
			return
		}
		switch ev.Kind {
		case session.Opened:
			h.open++
		case session.Readable:
			for {
				n, err := h.core().Read(now, ev.Ref, b[:])
				h.core().Write(now, ev.Ref, b[:n])
				if errors.Is(err, io.EOF) {
					h.core().CloseWrite(now, ev.Ref)
				}
				if err != nil {
					break
				}
			}
		}
	}
}

// call sends through the service and returns the echo.
func (h *hosting) call(t *testing.T, u *lab.User, d *service.Descriptor, say string) []byte {
	t.Helper()
	return h.callAs(t, u, "caller", d, say)
}

// callAs is call in the session of an isolation key.
func (h *hosting) callAs(t *testing.T, u *lab.User, isolation string, d *service.Descriptor, say string) []byte {
	t.Helper()
	var ref session.Ref
	h.w.Sim.Do(u.Node, func(now machine.Time) {
		var err error
		if ref, err = u.Core().Call(now, isolation, d, wire.Target{Network: wire.TCP, Host: h.key.Address().String(), Port: 80}); err != nil {
			t.Fatal(err)
		}
		u.Core().Write(now, ref, []byte(say))
		u.Core().CloseWrite(now, ref)
	})
	var got []byte
	var end error
	h.w.Sim.RunWhile(h.w.Sim.Now().Add(30*time.Second), func() bool {
		var b [4096]byte
		n, err := u.Core().Read(h.w.Sim.Now(), ref, b[:])
		if got = append(got, b[:n]...); err != nil && !errors.Is(err, stream.ErrWouldBlock) {
			end = err
		}
		return end == nil
	})
	if !errors.Is(end, io.EOF) {
		t.Errorf("the call ended with %v", end)
	}
	return got
}

func serviceWorld(t *testing.T, level wire.Level) (*lab.Network, *hosting) {
	t.Helper()
	w := newWorld(t, lab.Plan{Streams: 6, Mixes: 6, Level: level, Client: func(c *client.Config) {
		c.RouteTTL, c.Class, c.Stream.IdleTimeout = time.Minute, 50, 40*time.Second
	}})
	w.AddUsers(2)
	if err := w.WaitReady(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	return w, host(t, w)
}

func TestServiceIsCalled(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		w, h := serviceWorld(t, level)
		d := h.descriptor(h.meetings())
		calls := 4 // across the renewal of every route
		if level != wire.Fast {
			calls = 1
		}
		for range calls {
			if got := h.call(t, w.Users[1], d, "over the meeting"); !bytes.HasSuffix(got, []byte("over the meeting")) {
				t.Errorf("%v: the service answered %q", level, got)
			}
			w.Sim.RunFor(25 * time.Second)
		}
		routes, sessions := h.core().Answering()
		if sessions != 1 || routes < 2 {
			t.Errorf("%v: %d sessions of one caller on %d routes", level, sessions, routes)
		}
		w.Sim.RunFor(100 * time.Second)
		if routes, sessions = h.core().Answering(); routes != 0 || sessions != 0 {
			t.Errorf("%v: %d routes and %d sessions are left of a caller that is done", level, routes, sessions)
		}
		if n := len(h.meetings()); n != 3 {
			t.Errorf("%v: the service waits at %d meetings", level, n)
		}
		w.Sim.Do(h.user.Node, func(now machine.Time) { h.core().Withdraw(now, h.key.Address()) })
		if len(h.meetings()) != 0 {
			t.Errorf("%v: a withdrawn service waits", level)
		}
	}
}

// A call where nobody waits fails at once.
func TestCallToNobody(t *testing.T) {
	w, h := serviceWorld(t, wire.Fast)
	at := h.meetings()[0]
	at.ID[0] ^= 1
	u := w.Users[1]
	w.Sim.Do(u.Node, func(now machine.Time) {
		target := wire.Target{Network: wire.TCP, Host: "x", Port: 80}
		if _, err := u.Core().Call(now, "", h.descriptor([]service.Meeting{{}}), target); !errors.Is(err, client.ErrNoMeeting) {
			t.Errorf("a meeting at no node: %v", err)
		}
		if _, err := u.Core().Call(now, "", h.descriptor([]service.Meeting{at}), target); err != nil {
			t.Error(err)
		}
	})
	before := u.Core().Len()
	w.Sim.RunFor(2 * time.Second)
	if n := u.Core().Len(); n >= before {
		t.Errorf("%d sessions of %d: the call was not given up", n, before)
	}
}

// A call goes on at the meeting points that are left, whichever they are, and ends in
// bounded time when there is none. (Control: with routes that all call at the first
// of the descriptor, two of three calls end unanswered.)
func TestACallOutlivesDeadMeetingPoints(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		w, h := serviceWorld(t, level)
		at := h.meetings()
		for _, m := range at[:2] {
			for _, g := range w.Gateways {
				if g.ID == m.Node {
					w.Sim.Crash(g.Node)
				}
			}
		}
		for i, caller := range []string{"a", "b", "c"} {
			u := w.Users[1]
			begun := w.Sim.Now()
			if got := h.callAs(t, u, caller, h.descriptor(at), "to one of three"); !bytes.HasSuffix(got, []byte("to one of three")) {
				t.Errorf("%v, call %d: the service answered %q", level, i, got)
			}
			t.Logf("%v, call %d: %v", level, i, w.Sim.Now().Sub(begun))
		}
		begun := w.Sim.Now()
		u := w.Users[1]
		w.Sim.Do(u.Node, func(now machine.Time) {
			if _, err := u.Core().Call(now, "none", h.descriptor(at[:2]), wire.Target{Network: wire.TCP, Host: "x", Port: 80}); err != nil {
				t.Fatal(err)
			}
		})
		before := u.Core().Len()
		if !w.Sim.RunWhile(begun.Add(20*time.Second), func() bool { return u.Core().Len() >= before }) {
			t.Errorf("%v: a call at dead meeting points goes on after 20 s", level)
		}
		t.Logf("%v: a call at dead meeting points alone ended after %v", level, w.Sim.Now().Sub(begun))
	}
}

// A meeting point that dies is replaced by another.
func TestServiceLeavesDeadMeetings(t *testing.T) {
	w, h := serviceWorld(t, wire.Fast)
	dead := h.meetings()[0].Node
	for _, g := range w.Gateways {
		if g.ID == dead {
			w.Sim.Crash(g.Node)
		}
	}
	w.Sim.RunFor(3 * time.Minute)
	at := h.meetings()
	if len(at) != 3 {
		t.Errorf("the service waits at %d meetings", len(at))
	}
	for _, m := range at {
		if m.Node == dead {
			t.Error("it waits at a dead node")
		}
	}
}

// A caller that never speaks, one that guesses connection ids, and one that
// begins session after session on one route hold nothing for long.
func TestRogueCallers(t *testing.T) {
	w, h := serviceWorld(t, wire.Fast)
	if got := h.call(t, w.Users[1], h.descriptor(h.meetings()), "honest"); !bytes.HasSuffix(got, []byte("honest")) {
		t.Fatalf("%q", got)
	}
	var c *rogue.Client
	node := w.Sim.AddNode(sim.NodeConfig{Addr: netip.MustParseAddrPort("120.0.0.1:1"),
		New: func(_ machine.Time, rng prng.Source) machine.Machine {
			c = rogue.New(w.View, rng)
			return c
		}})
	do := func(f func(now machine.Time)) {
		w.Sim.Do(node, f)
		w.Sim.RunFor(300 * time.Millisecond)
	}
	at := h.meetings()[0]
	entry := w.Gateways[0].ID
	if at.Node == entry {
		entry = w.Gateways[1].ID
	}
	do(func(now machine.Time) { c.Init(c.Dial(now, entry), 1, 1) })
	call := func(n byte) (r *rogue.Route) {
		do(func(now machine.Time) {
			var err error
			if r, err = c.Route(now, wire.Fast, entry, at.Node, nil); err != nil {
				t.Fatal(err)
			}
		})
		do(func(machine.Time) {
			c.Meet(r, wire.MeetingPacket{Kind: wire.SessionMeetCall, Meeting: at.ID, Call: wire.CallID{n}})
		})
		if k := r.Kinds(); k[len(k)-1] != wire.SessionMeetJoined {
			t.Fatalf("call %d was not answered: %v", n, k)
		}
		return r
	}
	hellos := call(1)
	call(2) // and not a word more
	for i := range 30 {
		core, err := stream.Dial(0, stream.Config{}, h.key.KEM.Public(), prng.FromUint64(uint64(i)), &c.Counts)
		if err != nil {
			t.Fatal(err)
		}
		do(func(now machine.Time) {
			core.AddPath(now, 0)
			var b [wire.SessionPacketSize]byte
			for core.PollPacket(now, 0, b[:]) {
				c.Send(hellos, b[:])
			}
		})
	}
	if _, sessions := h.core().Answering(); sessions != 2 {
		t.Errorf("%d sessions, want the honest caller's and one", sessions)
	}
	guess := call(3)
	before := h.core().Stats()[trace.DropSessionUnknown]
	do(func(machine.Time) {
		var b [wire.SessionPacketSize]byte
		wire.PutSessionHeader(b[:], wire.SessionData, 12345, 1)
		c.Send(guess, b[:])
	})
	if h.core().Stats()[trace.DropSessionUnknown] != before+1 {
		t.Error("a packet for no session was not counted")
	}
	if n := h.core().Unspoken(); n != 2 {
		t.Errorf("%d routes wait for a caller's word, want 2", n)
	}
	w.Sim.RunFor(25 * time.Second)
	if n := h.core().Unspoken(); n != 0 {
		t.Errorf("%d routes are held by callers that do not speak", n)
	}
}
