package drive

import (
	"sync"

	"github.com/nyxnet/nyx/internal/machine"
)

// calls are functions that wait for the loop to run them. A caller of Do runs
// its function itself while the loop waits for input; else it leaves it here,
// so that callers and loop never fight for the lock, and neither can starve
// the other.
type calls struct {
	mu      sync.Mutex
	waiting []*call
	ended   bool
}

type call struct {
	f    func(now machine.Time)
	ran  bool
	done chan struct{} // one token when f has run, or will not
}

var callPool = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// add reports false if the host has ended.
func (q *calls) add(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return false
	}
	q.waiting = append(q.waiting, c)
	return true
}

// take swaps the list of waiting calls for an empty one.
func (q *calls) take(empty []*call) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.waiting
	q.waiting = empty[:0]
	return w
}

// end releases the callers that still wait, and refuses later ones.
func (q *calls) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	for _, c := range q.waiting {
		c.done <- struct{}{}
	}
	q.waiting = nil
}

// Do runs f with the host's lock held, then lets the machine act on what f
// changed. It reports false, without running f, if the host has ended. f may
// run on another goroutine; it must not block, panic, or call Do or Close. The
// host does not keep f.
func (h *Host) Do(f func(now machine.Time)) bool { return h.call(f, true) }

// call is Do; act says whether a round must follow.
func (h *Host) call(f func(now machine.Time), act bool) bool {
	if !h.turn.Load() && h.mu.TryLock() {
		if h.ended {
			h.mu.Unlock()
			return false
		}
		h.stats.Calls++
		f(h.clock.Now())
		h.mu.Unlock()
		if act {
			h.carrier.Wake()
		}
		return true
	}
	c := callPool.Get().(*call)
	c.f, c.ran = f, false
	if !h.calls.add(c) {
		return false
	}
	h.carrier.Wake() // the loop is at work: it runs c in this round or the next
	<-c.done
	ran := c.ran
	c.f = nil
	callPool.Put(c)
	return ran
}

// runCalls runs what callers of Do left to the loop.
func (h *Host) runCalls(now machine.Time) {
	h.called = h.calls.take(h.called)
	for i, c := range h.called {
		c.f(now)
		c.ran = true
		h.called[i] = nil
		c.done <- struct{}{}
	}
	h.stats.Calls += uint64(len(h.called))
}
