package stream

import (
	"testing"
	"time"
)

// One heartbeat and its answer in the interval are enough for both sides, what
// they made is given back at once, and the responder's heartbeats allocate next
// to nothing: it may hold a million sessions.
func TestHeartbeatsLeaveASessionAtRest(t *testing.T) {
	l := newLoop(t, Config{}, Config{})
	id, err := l.client.OpenStream(l.now, PriorityNormal)
	if err != nil {
		t.Fatal(err)
	}
	l.client.Write(l.now, id, []byte("an open stream"))
	for l.exchange() {
	}
	beats := func() uint64 { return l.client.Stats().Heartbeats + l.server.Stats().Heartbeats }
	round := func() {
		l.now = max(l.now, min(l.client.NextTimer(), l.server.NextTimer()))
		l.client.HandleTimer(l.now)
		l.server.HandleTimer(l.now)
		for l.exchange() {
		}
	}
	for l.now < 30e9 {
		round()
	}
	begun, before := l.now, beats()
	for l.now.Sub(begun) < 200*time.Second {
		round()
		if l.client.work != nil || l.server.work != nil || l.server.in.aead.Ready() || l.server.out.aead.Ready() {
			t.Fatal("a heartbeat left working memory behind")
		}
	}
	if n := beats() - before; n < 9 || n > 11 {
		t.Errorf("%d heartbeats in 200 s, want one each 20 s", n)
	}
	if l.client.Ending() || l.server.Ending() {
		t.Error("the session ended")
	}
	free := len(l.server.cfg.spare)
	if free == 0 {
		t.Fatal("the responder keeps no working memory for the next heartbeat")
	}
	// The responder's own part: from a heartbeat to its answer.
	n := testing.AllocsPerRun(20, func() {
		l.server.lastSent, l.server.arrived.largestAt = 0, 0
		l.server.HandleTimer(l.now)
		if !l.server.PollPacket(l.now, 0, l.b[:]) {
			t.Fatal("no heartbeat")
		}
		l.server.PollPacket(l.now, 0, l.b[:])
		l.server.cfg.giveWork(l.server.work)
		l.server.work = nil
	})
	if n > 0 {
		t.Errorf("%.1f allocations for a heartbeat", n)
	}
}
