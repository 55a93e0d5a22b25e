package stream

import (
	"testing"
	"time"
)

// One heartbeat and its answer in the interval are enough for both sides. A
// client that is silent hears the responder's.
func TestOneHeartbeatDoesForBothSides(t *testing.T) {
	w := established(t, 7, Config{}, Config{})
	a := newApp(w)
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	a.flows[id] = &flow{}
	w.client.Write(w.now, id, []byte("stay"))
	w.run(30 * time.Second)
	client, server := w.client.Stats().Heartbeats, w.server.Stats().Heartbeats
	w.run(400 * time.Second)
	if c, s := w.client.Stats().Heartbeats-client, w.server.Stats().Heartbeats-server; c < 19 || c > 21 || s != 0 {
		t.Errorf("in 400 s the client sent %d heartbeats and the responder %d, want 20 and none", c, s)
	}
	w.client.cfg.HeartbeatInterval = time.Hour
	w.run(100 * time.Second)
	if s := w.server.Stats().Heartbeats - server; s < 3 || s > 5 {
		t.Errorf("in 100 s of a silent client the responder sent %d heartbeats, want 4", s)
	}
}

// What a heartbeat made is given back at once, and the responder's heartbeats
// allocate nothing: it may hold a million sessions.
func TestHeartbeatsLeaveASessionAtRest(t *testing.T) {
	l := newLoop(t, Config{}, Config{})
	id, err := l.client.OpenStream(l.now, PriorityNormal)
	if err != nil {
		t.Fatal(err)
	}
	l.client.Write(l.now, id, []byte("an open stream"))
	for l.exchange() {
	}
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
	for begun := l.now; l.now.Sub(begun) < 200*time.Second; {
		round()
		if l.client.work != nil || l.server.work != nil {
			t.Fatal("a heartbeat left working memory behind")
		}
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
		l.server.cfg.giveWork(l.server.dropWork())
	})
	if n > 0 {
		t.Errorf("%.1f allocations for a heartbeat", n)
	}
}
