package link

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Clients that finish the handshake and are not admitted hold a bounded number
// of links; those that were admitted keep theirs, and newcomers get one.
func TestStrangersAreBounded(t *testing.T) {
	const most, flood = 4, 20
	w := newWorld(t)
	n := w.add(2, true, Config{AcceptAnonymous: true, MaxStrangers: most})
	welcome := w.client(10)
	own := welcome.dial(n)
	w.run(time.Second)
	n.Admit(n.events[0].Link)
	for i := range flood {
		c := w.client(20 + i)
		c.dial(n)
		w.run(time.Second)
		if c.downs() != 0 {
			t.Fatalf("stranger %d found no room", i)
		}
		if got := n.Links(); got > most+1 {
			t.Fatalf("%d strangers hold %d links beside the one admitted", i+1, got-1)
		}
	}
	if n.Links() != most+1 || n.downs() != flood-most {
		t.Errorf("%d links, %d ended; want %d, %d", n.Links(), n.downs(), most+1, flood-most)
	}
	if _, _, up := welcome.Peer(own); !up || welcome.downs() != 0 {
		t.Error("strangers have displaced a client that was admitted")
	}
	for _, ev := range n.events {
		if ev.Kind == Down && ev.Reason != Displaced {
			t.Errorf("a link went down: %v", ev.Reason)
		}
	}
}

// Keys that were replaced give their cipher state back as the present ones do,
// however long they stay.
func TestReplacedKeysCool(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	id := a.dial(b)
	w.run(time.Second)
	l := a.links[id]
	for range beatFrames + 1 {
		a.push(id, "warm")
	}
	w.run(time.Second)
	if l.cur.hot == nil {
		t.Fatal("the link is not warm")
	}
	// The answer to the rekey gets lost, so that the old keys stay.
	a.install(w.now, l, &keyset{owner: l, suite: l.cur.suite, initiator: true, local: 1 << 31, remote: 1})
	l.prevUntil = machine.Never
	a.reschedule(l)
	w.run(coolAfter + time.Second)
	if l.prev == nil {
		t.Fatal("the replaced keys are gone already")
	}
	if l.prev.hot != nil {
		t.Error("the replaced keys kept their cipher state")
	}
}
