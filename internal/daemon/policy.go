package daemon

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/machine"
)

// PolicyPath is where the control plane answers POLICY_CHECKs.
const PolicyPath = "/control/v1/policy"

// Decider decides on the control side. Decide is called by many goroutines.
type Decider interface {
	Decide(ctx context.Context, region string, q control.Question) (control.Decision, error)
}

// PolicyHandler answers POLICY_CHECKs by a Decider. Who may ask is for the server to
// see to: the questions name nobody, and the answers are no secret.
func PolicyHandler(d Decider) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "POST the questions", http.StatusMethodNotAllowed)
			return
		}
		b, ok := takeBody(w, r, "questions", control.ChecksMax)
		if !ok {
			return
		}
		checks, err := control.ParseChecks(b)
		if err != nil {
			http.Error(w, "not a policy check: "+err.Error(), http.StatusBadRequest)
			return
		}
		decisions := make([]control.Decision, len(checks.Questions))
		for i, q := range checks.Questions {
			if decisions[i], err = d.Decide(r.Context(), checks.Region, q); err != nil {
				http.Error(w, "the policy does not decide: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(control.EncodeDecisions(decisions))
	})
}

// What a configured entry admits: so many sessions a second, behind which its queue
// grows, and from strangers under pressure no more work than a second of one core.
const (
	admittedPerSecond = 2000
	admissionWorkMost = 20
)

// checkTimeout bounds a POLICY_CHECK, less than which a session waits for it.
const checkTimeout = 1500 * time.Millisecond

// PolicyPost posts a POLICY_CHECK to the control plane and returns the answer.
type PolicyPost func(ctx context.Context, checks []byte) ([]byte, error)

// PostPolicy posts to the first of the control plane's servers that answers, beginning
// with the one that did last.
func PostPolicy(client *http.Client, urls []string) PolicyPost {
	var first atomic.Uint32
	return func(ctx context.Context, checks []byte) ([]byte, error) {
		var failed error
		for range urls {
			now := first.Load()
			at := urls[int(now)%len(urls)]
			r, err := exchange(ctx, client, request{server: at, path: PolicyPath, post: checks, most: control.DecisionsMax})
			if err == nil && !r.ok() {
				err = errors.New(at + " answers " + r.Status + ": " + r.said())
			}
			if err == nil {
				return r.body, nil
			}
			failed = err
			first.CompareAndSwap(now, now+1)
		}
		return nil, failed
	}
}

// checks takes the gateway's questions to the control plane: those of a round, or of
// the rounds while an answer was awaited, go together.
type checks struct {
	post    PolicyPost
	waiting []control.Question // under the host's lock
	come    chan struct{}      // there are some
}

// collect takes what the gateway asks. The host's lock is held.
func (n *Node) collect(now machine.Time) {
	if n.checks.post == nil {
		return
	}
	for {
		q, ok := n.gateway.PollCheck(now)
		if !ok {
			break
		}
		n.checks.waiting = append(n.checks.waiting, q)
	}
	if len(n.checks.waiting) > 0 {
		select {
		case n.checks.come <- struct{}{}:
		default:
		}
	}
}

// keepChecking answers the gateway's questions.
func (n *Node) keepChecking(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.checks.come:
		}
		var questions []control.Question
		n.host.Do(func(machine.Time) { questions, n.checks.waiting = n.checks.waiting, nil })
		if len(questions) == 0 {
			continue
		}
		decisions, err := n.check(ctx, questions)
		if ctx.Err() != nil {
			return
		}
		n.note(deciding, err)
		n.host.Do(func(now machine.Time) {
			for i, q := range questions {
				if err != nil {
					n.gateway.HandleFault(now, q)
				} else {
					n.gateway.HandleDecision(now, q, decisions[i])
				}
			}
		})
	}
}

func (n *Node) check(ctx context.Context, questions []control.Question) ([]control.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	b, err := n.checks.post(ctx, (&control.Checks{Region: n.cfg.Region, Questions: questions}).Encode())
	if err != nil {
		return nil, err
	}
	return control.ParseDecisions(b, len(questions))
}
