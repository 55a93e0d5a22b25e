package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// tally sums up what a process tells once a minute, by what it is: a flood of one kind
// is one event with its number, and no event says when one of them was. What is not
// taken is told again as the same events, under the IDs that they have, so that nothing
// is lost while the process lives, and nothing is in the log twice. It is safe for
// concurrent use.
type tally[K comparable] struct {
	// event is that of a kind; window is how long it was counted.
	event func(k K, window string) audit.Event

	mu     sync.Mutex
	counts map[K]uint64
	since  time.Time

	telling sync.Mutex    // one tells at a time
	waiting []audit.Event // that were not taken; counts go on meanwhile
}

func newTally[K comparable](event func(K, string) audit.Event) *tally[K] {
	return &tally[K]{event: event, counts: map[K]uint64{}, since: time.Now()}
}

// add counts n of a kind.
func (t *tally[K]) add(k K, n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[k] += n
}

// tell has what was counted recorded, at first what waits of earlier calls. complete
// fills in what events have in common, with their IDs.
func (t *tally[K]) tell(complete func(*audit.Event), record func(...audit.Event) error) error {
	t.telling.Lock()
	defer t.telling.Unlock()
	if len(t.waiting) > 0 {
		if err := record(t.waiting...); err != nil {
			return err
		}
	}
	if t.waiting = t.take(complete); len(t.waiting) == 0 {
		return nil
	}
	err := record(t.waiting...)
	if err == nil {
		t.waiting = nil
	}
	return err
}

// take makes events of what was counted, and begins anew.
func (t *tally[K]) take(complete func(*audit.Event)) (events []audit.Event) {
	t.mu.Lock()
	counts, since := t.counts, t.since
	t.counts, t.since = map[K]uint64{}, time.Now()
	t.mu.Unlock()
	window := max(time.Since(since).Round(time.Second), time.Second).String()
	for k, n := range counts {
		e := t.event(k, window)
		e.Count = n
		if complete(&e); e.Validate() != nil { // by a detail, which is another's text
			e.Details = nil
		}
		events = append(events, e)
	}
	return events
}

// turnedAway is who was turned away: at which door, and why.
type turnedAway struct{ door, why string }

// Doors of a control process, and why somebody is turned away there beside what package
// front says.
const (
	nodesDoor     = "control"
	operatorsDoor = "operators"

	noCredential  = "credential"   // nothing was shown
	forgedToken   = "forged"       // another token than that of the operator file
	foreignPage   = "host"         // a page of elsewhere sent the request
	notIntroduced = "introduction" // of who is not known, or not for this server
	forgedEvents  = "events"       // in another's name, or of another's kind
)

func turnedEvent(k turnedAway, window string) audit.Event {
	return audit.Event{Kind: audit.AdmissionRefusal, Severity: audit.Warning, Action: "refuse", Subject: k.door, Outcome: audit.Refused, Reason: k.why, Details: details("window", window)}
}

// turn counts who is turned away.
func (c *Control) turn(door, why string) { c.turned.add(turnedAway{door, why}, 1) }

// tellCounts tells what this process has counted since it told last.
func (c *Control) tellCounts() {
	told := func(what string, err error) {
		if err != nil {
			c.log.Warn("what was counted is not recorded yet; it is kept, and told again", "what", what, "why", err)
		}
	}
	told("decisions of the policy", c.policy.classes.tell(c.complete, c.recordOwn))
	told("refusals", c.turned.tell(c.complete, c.recordOwn))
	if c.issuer != nil {
		told("passes", c.issuer.counts.tell(c.complete, c.recordOwn))
	}
}

// keepCounts tells once a minute until ctx ends.
func (c *Control) keepCounts(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.tellCounts()
		}
	}
}
