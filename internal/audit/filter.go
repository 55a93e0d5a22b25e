package audit

import "time"

// Filter says which events are wanted. The zero Filter wants all.
type Filter struct {
	From, To    time.Time // of Event.Time: not before From, before To; zero is no bound
	Kind        Kind      // 0 for all
	Severity    Severity  // and above
	Actor       string    // "" for all, and so on
	Subject     string
	Action      string
	Org         *string // nil for all, "" for the network's own
	Outcome     *Outcome
	Sensitivity *uint8 // and below
}

// Match reports whether an event is wanted.
func (f *Filter) Match(e *Event) bool {
	return (f.From.IsZero() || !e.Time.Before(f.From)) &&
		(f.To.IsZero() || e.Time.Before(f.To)) &&
		(f.Kind == 0 || e.Kind == f.Kind) &&
		e.Severity >= f.Severity &&
		(f.Actor == "" || e.Actor == f.Actor) &&
		(f.Subject == "" || e.Subject == f.Subject) &&
		(f.Action == "" || e.Action == f.Action) &&
		(f.Org == nil || e.Org == *f.Org) &&
		(f.Outcome == nil || e.Outcome == *f.Outcome) &&
		(f.Sensitivity == nil || e.Sensitivity <= *f.Sensitivity)
}
