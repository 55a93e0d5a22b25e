package daemon

import "time"

// What a process has counted since its start says nothing of today: an attack of last week
// is no reason to act. So it tells what it counted lately apart.
const (
	// latelySpan is how far back that reaches, to within latelyStep: somebody who was told
	// of something has come to look by then, and a flood is still seen beside what is usual.
	latelySpan = 10 * time.Minute
	latelyStep = time.Minute
)

// reckoning is what the parts of a process had counted at a time, by their names.
type reckoning struct {
	at    time.Time
	parts map[string]StandingPart
}

// past is what was counted at times a step apart, the oldest first: what lies before that
// is not looked at any more.
type past []reckoning

// take notes what was counted at a time, if the last note is a step old.
func (p *past) take(now time.Time, parts []StandingPart) {
	if n := len(*p); now.Sub((*p)[n-1].at) < latelyStep {
		return
	}
	c := reckoning{now, make(map[string]StandingPart, len(parts))}
	for _, part := range parts {
		c.parts[part.Name] = part
	}
	*p = append(*p, c)
	for len(*p) > 1 && now.Sub((*p)[1].at) >= latelySpan {
		*p = (*p)[1:]
	}
}

// lately fills in what parts have counted since the oldest note, and returns of when that
// is. A part that counts less than then has begun anew.
func (p past) lately(parts []StandingPart) time.Time {
	for i := range parts {
		part := &parts[i]
		was := p[0].parts[part.Name]
		part.Lately = make(map[string]uint64, len(part.Counts))
		for name, n := range part.Counts {
			if d := since(n, was.Counts[name]); d > 0 {
				part.Lately[name] = d
			}
		}
		part.ForgedLately = since(part.Forged, was.Forged)
	}
	return p[0].at
}

func since(n, was uint64) uint64 {
	if n < was {
		return n
	}
	return n - was
}
