package gateway

import (
	"slices"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// callsMax bounds the calls that wait for a service's answer at one meeting.
// Services answer within a round trip, so this is far beyond any real queue.
const callsMax = 256

// call is a caller that waits at a meeting.
type call struct {
	id     wire.CallID
	caller *end
}

// part is a route's part in meetings.
type part struct {
	serves  wire.MeetingID // set while a service waits here
	calls   []call         // callers that wait for the service's answer
	calling wire.MeetingID // set while its own call waits at a meeting
}

// handleMeeting joins the routes of a service and its callers. The node sees
// two routes and neither end.
func (g *Gateway) handleMeeting(now machine.Time, e *end, packet []byte) {
	m, ok := wire.ParseMeetingPacket(packet)
	if !ok || e.member != nil || e.peer != nil {
		g.Counts[trace.DropSessionMalformed]++
		return
	}
	switch m.Kind {
	case wire.SessionMeetListen:
		g.listen(now, e, m)
	case wire.SessionMeetCall:
		g.call(now, e, m)
	case wire.SessionMeetAnswer:
		g.answer(now, e, m)
	default:
		g.Counts[trace.DropSessionMalformed]++
	}
}

// A route has one part in one meeting: it waits for calls, it calls, or it
// answers. That bounds what it can occupy, and no route is ever joined to
// itself.

// listen registers a service under the id that follows from its secret. Who
// knows the id alone, as every reader of the descriptor does, cannot listen
// under it, whether the service is here or not. Who shows the secret once more
// is the service, on the route that renews the one before.
func (g *Gateway) listen(now machine.Time, e *end, m wire.MeetingPacket) {
	id := service.MeetingOf(m.Secret)
	if e.serves() && e.part.serves != id || e.awaits() {
		g.refuse(now, e)
		return
	}
	if e.part == nil {
		e.part = &part{}
	}
	if old := g.meetings[id]; old != nil && old != e {
		e.part.calls, old.part = old.part.calls, nil
	}
	e.part.serves = id
	g.meetings[id] = e
	g.answerMeeting(now, e, wire.MeetingPacket{Kind: wire.SessionMeetJoined})
}

func (g *Gateway) call(now machine.Time, e *end, m wire.MeetingPacket) {
	host := g.meetings[m.Meeting]
	if host == nil || e.serves() || e.awaits() || len(host.part.calls) >= callsMax {
		g.refuse(now, e)
		return
	}
	e.part = &part{calling: m.Meeting}
	host.part.calls = append(host.part.calls, call{m.Call, e})
	g.answerMeeting(now, host, m)
}

func (g *Gateway) answer(now machine.Time, e *end, m wire.MeetingPacket) {
	host := g.meetings[m.Meeting]
	if host == nil || e.serves() || e.awaits() {
		g.refuse(now, e)
		return
	}
	i := slices.IndexFunc(host.part.calls, func(c call) bool { return c.id == m.Call })
	if i < 0 {
		g.refuse(now, e)
		return
	}
	caller := host.part.calls[i].caller
	host.part.calls = slices.Delete(host.part.calls, i, i+1)
	caller.part = nil
	if caller.member != nil { // it has become the path of a session meanwhile
		g.refuse(now, e)
		return
	}
	e.peer, caller.peer = caller, e
	g.answerMeeting(now, e, wire.MeetingPacket{Kind: wire.SessionMeetJoined})
	g.answerMeeting(now, caller, wire.MeetingPacket{Kind: wire.SessionMeetJoined})
}

func (e *end) serves() bool { return e.part != nil && e.part.serves != wire.MeetingID{} }
func (e *end) awaits() bool { return e.part != nil && e.part.calling != wire.MeetingID{} }

// leaveMeeting takes a route that ended out of the meeting where it has a part.
// Who called a service that is gone is told.
func (g *Gateway) leaveMeeting(now machine.Time, e *end) {
	p := e.part
	if p == nil {
		return
	}
	e.part = nil
	if g.meetings[p.serves] == e {
		delete(g.meetings, p.serves)
	}
	for _, c := range p.calls {
		c.caller.part = nil
		g.refuse(now, c.caller)
	}
	if host := g.meetings[p.calling]; host != nil {
		host.part.calls = slices.DeleteFunc(host.part.calls, func(c call) bool { return c.caller == e })
	}
}

func (g *Gateway) refuse(now machine.Time, e *end) {
	g.answerMeeting(now, e, wire.MeetingPacket{Kind: wire.SessionMeetRefused})
}

func (g *Gateway) answerMeeting(now machine.Time, e *end, m wire.MeetingPacket) {
	m.Put(g.packet[:])
	g.sendOrQueue(now, e, g.packet[:])
}
