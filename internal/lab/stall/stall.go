// Package stall tells a program that is slow from a machine without time: it
// counts the time during which this process had a processor. A bound on wall
// time that is counted so holds on a machine whose processors are taken away for
// seconds, and is as strict as before on one whose are not.
package stall

import (
	"math"
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
	// lost is what lay beyond two beats, and longest the most of it at a time.
	lost, longest time.Duration
}

func (g *gauge) wake(now time.Time) time.Duration {
	gap := now.Sub(g.last)
	counts := min(gap, 2*beat)
	g.had, g.lost, g.longest = g.had+counts, g.lost+gap-counts, max(g.longest, gap-counts)
	g.last = now
	return g.had
}

// count wakes each beat until end is closed, or until so much has added up.
func (g *gauge) count(end <-chan struct{}, until time.Duration) (reached bool) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-end:
			g.wake(time.Now())
			return false
		case <-tick.C:
			if g.wake(time.Now()) >= until {
				return true
			}
		}
	}
}

// Watch begins to count and returns what ends it: for how much of the time until then
// this process did not come to wake, and for how long at a time at the most.
func Watch() (end func() (lost, longest time.Duration)) {
	stop, ended := make(chan struct{}), make(chan struct{})
	g := gauge{last: time.Now()}
	go func() {
		defer close(ended)
		g.count(stop, math.MaxInt64)
	}()
	return func() (time.Duration, time.Duration) {
		close(stop)
		<-ended
		return g.lost, g.longest
	}
}

// After returns a channel that is closed when this process has had a processor
// for d, and a function that ends the count. Nothing is closed after that.
func After(d time.Duration) (over <-chan struct{}, stop func()) {
	c, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	g := gauge{last: time.Now()}
	go func() {
		defer close(ended)
		if g.count(end, d) {
			close(c)
		}
	}()
	return c, sync.OnceFunc(func() { close(end); <-ended })
}
