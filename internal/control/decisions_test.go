package control

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

func newDecisions(cfg DecisionConfig, seed uint64) (*Decisions, *trace.Counts) {
	counts := &trace.Counts{}
	return NewDecisions(cfg, prng.FromUint64(seed), counts), counts
}

func accepted(revision string) Decision { return Decision{CacheFor: time.Minute, Revision: revision} }

func second(n float64) machine.Time { return machine.Time(n * float64(time.Second)) }

func TestQuestionsHaveAPlaceEach(t *testing.T) {
	for place := range NumQuestions {
		if q := QuestionAt(place); q.place() != place {
			t.Errorf("question %+v of place %d has place %d", q, place, q.place())
		}
	}
}

// A question is asked once, however many look, and a decision answers until it is
// due; then it is followed while the next is awaited, and for the grace without.
func TestDecisionsAreReadThrough(t *testing.T) {
	c, counts := newDecisions(DecisionConfig{Grace: time.Minute}, 1)
	q := Question{Level: wire.High}
	for range 10 {
		if _, known := c.Look(0, q); known {
			t.Fatal("a decision out of nothing")
		}
	}
	asked, ok := c.PollCheck(0)
	if _, more := c.PollCheck(0); !ok || asked != q || more {
		t.Fatalf("asked %+v, %v, more %v", asked, ok, more)
	}
	c.HandleDecision(0, q, accepted("1"))
	if _, known := c.Look(second(29), q); !known || counts[trace.PolicyCacheMiss] != 1 || counts[trace.PolicyCacheHit] != 1 {
		t.Errorf("known %v, %d misses, %d hits", known, counts[trace.PolicyCacheMiss], counts[trace.PolicyCacheHit])
	}
	if _, known := c.Look(second(61), q); !known || counts[trace.PolicyCacheStale] != 1 {
		t.Error("a decision that is due is not followed")
	}
	if _, ok := c.PollCheck(second(61)); !ok {
		t.Error("a decision that is due is not asked for")
	}
	if _, known := c.Look(second(121), q); known {
		t.Error("a decision is followed after its grace")
	}
}

// Without an answer a question is asked again, ever more rarely, and at moments of
// each node's own.
func TestFaultsAreRetriedApart(t *testing.T) {
	c, _ := newDecisions(DecisionConfig{}, 1)
	c.Look(0, Question{})
	now, gaps := machine.Time(0), []time.Duration{}
	for range 12 {
		q, ok := c.PollCheck(now)
		if !ok {
			t.Fatalf("no check at %v", now)
		}
		c.HandleFault(now, q)
		c.HandleFault(now, q) // told twice, it counts once
		gaps = append(gaps, c.NextCheck().Sub(now))
		now = c.NextCheck()
	}
	if gaps[0] > checkRetry || gaps[11] < checkRetryMax/2 || gaps[11] > checkRetryMax {
		t.Errorf("repeated after %v", gaps)
	}
	other, _ := newDecisions(DecisionConfig{}, 2)
	other.Look(0, Question{})
	q, _ := other.PollCheck(0)
	if other.HandleFault(0, q); other.NextCheck().Sub(0) == gaps[0] {
		t.Error("two nodes ask again at one moment")
	}
}

// A new revision has what others hold asked for over the spread, evenly, and not one
// question goes without a decision. Control: without spread all are due at once.
func TestANewPolicyIsAskedForOverTheSpread(t *testing.T) {
	due := func(spread time.Duration) (early, unknown int) {
		const nodes = 200
		for seed := range uint64(nodes) {
			c, _ := newDecisions(DecisionConfig{Spread: spread}, seed)
			for place := range NumQuestions {
				c.HandleDecision(0, QuestionAt(place), Decision{CacheFor: time.Hour, Revision: "1"})
			}
			c.Invalidate(0)
			for place := range NumQuestions {
				if _, known := c.Look(second(30), QuestionAt(place)); !known {
					unknown++
				}
			}
			for _, ok := c.PollCheck(second(30)); ok; _, ok = c.PollCheck(second(30)) {
				early++
			}
		}
		return early * 1000 / (nodes * NumQuestions), unknown
	}
	if early, unknown := due(5 * time.Minute); early < 80 || early > 120 || unknown != 0 {
		t.Errorf("after a tenth of the spread %d ‰ are asked for, %d have no decision", early, unknown)
	}
	if early, _ := due(-1); early != 1000 {
		t.Errorf("control: %d ‰ are asked for at once", early)
	}
}

// A decision under another revision tells that the policy has changed.
func TestRevisionsSpreadByThemselves(t *testing.T) {
	c, _ := newDecisions(DecisionConfig{Spread: time.Second}, 1)
	for place := range NumQuestions {
		c.HandleDecision(0, QuestionAt(place), Decision{CacheFor: time.Hour, Revision: "1"})
	}
	c.HandleDecision(0, QuestionAt(0), Decision{CacheFor: time.Hour, Revision: "2"})
	asked := 0
	for place := range NumQuestions {
		c.Look(second(2), QuestionAt(place))
	}
	for _, ok := c.PollCheck(second(2)); ok; _, ok = c.PollCheck(second(2)) {
		asked++
	}
	if asked != NumQuestions-1 {
		t.Errorf("%d of %d old decisions are asked for", asked, NumQuestions-1)
	}
}
