package joint

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// world is an entry with UDP and one kind of connections, either of which may
// be blocked, and a client that sends every gap; in virtual time.
type world struct {
	choice
	now                 machine.Time
	udpDead, connDead   bool
	byUDP, byConn, lost int
	dials               int
}

// run sends for d. Answers come at once, dials take dialTime.
func (w *world) run(d, gap time.Duration) {
	const dialTime = 300 * time.Millisecond
	dialled := machine.Never
	for end := w.now.Add(d); w.now < end; w.now = w.now.Add(gap) {
		if w.now >= dialled {
			w.dialled(w.now, !w.connDead)
			dialled = machine.Never
		}
		by, do := w.send(w.now)
		if do == dial || do == redial {
			w.dials++
			dialled = w.now.Add(dialTime)
		}
		switch {
		case by == byUDP && !w.udpDead:
			w.byUDP++
			w.heard(w.now, byUDP)
		case by == byConn && !w.connDead:
			w.byConn++
			w.heard(w.now, byConn)
		default:
			w.lost++
		}
	}
}

const beat = 20 * time.Millisecond

func TestUDPWhileItWorks(t *testing.T) {
	for _, gap := range []time.Duration{beat, 10 * time.Second} {
		w := world{}
		w.run(10*time.Minute, gap)
		if w.dials != 0 || w.lost != 0 || w.byConn != 0 {
			t.Errorf("every %v: %d dials, %d lost, %d by connections", gap, w.dials, w.lost, w.byConn)
		}
	}
}

func TestFallsBackAndReturns(t *testing.T) {
	w := world{}
	w.run(time.Second, beat)
	w.udpDead = true
	w.run(10*time.Second, beat)
	if !w.onConn || w.byConn == 0 {
		t.Fatal("no connection in use 10 s after UDP was blocked")
	}
	w.run(time.Hour, beat)
	if w.dials != 1 {
		t.Errorf("%d dials", w.dials)
	}
	w.udpDead = false
	w.run(60*time.Second, beat)
	if w.onConn {
		t.Fatal("still not on UDP 60 s after it was unblocked")
	}
	if w.up {
		w.run(linger, beat)
	}
	if w.up {
		t.Error("the connection stays open")
	}
}

// The datagrams of a link that is being dialled are enough to fall back.
func TestFallsBackWhileALinkIsDialled(t *testing.T) {
	w := world{udpDead: true}
	at := []time.Duration{0, 250, 750, 1750, 3750, 5750, 7750}
	for _, ms := range at {
		w.now = machine.Time(ms * time.Millisecond)
		for range 2 { // INIT has two parts
			if by, do := w.send(w.now); do == dial {
				w.dials++
			} else if by == byConn {
				w.byConn++
			}
		}
		if w.dials == 1 && w.dialing && w.now > machine.Time(3*time.Second) {
			w.dialled(w.now, true)
		}
	}
	if w.byConn < 4 {
		t.Errorf("%d datagrams of the dial went by a connection, want two INIT", w.byConn)
	}
}

func TestConnectionThatBreaksIsReplaced(t *testing.T) {
	w := world{udpDead: true}
	w.run(10*time.Second, beat)
	w.connDead = true
	w.run(6*time.Second, beat)
	if w.onConn || w.dials != 2 {
		t.Fatalf("in use %v after %d dials", w.onConn, w.dials)
	}
	w.connDead = false
	w.run(15*time.Second, beat)
	if !w.onConn {
		t.Error("not replaced")
	}
	w.lost0()
	w.run(4*time.Second, beat)
	if !w.onConn {
		t.Error("not replaced after it ended")
	}
}

func (w *world) lost0() { w.choice.lost() }

// With everything blocked dials are rare, and UDP is used at once when it
// answers.
func TestNothingWorks(t *testing.T) {
	w := world{udpDead: true, connDead: true}
	w.run(time.Minute, beat)
	if w.dials < 3 || w.dials > 7 {
		t.Errorf("%d dials in a minute", w.dials)
	}
	w.udpDead = false
	w.run(time.Second, beat)
	if w.byUDP != 50 {
		t.Errorf("%d of 50 answered", w.byUDP)
	}
}

// An answer by UDP that no probe asked for changes nothing: anyone could send
// it.
func TestUnaskedAnswerIsIgnored(t *testing.T) {
	w := world{udpDead: true}
	w.run(10*time.Second, beat)
	w.probeAt, w.probeUntil = w.now.Add(time.Hour), w.now
	w.heard(w.now, byUDP)
	if !w.onConn {
		t.Error("a datagram from nowhere moved the link")
	}
}

func TestOnlyNeverUsesUDP(t *testing.T) {
	w := world{choice: choice{only: true}}
	w.run(time.Minute, beat)
	if w.byUDP != 0 || w.byConn == 0 || w.dials != 1 {
		t.Errorf("%d by UDP, %d by a connection, %d dials", w.byUDP, w.byConn, w.dials)
	}
	w.connDead = true
	w.run(time.Minute, beat)
	if w.byUDP != 0 {
		t.Errorf("%d by UDP", w.byUDP)
	}
}

// UDP that comes and goes is tried less often, but often enough.
func TestFlappingIsDamped(t *testing.T) {
	w := world{}
	for range 20 {
		w.udpDead = true
		w.run(10*time.Second, beat)
		w.udpDead = false
		w.run(30*time.Second, beat)
		if w.onConn {
			t.Fatal("not back after 30 s")
		}
	}
	if w.gap != probeGapMax {
		t.Errorf("probes every %v", w.gap)
	}
	if w.dials != 1 {
		t.Errorf("%d dials: the open connection was not used again", w.dials)
	}
}
