package gateway

import (
	"github.com/nyxnet/nyx/internal/machine"
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

// listen registers a service. The id is a secret of the service and whom it
// gave its descriptor; who registers it later takes over, as a service does
// that renews its route.
func (g *Gateway) listen(now machine.Time, e *end, m wire.MeetingPacket) {
	if old := g.meetings[m.Meeting]; old != nil && old != e {
		old.meeting = wire.MeetingID{}
		e.calls, old.calls = old.calls, nil
	}
	e.meeting = m.Meeting
	g.meetings[m.Meeting] = e
	g.answerMeeting(now, e, wire.MeetingPacket{Kind: wire.SessionMeetJoined})
}

func (g *Gateway) call(now machine.Time, e *end, m wire.MeetingPacket) {
	service := g.meetings[m.Meeting]
	if service == nil || len(service.calls) >= callsMax {
		g.answerMeeting(now, e, wire.MeetingPacket{Kind: wire.SessionMeetRefused})
		return
	}
	service.calls = append(service.calls, call{m.Call, e})
	g.answerMeeting(now, service, m)
}

func (g *Gateway) answer(now machine.Time, e *end, m wire.MeetingPacket) {
	service := g.meetings[m.Meeting]
	if service == nil {
		g.answerMeeting(now, e, wire.MeetingPacket{Kind: wire.SessionMeetRefused})
		return
	}
	for i, c := range service.calls {
		if c.id != m.Call {
			continue
		}
		service.calls = append(service.calls[:i], service.calls[i+1:]...)
		if g.ends[c.caller.id] != c.caller || c.caller.peer != nil {
			break
		}
		e.peer, c.caller.peer = c.caller, e
		g.answerMeeting(now, e, wire.MeetingPacket{Kind: wire.SessionMeetJoined})
		g.answerMeeting(now, c.caller, wire.MeetingPacket{Kind: wire.SessionMeetJoined})
		return
	}
	g.answerMeeting(now, e, wire.MeetingPacket{Kind: wire.SessionMeetRefused})
}

func (g *Gateway) answerMeeting(now machine.Time, e *end, m wire.MeetingPacket) {
	m.Put(g.packet[:])
	g.sendOrQueue(now, e, g.packet[:])
}
