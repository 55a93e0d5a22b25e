package link

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Times of a link.
const (
	keepAlive  = 10 * time.Second // a pad when nothing was sent: three fit in silence
	doubtAfter = 20 * time.Second // nothing received: probe, for the pads may be lost
	doubtRetry = 3 * time.Second  // between such probes: five fit in silence
	silence    = 35 * time.Second // nothing received: down
	idleClose  = 12 * time.Minute // nothing but pads: closed; no route waits unused for so long
	coolAfter  = 2 * time.Second  // unused: cipher state dropped, which heartbeats 20 s apart do not keep
	rekeyAfter = 10 * time.Minute // fresh keys at this age
	prevGrace  = 10 * time.Second // replaced keys open what is still under way
	// rekeyCount is the other bound on keys, in datagrams: far below what AEAD
	// limits ask for. It is looked at when a timer runs, at least each 10 s.
	rekeyCount = 1 << 40
	// rekeyPause is the time after a rekey that failed, rekeyTries how many may
	// fail in a row before the link is given up.
	rekeyPause = 30 * time.Second
	rekeyTries = 3
	// overdue is when a timer runs again whose work could not be done, because
	// frames wait that nobody polls.
	overdue = 10 * time.Millisecond
)

// due is when the link next has something to do.
func (l *link) due() machine.Time {
	at := machine.Never
	if l.dial != nil {
		at = min(l.dial.nextAt, l.dial.giveUpAt)
	}
	if l.cur == nil {
		return at
	}
	at = min(at, l.lastRecv.Add(silence), l.lastSent.Add(keepAlive), l.lastUse.Add(idleClose))
	if h := l.cur.hot; h != nil && h.gaps.at != 0 {
		at = min(at, h.gaps.at)
	}
	if l.cur.hot != nil || l.prev != nil && l.prev.hot != nil {
		at = min(at, l.lastUse.Add(coolAfter))
	}
	if l.prev != nil {
		at = min(at, l.prevUntil)
	}
	if l.dial == nil {
		at = min(at, l.rekeyAt, max(l.lastRecv.Add(doubtAfter), l.probeAt))
	}
	if l.path != nil && l.path.candidate.IsValid() {
		at = min(at, l.path.nextAt)
	}
	return at
}

// reschedule moves the link's timer to when it is due. Traffic only puts it
// off, so the data path does not call this: a timer that runs early is set
// again.
func (e *Endpoint) reschedule(l *link) {
	if !l.down {
		e.timers.set(l, l.due())
	}
}

// NextTimer is when HandleTimer has work, or machine.Never.
func (e *Endpoint) NextTimer() machine.Time {
	at := e.timers.next()
	if q := &e.answers.collecting; q.n > 0 {
		at = min(at, q.front().began.Add(collectTime))
	}
	if q := &e.answers.waiting; q.n > 0 {
		at = min(at, q.front().computed.Add(answerTime))
	}
	return at
}

// HandleTimer runs what is due at now.
func (e *Endpoint) HandleTimer(now machine.Time) {
	for q := &e.answers.collecting; q.n > 0 && q.front().began.Add(collectTime) <= now; {
		a, _ := q.pop()
		e.expire(a, false)
	}
	for q := &e.answers.waiting; q.n > 0 && q.front().computed.Add(answerTime) <= now; {
		a, _ := q.pop()
		e.expire(a, true)
	}
	for e.timers.next() <= now {
		l := e.timers.first()
		e.runTimer(now, l)
		if !l.down {
			at := l.due()
			if at <= now {
				at = now.Add(overdue)
			}
			e.timers.set(l, at)
		}
	}
}

func (e *Endpoint) runTimer(now machine.Time, l *link) {
	if d := l.dial; d != nil {
		switch {
		case now >= d.giveUpAt:
			e.dialFailed(now, l)
		case now >= d.nextAt && d.confirming:
			e.probe(now, l)
		case now >= d.nextAt:
			e.sendInit(now, l)
		}
	}
	if l.down || l.cur == nil {
		return
	}
	switch {
	case now >= l.lastRecv.Add(silence):
		e.drop(l, Silent)
		return
	case now >= l.lastUse.Add(idleClose) && l.queue.Len == 0:
		e.close(l, Idle)
		return
	}
	if l.prev != nil && now >= l.prevUntil {
		e.forget(l.prev)
		l.prev = nil
	}
	if now >= l.lastSent.Add(keepAlive) && l.queue.Len == 0 {
		l.lastSent = now // one pad, however late it is polled
		e.flag(l, flagPad)
	}
	if l.dial == nil && now >= l.lastRecv.Add(doubtAfter) && now >= l.probeAt {
		l.probeAt = now.Add(doubtRetry)
		e.flag(l, flagProbe)
	}
	if h := l.cur.hot; h != nil && h.gaps.at != 0 && now >= h.gaps.at {
		e.tell(now, l)
	}
	if now >= l.lastUse.Add(coolAfter) {
		e.release(l)
		l.cur.cool()
		if l.prev != nil {
			l.prev.cool()
		}
	}
	if l.path != nil && l.path.candidate.IsValid() && now >= l.path.nextAt {
		e.retryChallenge(now, l)
	}
	worn := l.failures == 0 && max(l.cur.sent, l.cur.next) >= rekeyCount
	if l.dial == nil && l.cur.initiator && (now >= l.rekeyAt || worn) {
		e.startDial(now, l)
	}
}

// dialFailed ends a handshake that had no answer. A link that is up and
// confirmed lives on with the keys it has, and tries again a few times.
func (e *Endpoint) dialFailed(now machine.Time, l *link) {
	l.failures++
	if l.cur == nil || l.dial.confirming || l.failures >= rekeyTries {
		e.drop(l, Unanswered)
		return
	}
	e.endDial(l)
	l.rekeyAt = now.Add(rekeyPause)
}

// timerHeap is a binary heap of links by time, then by id.
type timerHeap struct {
	items []timerItem
}

type timerItem struct {
	at machine.Time
	l  *link
}

func (h *timerHeap) next() machine.Time {
	if len(h.items) == 0 {
		return machine.Never
	}
	return h.items[0].at
}

func (h *timerHeap) first() *link { return h.items[0].l }

func (h *timerHeap) set(l *link, at machine.Time) {
	if l.slot < 0 {
		l.slot = int32(len(h.items))
		h.items = append(h.items, timerItem{at, l})
		h.raise(int(l.slot))
		return
	}
	h.items[l.slot].at = at
	h.sink(h.raise(int(l.slot)))
}

func (h *timerHeap) remove(l *link) {
	if l.slot < 0 {
		return
	}
	i, last := int(l.slot), len(h.items)-1
	l.slot = -1
	if i != last {
		h.items[i] = h.items[last]
		h.items[i].l.slot = int32(i)
	}
	h.items[last] = timerItem{}
	h.items = h.items[:last]
	if i != last {
		h.sink(h.raise(i))
	}
}

func (h *timerHeap) before(i, j int) bool {
	a, b := &h.items[i], &h.items[j]
	return a.at < b.at || a.at == b.at && a.l.id < b.l.id
}

func (h *timerHeap) raise(i int) int {
	for i > 0 {
		up := (i - 1) / 2
		if !h.before(i, up) {
			break
		}
		h.swap(i, up)
		i = up
	}
	return i
}

func (h *timerHeap) sink(i int) {
	for {
		low := 2*i + 1
		if low >= len(h.items) {
			return
		}
		if low+1 < len(h.items) && h.before(low+1, low) {
			low++
		}
		if !h.before(low, i) {
			return
		}
		h.swap(i, low)
		i = low
	}
}

func (h *timerHeap) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].l.slot, h.items[j].l.slot = int32(i), int32(j)
}
