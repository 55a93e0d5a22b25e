package mix

import (
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// chain is a route's place in one list.
type chain struct{ next, prev *route }

// A route is in up to three lists.
const (
	listIn    = iota // routes set up over a link
	listOut          // routes that go on over a link
	listWheel        // routes to be looked at in one second
	numLists
)

type list struct{ head, tail *route }

func (l *list) push(r *route, kind int) {
	r.links[kind] = chain{prev: l.tail}
	if l.tail == nil {
		l.head = r
	} else {
		l.tail.links[kind].next = r
	}
	l.tail = r
}

func (l *list) remove(r *route, kind int) {
	c := r.links[kind]
	if c.prev == nil {
		l.head = c.next
	} else {
		c.prev.links[kind].next = c.next
	}
	if c.next == nil {
		l.tail = c.prev
	} else {
		c.next.links[kind].prev = c.prev
	}
	r.links[kind] = chain{}
}

const (
	// wheelSlots-1 seconds is the longest time between two looks at a route;
	// the slot being worked on is never added to.
	wheelSlots = 64
	wheelTick  = time.Second
	// idleAfter is how long a route keeps its cipher state and windows without
	// a cell: longer than mixes spread cells, and far shorter than the distance
	// of a session's heartbeats, which would else keep 3 KB of every route.
	idleAfter = 2 * time.Second
	// lingerMeans is how many mean delays a closed route stays open for cells
	// that were sent before the closing one and overtaken by it.
	lingerMeans = 50
)

// wheel holds every route in the slot of the second at which it is looked at
// next: its end, or a time at which it may be found idle.
type wheel struct {
	slots [wheelSlots]list
	tick  int64 // seconds up to this one are done
	count int
}

func (w *wheel) add(r *route, at machine.Time) {
	due := (int64(at) + int64(wheelTick) - 1) / int64(wheelTick)
	due = min(max(due, w.tick+1), w.tick+wheelSlots-1)
	r.slot = uint8(due % wheelSlots)
	w.slots[r.slot].push(r, listWheel)
	w.count++
}

func (w *wheel) remove(r *route) {
	w.slots[r.slot].remove(r, listWheel)
	w.count--
}

// next is the end of the present second if there is anything to look at.
func (w *wheel) next() machine.Time {
	if w.count == 0 {
		return machine.Never
	}
	return machine.Time(w.tick+1) * machine.Time(wheelTick)
}

// NextTimer is when a frame is due for PollSend or HandleTimer has work.
func (t *Table) NextTimer() machine.Time {
	return min(t.delayed.next(), t.wheel.next(), t.trains.next())
}

// HandleTimer ends routes and trains whose time is over and gives back the
// memory of idle ones.
func (t *Table) HandleTimer(now machine.Time) {
	t.expireTrains(now)
	end := int64(now) / int64(wheelTick)
	if end-t.wheel.tick > wheelSlots {
		t.wheel.tick = end - wheelSlots
	}
	for t.wheel.tick < end {
		t.wheel.tick++
		slot := &t.wheel.slots[t.wheel.tick%wheelSlots]
		for r := slot.head; r != nil; {
			next := r.links[listWheel].next
			t.look(now, r)
			r = next
		}
	}
}

// look ends a route whose time is over, quietly, or sets its next look.
func (t *Table) look(now machine.Time, r *route) {
	quiet := r.heard.Add(t.cfg.Limits.Quiet)
	if now >= r.expires || now >= quiet {
		t.counts[trace.RoutesExpired]++
		t.remove(r, true)
		return
	}
	at := min(r.expires, quiet)
	if r.hot != nil {
		if idle := r.used.Add(idleAfter); now >= idle {
			r.cool()
		} else {
			at = min(at, idle)
		}
	}
	t.wheel.remove(r)
	t.wheel.add(r, at)
}

// closeSoon ends a route that its client closed, once cells that were
// overtaken have had time to arrive: at once where nothing is delayed.
func (t *Table) closeSoon(now machine.Time, r *route) {
	if r.dead {
		return
	}
	t.counts[trace.RoutesClosed]++
	linger := lingerMeans * r.level.MixDelay()
	if linger == 0 {
		t.remove(r, true)
		return
	}
	t.endAt(now.Add(linger), r)
}

func (t *Table) endAt(at machine.Time, r *route) {
	r.expires = min(r.expires, at)
	t.wheel.remove(r)
	t.wheel.add(r, r.expires)
}

// remove forgets a route and overwrites its keys. tell: the end learns of it.
func (t *Table) remove(r *route, tell bool) {
	if r.dead {
		return
	}
	r.dead = true
	r.cool()
	r.keys.clear()
	if r.delay != nil {
		r.delay.Clear()
	}
	t.wheel.remove(r)
	delete(t.forward, keyOf(r.prev, r.prevID))
	in := t.links[r.prev]
	in.in.remove(r, listIn)
	in.routes--
	if !r.last {
		delete(t.back, keyOf(r.next, r.nextID))
		out := t.links[r.next]
		out.out.remove(r, listOut)
		if out.gone && out.out.head == nil {
			delete(t.links, r.next)
		}
	} else if tell {
		t.deliver(Delivery{Route: End{r}, Kind: Closed, Level: r.level})
	}
}

// LinkDown forgets a link that is gone. Routes set up over it end; clients of
// routes that go on over it are told by a NACK, now and for each later cell,
// until the route's time is over.
func (t *Table) LinkDown(now machine.Time, id link.ID) {
	n := t.links[id]
	if n == nil || n.gone {
		return
	}
	for n.in.head != nil {
		t.counts[trace.RoutesExpired]++
		t.remove(n.in.head, true)
	}
	for r := n.out.head; r != nil; r = r.links[listOut].next {
		if r.nextGone {
			continue
		}
		r.nextGone = true
		t.nack(now, r, wire.NackLinkGone, 0)
	}
	t.dropTrains(n)
	n.gone = true
	if n.out.head == nil {
		delete(t.links, id)
	}
}
