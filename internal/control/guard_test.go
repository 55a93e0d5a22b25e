package control

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// guarded is a node of 1,000 datagrams a second under a guard.
type guarded struct {
	Guard
	now machine.Time
	v   Vitals
}

func newGuarded() *guarded { return &guarded{Guard: NewGuard(1000), now: machine.Time(time.Minute)} }

// run lets a time pass under a load, in looks, and returns after how long the guard
// turned; −1: it did not.
func (g *guarded) run(d time.Duration, load float64, drops, asks int) (turned time.Duration) {
	turned = -1
	for at := GuardEvery; at <= d; at += GuardEvery {
		g.now = g.now.Add(GuardEvery)
		g.v.Sent += uint64(load * 1000 * GuardEvery.Seconds())
		g.v.Came += 200
		g.v.Dropped += uint64(drops)
		for range asks {
			g.Admit(g.now)
		}
		if g.Observe(g.now, g.v) && turned < 0 {
			turned = at
		}
	}
	return turned
}

func TestGuardReactsAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		load  float64
		drops int
		wait  time.Duration
		trips bool
	}{
		"at ease":            {0.9, 1, 90 * time.Millisecond, false},
		"at its capacity":    {0.97, 0, 0, true},
		"it drops":           {0.2, 3, 0, true},
		"things wait for it": {0.2, 0, 120 * time.Millisecond, true},
	} {
		g := newGuarded()
		g.run(2*time.Second, 0.3, 0, 10)
		g.v.Wait = c.wait
		took := g.run(time.Second, c.load, c.drops, 10)
		if g.Overloaded() != c.trips || c.trips && took > 2*GuardEvery {
			t.Errorf("%s: overloaded %v after %v", name, g.Overloaded(), took)
		}
		off := newGuarded()
		off.Off, off.v.Wait = true, c.wait
		if off.run(time.Second, c.load, c.drops, 10); off.Overloaded() {
			t.Errorf("control: %s: a guard that is off sees it", name)
		}
	}
}

// Under strain admissions slow; some are admitted whatever happens; afterwards they
// come back by and by, and the node is at ease only when it has been for a while.
func TestGuardSlowsAdmissions(t *testing.T) {
	g := newGuarded()
	if g.run(2*time.Second, 0.5, 0, 40); g.Held != 0 {
		t.Fatal("held back without strain")
	}
	g.run(time.Second, 1.5, 0, 40)
	if pace, limited := g.Pace(); !limited || pace > 100 || g.Trips != 1 {
		t.Errorf("pace %.0f after a second, limited %v", pace, limited)
	}
	g.run(10*time.Second, 1.5, 0, 40)
	before := g.Held
	if g.run(time.Second, 1.5, 0, 40); g.Held-before < 170 || g.Held-before > 185 {
		t.Errorf("of 200 a second %d are held back; 20 are to come in", g.Held-before)
	}
	if ease := g.run(time.Minute, 0.3, 0, 40); g.Overloaded() || ease < guardRest || ease > 2*guardRest {
		t.Errorf("at ease after %v", ease)
	}
	if _, limited := g.Pace(); limited {
		t.Error("a minute later it still holds back")
	}
}

// Without the control plane the bounds are stricter.
func TestGuardAlone(t *testing.T) {
	g := newGuarded()
	if g.run(time.Second, 0.85, 0, 0); g.Overloaded() {
		t.Fatal("overloaded at 85 %")
	}
	if !g.Alone(true) || g.Alone(true) {
		t.Error("being alone is news once")
	}
	if g.run(time.Second, 0.85, 0, 0); !g.Overloaded() {
		t.Error("alone, and not careful")
	}
}
