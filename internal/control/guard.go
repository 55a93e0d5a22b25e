package control

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Bounds of a Guard. Strain is the greatest of three figures, each as a part of its
// bound; a node is overloaded from a strain of 1 on.
const (
	// GuardEvery is how often a guard looks, if anything comes at all: so much, and
	// the same again, is what it takes to react.
	GuardEvery = 200 * time.Millisecond

	guardLoad  = 0.95                   // of the capacity, sent
	guardWait  = 100 * time.Millisecond // of something for its turn
	guardDrops = 0.01                   // of what came, for want of room
	// fewCame is of how few datagrams a share of drops says nothing.
	fewCame = 50

	// guardAim is the strain that admissions are steered to while they are held back,
	// and guardCalm the one below which a node must be for guardRest to be at ease.
	guardAim, guardCalm = 0.85, 0.8
	guardRest           = time.Second
	// aloneShare is what is left of all bounds without the control plane: nobody
	// else would see what a guard misses.
	aloneShare = 0.8

	// paceLeast is how many sessions a second are admitted whatever happens: nobody
	// is locked out for good. At paceMost nothing is held back any more.
	paceLeast, paceMost = 20, 10_000
)

// Vitals are what a node knows of itself without asking anybody: counters since it
// started, and the longest that something waited for its turn since it last said so.
type Vitals struct {
	Sent, Came, Dropped uint64 // datagrams
	Wait                time.Duration
}

// VitalsOf are those of a machine with these counters. What limits of rates refuse is
// not among them: otherwise who floods a node would have others wait.
func VitalsOf(n *trace.Counts, wait time.Duration) Vitals {
	return Vitals{Sent: n[trace.LinkOut], Came: n[trace.LinkIn], Wait: wait,
		Dropped: n[trace.DropCellQueue] + n[trace.DropLinkQueue]}
}

// Guard is a node's own eye on overload. It knows nothing but the node, so that it
// acts as soon whether telemetry is late, gone, or fine: under strain it has
// admissions slow to a pace that a Servo steers, and lets go by and by afterwards.
// Sessions that are there, and rates of emission, it leaves alone.
//
// Observe and Admit take input, all else are getters. It belongs to one machine.
type Guard struct {
	// Off has it see and do nothing: a control.
	Off bool
	// Trips counts how often the node became overloaded, Held the admissions that
	// were held back.
	Trips, Held uint64

	capacity float64 // datagrams per second; 0: the load has no bound
	alone    bool
	at       machine.Time // of the last look
	last     Vitals
	wait     time.Duration // since then
	strain   float64
	over     bool
	calm     machine.Time // since when the strain is low
	limited  bool
	pace     Servo        // sessions a second
	asked    float64      // admissions since the last look
	tokens   float64      // that may be admitted now
	filled   machine.Time // when tokens were counted
}

// guardGains are those of the pace: it halves in three looks.
var guardGains = Gains{P: 0.3, I: 0.5, Slew: 1.25, Least: paceLeast, Most: paceMost}

// NewGuard returns the guard of a node with a capacity in datagrams per second, 0
// being an unknown one.
func NewGuard(capacity uint32) Guard {
	return Guard{capacity: float64(capacity), pace: Servo{Gains: guardGains, Value: paceMost}}
}

// Due reports whether it is time to look.
func (g *Guard) Due(now machine.Time) bool { return now.Sub(g.at) >= GuardEvery }

// Observe looks at the node, if it is time. It reports whether the node became
// overloaded, or ceased to be.
func (g *Guard) Observe(now machine.Time, v Vitals) (turned bool) {
	g.wait = max(g.wait, v.Wait)
	if g.Off || !g.Due(now) {
		return false
	}
	elapsed := now.Sub(g.at).Seconds()
	g.strain = g.strained(v, elapsed)
	rate := g.asked / elapsed
	g.at, g.last, g.wait, g.asked = now, v, 0, 0
	was := g.over
	switch {
	case g.strain >= 1:
		if g.calm = machine.Never; !g.over {
			g.over = true
			g.Trips++
		}
		if !g.limited {
			g.pace = Servo{Gains: guardGains, Value: min(max(rate/2, paceLeast), paceMost)}
			g.limited, g.tokens, g.filled = true, g.pace.Value*GuardEvery.Seconds(), now
		}
	case g.strain >= guardCalm:
		g.calm = machine.Never
	case g.calm == machine.Never:
		g.calm = now
	case now.Sub(g.calm) >= guardRest:
		g.over = false
	}
	if g.limited {
		g.pace.Step(guardAim / max(g.strain, guardAim/4))
		g.limited = g.over || g.pace.Value < paceMost
	}
	return g.over != was
}

// strained is the strain of the time since the last look.
func (g *Guard) strained(v Vitals, elapsed float64) float64 {
	strain := float64(g.wait) / float64(guardWait)
	if g.capacity > 0 {
		strain = max(strain, float64(v.Sent-g.last.Sent)/elapsed/g.capacity/guardLoad)
	}
	if came := v.Came - g.last.Came; came >= fewCame {
		strain = max(strain, float64(v.Dropped-g.last.Dropped)/float64(came)/guardDrops)
	}
	if g.alone {
		strain /= aloneShare
	}
	return strain
}

// StrainOf is the strain of the period of a report, by what it says.
func StrainOf(t *wire.Telemetry) float64 {
	g := NewGuard(t.Capacity)
	g.alone, g.wait = t.Flags&wire.TelemetryAlone != 0, time.Duration(t.Queue)*time.Millisecond
	return g.strained(Vitals{Sent: uint64(t.Sent), Came: uint64(t.Came), Dropped: uint64(t.Dropped)}, float64(t.Span)/1000)
}

// Admit reports whether one more session may be admitted now, and counts it.
func (g *Guard) Admit(now machine.Time) bool {
	g.asked++
	if !g.limited {
		return true
	}
	// As many may come at once as between two looks.
	g.tokens = min(g.tokens+now.Sub(g.filled).Seconds()*g.pace.Value, g.pace.Value*GuardEvery.Seconds())
	g.filled = now
	if g.tokens < 1 {
		g.Held++
		return false
	}
	g.tokens--
	return true
}

// Alone says whether the node lacks the control plane, and reports whether that is
// news.
func (g *Guard) Alone(alone bool) (news bool) {
	news, g.alone = alone != g.alone, alone
	return news
}

// IsAlone reports whether the node lacks the control plane.
func (g *Guard) IsAlone() bool { return g.alone }

// Overloaded reports whether the node is overloaded.
func (g *Guard) Overloaded() bool { return g.over }

// Strain is what the last look found: 1 and more is overload.
func (g *Guard) Strain() float64 { return g.strain }

// Pace is how many sessions a second are admitted; limited says whether that holds.
func (g *Guard) Pace() (perSecond float64, limited bool) { return g.pace.Value, g.limited }
