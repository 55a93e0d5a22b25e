package tunnel

import (
	"sync"
	"time"
)

// deadline is a channel that closes at a time that may be moved.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{}
}

func newDeadline() deadline { return deadline{expired: make(chan struct{})} }

// wait returns the channel that closes when the deadline passes.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired
}

// set moves the deadline; the zero time takes it away. As with the deadlines
// of package net, who waits already is woken by a time that has passed.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	passed := false
	select {
	case <-d.expired:
		passed = true
	default:
	}
	if t.IsZero() {
		if passed {
			d.expired = make(chan struct{})
		}
		return
	}
	left := time.Until(t)
	if left <= 0 {
		if !passed {
			close(d.expired)
		}
		return
	}
	if passed {
		d.expired = make(chan struct{})
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer { // else it was moved while this waited
			d.timer = nil
			close(d.expired)
		}
	})
	d.timer = timer
}
