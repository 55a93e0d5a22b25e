package link

import (
	"testing"
	"time"
)

func TestClientLinkComesUpAndCarries(t *testing.T) {
	w := newWorld(t)
	c, n := w.client(1), w.node(2)
	id := c.dial(n)
	if !c.push(id, "early") {
		t.Fatal("a frame before the handshake was refused")
	}
	w.run(time.Second)
	c.wantUp(id)
	n.wantGot("early")
	back := n.upLink()
	if ev := n.events[0]; ev.Identified || ev.Kind != Up {
		t.Errorf("event %+v", ev)
	}
	n.push(back, "answer")
	w.run(time.Second)
	c.wantGot("answer")
	if peer, identified, up := c.Peer(id); peer != n.node || !identified || !up {
		t.Errorf("client sees %v %v %v", peer[:2], identified, up)
	}
	t.Log(c.drops(), n.drops())
}

func TestNodeLinkIsIdentified(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	id := a.dial(b)
	if again := a.dial(b); again != id {
		t.Errorf("a second dial made link %d beside %d", again, id)
	}
	w.run(time.Second)
	back := b.upLink()
	if peer, identified, up := b.Peer(back); peer != a.node || !identified || !up {
		t.Errorf("responder sees %v %v %v", peer[:2], identified, up)
	}
	if got := b.dial(a); got != back {
		t.Errorf("dialling back made link %d beside %d", got, back)
	}
	b.push(back, "x")
	a.push(id, "y")
	w.run(time.Second)
	a.wantGot("x")
	b.wantGot("y")
}
