package pipe

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestDatagramsPassBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := NewFake(1)
		var atA, atB []string
		a := Run(x, func(b []byte) { atA = append(atA, string(b)) })
		b := Run(y, func(b []byte) { atB = append(atB, string(b)) })
		a.Push([]byte("one"))
		a.Push([]byte("two"))
		b.Push([]byte("back"))
		synctest.Wait()
		if len(atB) != 2 || atB[0] != "one" || atB[1] != "two" || len(atA) != 1 || atA[0] != "back" {
			t.Errorf("arrived: %q and %q", atB, atA)
		}
		a.Close()
		<-b.Done() // the other end notices
		b.Close()
	})
}

// A connection that does not move holds queueMax datagrams and no more.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, _ := NewFake(0)
		c := Run(x, func([]byte) {})
		pushed := 0
		for c.Push(make([]byte, 1280)) {
			if pushed++; pushed > 2*queueMax {
				t.Fatal("the queue has no bound")
			}
		}
		if pushed != queueMax || c.Dropped() != 1 {
			t.Errorf("%d found room, %d dropped; want %d and 1", pushed, c.Dropped(), queueMax)
		}
		begun := time.Now()
		c.Close()
		if d := time.Since(begun); d != drainMax {
			t.Errorf("closed after %v, want %v", d, drainMax)
		}
		if c.Push([]byte("late")) {
			t.Error("a closed connection takes datagrams")
		}
	})
}

// What was pushed before Close is sent.
func TestCloseSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := NewFake(64)
		c := Run(x, func([]byte) {})
		for range 20 {
			c.Push([]byte("farewell"))
		}
		c.Close()
		n := 0
		for len(y.receive) > 0 {
			<-y.receive
			n++
		}
		if n != 20 {
			t.Errorf("%d of 20 were sent", n)
		}
	})
}

func TestPushDoesNotAllocate(t *testing.T) {
	x, _ := NewFake(0)
	c := Run(x, func([]byte) {})
	defer c.Close()
	b := make([]byte, 1280)
	for c.Push(b) {
	}
	if n := testing.AllocsPerRun(100, func() { c.Push(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
