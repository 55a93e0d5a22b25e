package gateway_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/rogue"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// world is a network and clients in it that keep to no rule.
type world struct {
	*lab.Network
	t      *testing.T
	rogues int
}

func newWorld(t *testing.T, p lab.Plan) *world {
	t.Helper()
	if p.Streams == 0 {
		p.Streams, p.Mixes = 3, 4
	}
	n, err := lab.NewRun(&lab.Scenario{ID: "test"}, 1).NewNetwork(p)
	if err != nil {
		t.Fatal(err)
	}
	return &world{Network: n, t: t}
}

// attacker is a rogue client that was admitted by gateway 0, its entry; routes
// end at gateway 1, the victim.
type attacker struct {
	*rogue.Client
	w    *world
	node *sim.Node
	link link.ID
}

func (w *world) attacker() *attacker {
	w.rogues++
	a := &attacker{w: w}
	a.node = w.Sim.AddNode(sim.NodeConfig{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{120, byte(w.rogues), 0, 1}), 1),
		New: func(_ machine.Time, rng prng.Source) machine.Machine {
			a.Client = rogue.New(w.View, rng)
			return a.Client
		}})
	a.do(func(now machine.Time) {
		a.link = a.Dial(now, w.Gateways[0].ID)
		a.Init(a.link, byte(w.rogues), 1)
	})
	return a
}

// do acts, and lets the network come to rest.
func (a *attacker) do(f func(now machine.Time)) {
	a.w.t.Helper()
	a.w.Sim.Do(a.node, f)
	a.w.Sim.RunFor(time.Second)
}

func (a *attacker) route(first []byte) (r *rogue.Route) {
	a.w.t.Helper()
	a.do(func(now machine.Time) {
		var err error
		if r, err = a.Route(now, wire.Fast, a.w.Gateways[0].ID, a.w.Gateways[1].ID, first); err != nil {
			a.w.t.Fatal(err)
		}
	})
	if !slices.Equal(r.Kinds(), []wire.SessionKind{wire.SessionRouteReady}) && first == nil {
		a.w.t.Fatalf("the route does not stand: %v", r.Kinds())
	}
	return r
}

func (a *attacker) meet(r *rogue.Route, m wire.MeetingPacket) {
	a.w.t.Helper()
	a.do(func(machine.Time) { a.Meet(r, m) })
}

func (w *world) victim() *gateway.Gateway { return w.Gateways[1].Core() }

func (w *world) wantLast(r *rogue.Route, kind wire.SessionKind) {
	w.t.Helper()
	if k := r.Kinds(); k[len(k)-1] != kind {
		w.t.Errorf("answers %v, want the last to be %v", k, kind)
	}
}

// dialSession begins a session with the victim on a route of its own.
func (a *attacker) dialSession(seed uint64) (*stream.Session, *rogue.Route) {
	a.w.t.Helper()
	key, _ := a.w.View.Link(a.w.Gateways[1].ID)
	core, err := stream.Dial(a.node.Local(a.w.Sim.Now()), stream.Config{}, key, prng.FromUint64(seed), &a.Counts)
	if err != nil {
		a.w.t.Fatal(err)
	}
	r := a.route(core.FirstFlight())
	core.AddPath(a.w.Sim.Now(), 0)
	a.exchange(core, r)
	if !core.Established() {
		a.w.t.Fatal("no session")
	}
	return core, r
}

// exchange hands over what came back, and sends what the session has to say.
func (a *attacker) exchange(core *stream.Session, r *rogue.Route) {
	a.w.t.Helper()
	for range 4 {
		a.do(func(now machine.Time) {
			for _, p := range r.Packets {
				if wire.SessionPacketKind(p) != wire.SessionRouteReady {
					core.HandlePacket(now, 0, p)
				}
			}
			r.Packets = nil
			var b [wire.SessionPacketSize]byte
			for core.PollPacket(now, 0, b[:]) {
				a.Send(r, b[:])
			}
		})
	}
}

// A packet with a guessed connection id gets no place among the routes of the
// session; the session's own further route does.
func TestGuessedConnectionIDsOccupyNothing(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	owner, thief := w.attacker(), w.attacker()
	core, _ := owner.dialSession(1)
	id := w.victim().Members()[0].ID
	for range stream.MaxPaths {
		guess := thief.route(nil)
		var b [wire.SessionPacketSize]byte
		wire.PutSessionHeader(b[:], wire.SessionData, id, 77)
		thief.do(func(machine.Time) { thief.Send(guess, b[:]) })
	}
	if n := w.victim().Counts[trace.DropSessionAuth]; n != stream.MaxPaths {
		t.Errorf("%d forged packets were counted, want %d", n, stream.MaxPaths)
	}
	second := owner.route(nil)
	owner.do(func(now machine.Time) {
		core.RemovePath(now, 0)
		core.AddPath(now, 1)
		st, _ := core.OpenStream(now, 0)
		core.Write(now, st, []byte("by another route"))
		var b [wire.SessionPacketSize]byte
		for core.PollPacket(now, 1, b[:]) {
			owner.Send(second, b[:])
		}
	})
	if len(second.Packets) < 2 {
		t.Errorf("the session's own second route brings nothing back: %v", second.Kinds())
	}
}

// Routes whose links broke hold their places in a session for ten minutes, since
// nobody tells the exit. Where all places are taken, the first authentic packet of
// a new route has that of the one heard longest ago, and a forged one has none; a
// route that gave way and lives has a place again with its next packet. (Control: with
// free in the place of slot the new route brings nothing back.)
func TestANewRouteTakesThePlaceOfADeadOne(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	owner, thief := w.attacker(), w.attacker()
	core, first := owner.dialSession(1)
	// ping has the session say something by a route, as its path of an id, and
	// reports whether that was answered.
	ping := func(r *rogue.Route, path uint8) bool {
		r.Packets = nil
		owner.do(func(now machine.Time) {
			core.RemovePath(now, path)
			core.AddPath(now, path)
			var b [wire.SessionPacketSize]byte
			for core.PollPacket(now, path, b[:]) {
				owner.Send(r, b[:])
			}
		})
		return slices.Contains(r.Kinds(), wire.SessionData)
	}
	for path := uint8(1); path < stream.MaxPaths; path++ {
		if !ping(owner.route(nil), path) {
			t.Fatalf("path %d is not answered", path)
		}
	}
	if !ping(first, 0) || w.victim().Paths() != stream.MaxPaths {
		t.Fatalf("%d paths", w.victim().Paths())
	}
	guess := thief.route(nil)
	thief.do(func(machine.Time) {
		var b [wire.SessionPacketSize]byte
		wire.PutSessionHeader(b[:], wire.SessionData, w.victim().Members()[0].ID, 77)
		thief.Send(guess, b[:])
	})
	unknown := w.victim().Counts[trace.DropSessionUnknown]
	seventh := owner.route(nil)
	if !ping(seventh, 1) {
		t.Error("the route that replaces a dead one is not answered")
	}
	if n := w.victim().Counts[trace.DropSessionUnknown] - unknown; n != 0 || w.victim().Paths() != stream.MaxPaths {
		t.Errorf("%d packets dropped, %d paths", n, w.victim().Paths())
	}
	for i := range 10 { // as many live routes as there are places, and one more
		if r := []*rogue.Route{first, seventh}[i%2]; !ping(r, uint8(i%2)) {
			t.Errorf("route %d of two that live is not answered", i%2)
		}
	}
}

// A route whose client makes it service, caller and answer at once must not be
// joined to itself, and its end must not end the node.
func TestRouteIsNotJoinedToItself(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	a := w.attacker()
	r := a.route(nil)
	secret := wire.MeetingSecret{1}
	a.meet(r, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: secret})
	w.wantLast(r, wire.SessionMeetJoined)
	m := wire.MeetingPacket{Kind: wire.SessionMeetCall, Meeting: service.MeetingOf(secret), Call: wire.CallID{2}}
	a.meet(r, m)
	w.wantLast(r, wire.SessionMeetRefused)
	m.Kind = wire.SessionMeetAnswer
	a.meet(r, m)
	w.wantLast(r, wire.SessionMeetRefused)
	a.do(func(machine.Time) { a.Close(r) })
	if n := w.victim().Routes(); n != 0 {
		t.Errorf("%d routes are left", n)
	}
}

// A route waits under one id, so that nobody fills the node with meetings.
func TestRouteWaitsAtOneMeeting(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	a, b := w.attacker(), w.attacker()
	r := a.route(nil)
	a.meet(r, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: wire.MeetingSecret{1}})
	a.meet(r, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: wire.MeetingSecret{2}})
	w.wantLast(r, wire.SessionMeetRefused)
	a.meet(r, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: wire.MeetingSecret{1}})
	w.wantLast(r, wire.SessionMeetJoined)
	a.do(func(machine.Time) { a.Close(r) })
	caller := b.route(nil)
	for _, secret := range []wire.MeetingSecret{{1}, {2}} {
		b.meet(caller, wire.MeetingPacket{Kind: wire.SessionMeetCall, Meeting: service.MeetingOf(secret), Call: wire.CallID{1}})
		w.wantLast(caller, wire.SessionMeetRefused)
	}
}

// Who has the descriptor, and so the meeting's id, cannot take the meeting over:
// not while the service waits there, and not when it has gone.
func TestMeetingIsNotTakenOver(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	host, thief, caller := w.attacker(), w.attacker(), w.attacker()
	secret := wire.MeetingSecret{9}
	id := service.MeetingOf(secret)
	waits := host.route(nil)
	host.meet(waits, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: secret})
	steal := func() *rogue.Route { // the best guess is what stood in LISTEN before: the id itself
		r := thief.route(nil)
		thief.meet(r, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: wire.MeetingSecret(id)})
		return r
	}
	call := func(n byte) *rogue.Route {
		r := caller.route(nil)
		caller.meet(r, wire.MeetingPacket{Kind: wire.SessionMeetCall, Meeting: id, Call: wire.CallID{n}})
		return r
	}
	thieves := steal()
	call(1)
	w.wantLast(waits, wire.SessionMeetCall)
	w.wantLast(thieves, wire.SessionMeetJoined) // at a meeting of its own, that nobody calls

	host.do(func(machine.Time) { host.Close(waits) })
	thieves = steal()
	w.wantLast(call(2), wire.SessionMeetRefused)
	w.wantLast(thieves, wire.SessionMeetJoined)

	again := host.route(nil)
	host.meet(again, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: secret})
	call(3)
	w.wantLast(again, wire.SessionMeetCall)
}

// Calls that nobody answers do not fill a meeting: a route has one at a time,
// and it ends with the route. Who waits is told when the service goes.
func TestCallsEndWithTheirRoutes(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	host, caller := w.attacker(), w.attacker()
	waits := host.route(nil)
	secret := wire.MeetingSecret{9}
	id := service.MeetingOf(secret)
	host.meet(waits, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: secret})
	call := func(r *rogue.Route, n byte) {
		caller.meet(r, wire.MeetingPacket{Kind: wire.SessionMeetCall, Meeting: id, Call: wire.CallID{n}})
	}
	first := caller.route(nil)
	call(first, 1)
	w.wantLast(waits, wire.SessionMeetCall)
	call(first, 2)
	w.wantLast(first, wire.SessionMeetRefused)
	caller.do(func(machine.Time) { caller.Close(first) })
	answer := host.route(nil)
	host.meet(answer, wire.MeetingPacket{Kind: wire.SessionMeetAnswer, Meeting: id, Call: wire.CallID{1}})
	w.wantLast(answer, wire.SessionMeetRefused)

	second := caller.route(nil)
	call(second, 3)
	renewed := host.route(nil)
	host.meet(renewed, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: secret})
	host.do(func(machine.Time) { host.Close(waits) })
	host.meet(answer, wire.MeetingPacket{Kind: wire.SessionMeetAnswer, Meeting: id, Call: wire.CallID{3}})
	w.wantLast(answer, wire.SessionMeetJoined)
	w.wantLast(second, wire.SessionMeetJoined)

	third := caller.route(nil)
	call(third, 4)
	host.do(func(machine.Time) { host.Close(renewed) })
	w.wantLast(third, wire.SessionMeetRefused)
}

// Joined routes carry each other's packets and end together.
func TestJoinedRoutesEndTogether(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	host, caller := w.attacker(), w.attacker()
	secret := wire.MeetingSecret{5}
	id := service.MeetingOf(secret)
	waits, answer, call := host.route(nil), host.route(nil), caller.route(nil)
	host.meet(waits, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: secret})
	caller.meet(call, wire.MeetingPacket{Kind: wire.SessionMeetCall, Meeting: id, Call: wire.CallID{1}})
	host.meet(answer, wire.MeetingPacket{Kind: wire.SessionMeetAnswer, Meeting: id, Call: wire.CallID{1}})
	var b [wire.SessionPacketSize]byte
	wire.PutSessionHeader(b[:], wire.SessionData, 42, 1)
	caller.do(func(machine.Time) { caller.Send(call, b[:]) })
	if p := answer.Packets[len(answer.Packets)-1]; wire.SessionPacketID(p) != 42 {
		t.Error("the packet did not cross the meeting")
	}
	before := w.victim().Counts[trace.DropSessionMalformed]
	caller.meet(call, wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: secret})
	if w.victim().Counts[trace.DropSessionMalformed] != before+1 {
		t.Error("a joined route took part in another meeting")
	}
	routes := w.victim().Routes()
	caller.do(func(machine.Time) { caller.Close(call) })
	if n := w.victim().Routes(); n != routes-2 {
		t.Errorf("%d routes of %d are left, want both ends gone", n, routes)
	}
}

// One route causes a bounded number of key operations and one session.
func TestHellosOfOneRouteAreBounded(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	a := w.attacker()
	_, r := a.dialSession(1)
	key, _ := w.View.Link(w.Gateways[1].ID)
	for i := range 40 {
		other, err := stream.Dial(0, stream.Config{}, key, prng.FromUint64(uint64(100+i)), &a.Counts)
		if err != nil {
			t.Fatal(err)
		}
		a.do(func(now machine.Time) {
			other.AddPath(now, 0)
			var b [wire.SessionPacketSize]byte
			for other.PollPacket(now, 0, b[:]) {
				a.Send(r, b[:])
			}
		})
	}
	if n := w.victim().Len(); n != 1 {
		t.Errorf("%d sessions on one route", n)
	}
	if n := w.victim().Counts[trace.DropSessionUnknown]; n != 40 {
		t.Errorf("%d further HELLOs were dropped, want 40", n)
	}
}

func TestMalformedPacketsAreCounted(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	a := w.attacker()
	r := a.route(make([]byte, 100)) // a first flight that is no HELLO
	g := w.victim()
	if g.Counts[trace.DropSessionMalformed] != 1 {
		t.Error("a malformed HELLO was not counted")
	}
	var b [wire.SessionPacketSize]byte
	a.do(func(machine.Time) { a.Send(r, b[:]) })
	if g.Counts[trace.DummyIn] != 1 {
		t.Error("a dummy was not counted")
	}
	wire.PutSessionHeader(b[:], wire.SessionData, 1, 1)
	a.do(func(machine.Time) { a.Send(r, b[:]) })
	if g.Counts[trace.DropSessionUnknown] != 1 {
		t.Error("a packet for no session was not counted")
	}
	b[0] = byte(wire.SessionMeetJoined)
	a.do(func(machine.Time) { a.Send(r, b[:]) })
	if g.Counts[trace.DropSessionMalformed] != 2 {
		t.Error("a malformed meeting packet was not counted")
	}
	a.meet(r, wire.MeetingPacket{Kind: wire.SessionMeetJoined})
	if g.Counts[trace.DropSessionMalformed] != 3 {
		t.Error("a client's JOINED was not counted")
	}
}
