package console

import "time"

const (
	// ringStep is what one place of the ring sums up, ringLong how far it reaches back:
	// 8,640 places of some 60 bytes, half a megabyte.
	ringStep = 10 * time.Second
	ringLong = 24 * time.Hour
	ringSize = int(ringLong / ringStep)
	// pointsMost is how many points a chart is given: more than it has pixels to show
	// apart, and as many as a browser draws without a pause.
	pointsMost = 720
)

// sample is what was measured in one step. A series without a value has none there.
type sample struct {
	p95           float32 // ms; negative: nothing was asked
	carried       float32 // MB/s through all nodes; negative: not known, nor is own
	own           float32 // MB/s of the own sessions' content
	asked, failed uint32
	sessions      uint32
	cover         float32 // negative: none
	strain, load  float32 // of a fleet; negative: none
}

// unmeasured is a sample of which nothing is known.
var unmeasured = sample{p95: -1, carried: -1, own: -1, cover: -1, strain: -1, load: -1}

// ring holds the samples of the last 24 hours.
type ring struct {
	at    [ringSize]sample
	first int64 // number of the oldest step that is held
	next  int64 // number of the step after the newest
}

// put keeps the sample of a step that is over. Steps between the last and it, in which
// the process did not run, have no values.
func (r *ring) put(step int64, s sample) {
	if r.next == 0 || step >= r.next+int64(ringSize) {
		r.first, r.next = step, step
	}
	for ; r.next < step; r.next++ {
		r.at[r.next%int64(ringSize)] = unmeasured
	}
	r.at[step%int64(ringSize)] = s
	r.next = max(r.next, step+1)
	r.first = max(r.first, r.next-int64(ringSize))
}

// asked is how many streams were opened in what is held, and how many of them failed.
func (r *ring) asked() (asked, failed uint64) {
	for i := r.first; i < r.next; i++ {
		s := &r.at[i%int64(ringSize)]
		asked, failed = asked+uint64(s.asked), failed+uint64(s.failed)
	}
	return asked, failed
}

// series is what a chart is given: columns of one length. null is no value.
type series struct {
	Step     int64      `json:"step"` // seconds of a point
	T        []int64    `json:"t"`    // seconds since 1970
	P95      []*float32 `json:"p95"`
	Carried  []*float32 `json:"carried"`
	Own      []*float32 `json:"own"`
	Sessions []*float32 `json:"sessions"`
	Cover    []*float32 `json:"cover"`
	Failed   []*float32 `json:"failed"`
	Strain   []*float32 `json:"strain"`
	Load     []*float32 `json:"load"`
}

// withoutOwn is the series without what the own client did.
func (s series) withoutOwn() series {
	none := make([]*float32, len(s.T))
	return series{Step: s.Step, T: s.T, Carried: s.Carried, Strain: s.Strain, Load: s.Load, P95: none, Own: none, Sessions: none, Cover: none, Failed: none}
}

// last are the samples of a time until now, in at most pointsMost points: of latencies
// and strains the greatest, of the others the mean.
func (r *ring) last(long time.Duration) series {
	from := max(r.first, r.next-int64(min(long, ringLong)/ringStep))
	each := max(1, (r.next-from+pointsMost-1)/pointsMost)
	none := []*float32{} // a script takes no null for a column
	out := series{Step: each * int64(ringStep/time.Second), T: []int64{}, P95: none, Carried: none, Own: none, Sessions: none, Cover: none, Failed: none, Strain: none, Load: none}
	for at := from; at < r.next; at += each {
		var p point
		for i := at; i < min(at+each, r.next); i++ {
			p.add(&r.at[i%int64(ringSize)])
		}
		out.T = append(out.T, at*int64(ringStep/time.Second))
		p.to(&out)
	}
	return out
}

// point sums samples up.
type point struct {
	p95, carried, own, sessions, cover, failed float32
	latencies, steps, covers                   float32
	strain, load, strains, loads               float32
}

func (p *point) add(s *sample) {
	if s.p95 >= 0 {
		p.p95, p.latencies = max(p.p95, s.p95), p.latencies+1
	}
	if s.cover >= 0 {
		p.cover, p.covers = p.cover+s.cover, p.covers+1
	}
	if s.strain >= 0 {
		p.strain, p.strains = max(p.strain, s.strain), p.strains+1
	}
	if s.load >= 0 {
		p.load, p.loads = p.load+s.load, p.loads+1
	}
	if s.carried >= 0 {
		p.carried, p.own, p.steps = p.carried+s.carried, p.own+s.own, p.steps+1
		p.sessions, p.failed = p.sessions+float32(s.sessions), p.failed+float32(s.failed)
	}
}

func (p *point) to(out *series) {
	value := func(to *[]*float32, v, of float32) {
		if of == 0 {
			*to = append(*to, nil)
			return
		}
		v /= of
		*to = append(*to, &v)
	}
	value(&out.P95, p.p95, min(p.latencies, 1))
	value(&out.Carried, p.carried, p.steps)
	value(&out.Own, p.own, p.steps)
	value(&out.Sessions, p.sessions, p.steps)
	value(&out.Cover, p.cover, p.covers)
	value(&out.Failed, p.failed, min(p.steps, 1))
	value(&out.Strain, p.strain, min(p.strains, 1))
	value(&out.Load, p.load, p.loads)
}
