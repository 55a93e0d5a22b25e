// Package stall tells a program that is slow from a machine without time: it
// counts the time during which this process had a processor. A bound on wall
// time that is counted so holds on a machine whose processors are taken away for
// seconds, and is as strict as before on one whose are not.
package stall

import (
	"sync"
	"time"
)

// beat is how often a process that has a processor wakes at least. What lies
// between two wakes counts for no more than two beats.
const beat = 10 * time.Millisecond

// gauge adds up what lies between wakes.
type gauge struct {
	last time.Time
	had  time.Duration
}

func (g *gauge) wake(now time.Time) time.Duration {
	g.had += min(now.Sub(g.last), 2*beat)
	g.last = now
	return g.had
}

// After returns a channel that is closed when this process has had a processor
// for d, and a function that ends the count. Nothing is closed after that.
func After(d time.Duration) (over <-chan struct{}, stop func()) {
	c, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	g := gauge{last: time.Now()}
	go func() {
		defer close(ended)
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				if g.wake(time.Now()) >= d {
					close(c)
					return
				}
			}
		}
	}()
	return c, sync.OnceFunc(func() { close(end); <-ended })
}
