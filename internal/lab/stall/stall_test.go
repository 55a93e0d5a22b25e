package stall

import (
	"testing"
	"testing/synctest"
	"time"
)

// On a machine that has time, After is a timer.
func TestAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		over, stop := After(5 * time.Second)
		<-over
		stop()
		if took := time.Since(begun); took != 5*time.Second {
			t.Errorf("over after %v, want 5 s", took)
		}
		over, stop = After(time.Second)
		stop()
		stop()
		time.Sleep(time.Hour)
		select {
		case <-over:
			t.Error("over after it was stopped")
		default:
		}
	})
}

// On a machine that has time nothing is lost.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := Watch()
		time.Sleep(5 * time.Second)
		if lost, longest := end(); lost != 0 || longest != 0 {
			t.Errorf("%v lost, %v at the most", lost, longest)
		}
	})
}

// A time in which the process did not wake counts for two beats.
func TestAStallDoesNotCount(t *testing.T) {
	at := time.Unix(0, 0)
	g := gauge{last: at}
	for _, c := range []struct{ slept, had time.Duration }{
		{beat, beat}, {beat / 2, beat / 2}, {16 * time.Second, 2 * beat}, {beat, beat},
	} {
		before := g.had
		at = at.Add(c.slept)
		if had := g.wake(at) - before; had != c.had {
			t.Errorf("%v counts for %v, want %v", c.slept, had, c.had)
		}
	}
	if most := 16*time.Second - 2*beat; g.lost != most || g.longest != most {
		t.Errorf("%v lost, %v at a time, want %v", g.lost, g.longest, most)
	}
}
