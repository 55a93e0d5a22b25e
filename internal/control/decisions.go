package control

import (
	"math/bits"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
)

// DecisionConfig is how long a node relies on decisions. Zero fields mean the
// defaults.
type DecisionConfig struct {
	// Spread is the time over which decisions are asked for anew when the policy
	// has changed; 5 min. Negative: at once, for controls of tests.
	Spread time.Duration
	// Grace is how long a decision is followed after its time when no newer one can
	// be had; 1 h. Negative: not at all, for controls of tests.
	Grace time.Duration
}

const (
	defaultSpread = 5 * time.Minute
	defaultGrace  = time.Hour
	// checkRetry is when a check without an answer is asked again at first, and
	// checkRetryMax in the end.
	checkRetry    = 200 * time.Millisecond
	checkRetryMax = 30 * time.Second
)

// Decisions is a node's cache of decisions: read-through, one check under way per
// question, and due again at moments drawn apart, so that nodes whose decisions
// were made together do not ask together. Look, HandleDecision, HandleFault and
// Invalidate take input, PollCheck yields checks, NextCheck says when it will.
type Decisions struct {
	cfg      DecisionConfig
	draw     *prng.Stream
	counts   *trace.Counts
	held     [NumQuestions]held
	next     int // the place at which the last check was
	revision string
}

// held is what is known of one question.
type held struct {
	decision Decision
	known    bool
	check    checking
	tries    int          // without an answer
	after    machine.Time // no check before
	refresh  machine.Time // the decision is asked for anew, at the next look
	ends     machine.Time // and followed no more
}

// checking is how far the check of a question is.
type checking uint8

const (
	idle   checking = iota
	wanted          // to be asked
	asked           // without an answer so far
)

// NewDecisions returns an empty cache that counts in counts.
func NewDecisions(cfg DecisionConfig, rng prng.Source, counts *trace.Counts) *Decisions {
	if cfg.Spread == 0 {
		cfg.Spread = defaultSpread
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	cfg.Spread, cfg.Grace = max(cfg.Spread, 0), max(cfg.Grace, 0)
	return &Decisions{cfg: cfg, draw: rng.Stream("decisions"), counts: counts}
}

// Look returns the decision of a question if there is one to follow, and has it
// asked for where there is none or it is due.
func (c *Decisions) Look(now machine.Time, q Question) (d Decision, known bool) {
	h := &c.held[q.place()]
	if h.known && now < h.refresh {
		c.counts[trace.PolicyCacheHit]++
		return h.decision, true
	}
	if h.check == idle {
		h.check = wanted
		c.counts[trace.PolicyCacheMiss]++
	}
	if h.known && now < h.ends {
		c.counts[trace.PolicyCacheStale]++
		return h.decision, true
	}
	return Decision{}, false
}

// PollCheck yields a question to be asked. Its answer is HandleDecision or
// HandleFault.
func (c *Decisions) PollCheck(now machine.Time) (Question, bool) {
	for i := range c.held {
		place := (c.next + i) % NumQuestions
		if h := &c.held[place]; h.check == wanted && now >= h.after {
			h.check, c.next = asked, place+1
			return QuestionAt(place), true
		}
	}
	return Question{}, false
}

// NextCheck is when PollCheck has a question, or Never.
func (c *Decisions) NextCheck() machine.Time {
	next := machine.Never
	for i := range c.held {
		if h := &c.held[i]; h.check == wanted {
			next = min(next, h.after)
		}
	}
	return next
}

// HandleDecision takes an answer. One under another revision than the last says
// that the policy has changed: what is held of the others is due over the spread.
func (c *Decisions) HandleDecision(now machine.Time, q Question, d Decision) {
	h := &c.held[q.place()]
	*h = held{decision: d, known: true, after: now, refresh: now.Add(d.CacheFor - c.part(d.CacheFor/2))}
	h.ends = h.refresh.Add(c.cfg.Grace)
	if c.revision != d.Revision {
		c.revision = d.Revision
		for i := range c.held {
			if h := &c.held[i]; h.decision.Revision != d.Revision {
				c.due(now, h)
			}
		}
	}
}

// HandleFault says that a check had no answer: it is asked again, at growing
// distance.
func (c *Decisions) HandleFault(now machine.Time, q Question) {
	h := &c.held[q.place()]
	if h.check != asked {
		return
	}
	wait := machine.RepeatAfter(h.tries, checkRetry, checkRetryMax)
	h.check, h.after = wanted, now.Add(wait-c.part(wait/2))
	h.tries++
	c.counts[trace.PolicyFault]++
}

// Invalidate says that the policy has changed: every decision is asked for anew, at
// a moment drawn in the spread. Until then, and for the grace after, it is followed.
func (c *Decisions) Invalidate(now machine.Time) {
	for i := range c.held {
		c.due(now, &c.held[i])
	}
}

func (c *Decisions) due(now machine.Time, h *held) {
	h.refresh = min(h.refresh, now.Add(c.part(c.cfg.Spread)))
	h.ends = min(h.ends, h.refresh.Add(c.cfg.Grace))
}

// part is a drawn part of a duration.
func (c *Decisions) part(of time.Duration) time.Duration {
	hi, _ := bits.Mul64(c.draw.Uint64(), uint64(max(of, 0)))
	return time.Duration(hi)
}
