package capacity

import "math"

// Asked is how many nodes of a kind are asked for, by each way to reckon.
type Asked struct {
	Measured int // so that the measured cost fits into the processors that a node has
	Ratio    int // as many to a session as the plan's phases have
	Least    int // without which there is no route
}

// Nodes are what all three ask for.
func (a Asked) Nodes() int { return max(a.Measured, a.Ratio, a.Least) }

// Decides names what asks for that many: measured, ratio, both of them, or least.
func (a Asked) Decides() string {
	switch n := a.Nodes(); {
	case a.Measured == n && a.Ratio == n:
		return "both"
	case a.Measured == n:
		return "measured"
	case a.Ratio == n:
		return "ratio"
	}
	return "least"
}

// Plan is the nodes for so many sessions.
type Plan struct {
	Phase       // named as the first of the plan's that reaches so far, or the last
	Stream, Mix Asked
	Beyond      bool // more sessions or nodes than the plan's last phase has
}

// For returns the nodes for so many sessions: by the plan's ratio, and more where nodes of
// so many processors, more than 0, would not do for the measured cost. More sessions never
// get fewer.
func (c Cost) For(sessions int, cores float64) Plan {
	last := Phases[len(Phases)-1]
	p := Plan{Phase: Phase{Name: last.Name, Sessions: sessions}}
	for _, one := range Phases {
		if one.Sessions >= sessions {
			p.Name = one.Name
			break
		}
	}
	asked := func(ratio, least int, perSession float64) Asked {
		return Asked{Measured: int(math.Ceil(Headroom * perSession * float64(sessions) / cores)), Ratio: ratio, Least: least}
	}
	p.Stream = asked(ratio(sessions, func(one Phase) int { return one.Streams }), 2, c.streamCores())
	p.Mix = asked(ratio(sessions, func(one Phase) int { return one.Mixes }), c.mixes(), c.mixCores())
	p.Streams, p.Mixes = p.Stream.Nodes(), p.Mix.Nodes()
	p.Beyond = sessions > last.Sessions || p.Streams > last.Streams || p.Mixes > last.Mixes
	return p
}

// ratio is how many nodes the plan has for so many sessions: those of a phase at its own,
// on the line from one phase to the next between them, and on the last phase's line from
// nothing beyond it. A phase has more nodes than the one before, so that it never falls.
func ratio(sessions int, of func(Phase) int) int {
	from, to := Phase{}, Phases[len(Phases)-1]
	for _, one := range Phases {
		if sessions <= one.Sessions {
			to = one
			break
		}
		from = one
	}
	if from.Sessions >= to.Sessions {
		from = Phase{}
	}
	span := to.Sessions - from.Sessions
	return of(from) + ((sessions-from.Sessions)*(of(to)-of(from))+span-1)/span
}
