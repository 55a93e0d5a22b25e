package control

import "time"

// Limits are what a running admission may be told anew. A field that is 0 is as its
// Policy had it.
type Limits struct {
	PerMinute  int
	Lifetime   time.Duration
	RecordsMax int
}

// SetLimits has new sessions admitted under other limits. Records that are there
// stay as they are, those above a smaller RecordsMax too.
func (a *Admission) SetLimits(l Limits) {
	if a.configured == nil {
		was := a.policy
		a.configured = &was
	}
	p := *a.configured
	if l.PerMinute != 0 {
		p.PerMinute = l.PerMinute
	}
	if l.Lifetime != 0 {
		p.Lifetime = l.Lifetime
	}
	if l.RecordsMax != 0 {
		p.RecordsMax = l.RecordsMax
	}
	a.policy = p
}

// Limits are those in force.
func (a *Admission) Limits() Limits {
	return Limits{PerMinute: a.policy.PerMinute, Lifetime: a.policy.Lifetime, RecordsMax: a.policy.RecordsMax}
}
