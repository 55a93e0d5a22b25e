package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/machine"
)

// PolicyPath is where the control plane answers POLICY_CHECKs.
const PolicyPath = "/control/v1/policy"

// Decider decides on the control side. Decide is called by many goroutines.
type Decider interface {
	Decide(ctx context.Context, region string, q control.Question) (control.Decision, error)
}

// policyHandler answers POLICY_CHECKs by a Decider. Who may ask is for the server to
// see to: the questions name nobody, and the answers are no secret. It tells what was
// decided, if somebody is to be told, before it answers.
func policyHandler(d Decider, told func(r *http.Request, region string, decisions []control.Decision)) http.Handler {
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
		if told != nil {
			told(r, checks.Region, decisions)
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

// checks takes the gateway's questions to the control plane: those of a round, or of
// the rounds while an answer was awaited, go together, but for that of a probe.
type checks struct {
	ask     func(ctx context.Context, checks []byte) ([]byte, error) // nil: nobody is asked
	waiting []control.Question                                       // under the host's lock
	come    chan struct{}                                            // there are some
}

// collect takes what the gateway asks. The host's lock is held.
func (n *Node) collect(now machine.Time) {
	if n.checks.ask == nil {
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

// keepChecking answers the gateway's questions. When the directory lists the node it
// asks all that there are ahead of need: the first sessions then wait for nothing, and
// an entry whose control plane dies has a decision to follow for each.
func (n *Node) keepChecking(ctx context.Context) {
	var all []control.Question
	for place := range control.NumQuestions {
		all = append(all, control.QuestionAt(place))
	}
	listed, again := n.Listed(), time.NewTimer(0)
	again.Stop()
	defer again.Stop()
	for failures := 0; ; {
		questions, ahead := all, true
		select {
		case <-ctx.Done():
			return
		case <-listed:
			listed = nil
		case <-again.C:
		case <-n.checks.come:
			ahead = false
			n.host.Do(func(machine.Time) { questions, n.checks.waiting = n.checks.waiting, nil })
		}
		if len(questions) == 0 {
			continue
		}
		err := n.decide(ctx, questions)
		if ctx.Err() != nil {
			return
		}
		n.note(deciding, err)
		if ahead && err != nil {
			failures++
			again.Reset(min(settleAgain<<min(failures, 8), settleMost))
		}
	}
}

// decide has the gateway's questions answered. The probe's goes in a request of its own,
// which alone names a trace: what users ask beside it is no part of that.
func (n *Node) decide(ctx context.Context, questions []control.Question) error {
	traced, at := n.prober.check(ctx, questions)
	if at < 0 {
		return n.answer(ctx, questions)
	}
	var own, users error
	var asking sync.WaitGroup
	asking.Go(func() { own = n.answer(traced, questions[at:at+1]) })
	if len(questions) > 1 {
		users = n.answer(ctx, slices.Delete(slices.Clone(questions), at, at+1))
	}
	asking.Wait()
	return errors.Join(users, own)
}

// answer has questions answered by one POLICY_CHECK.
func (n *Node) answer(ctx context.Context, questions []control.Question) error {
	decisions, err := n.check(ctx, questions)
	if ctx.Err() != nil {
		return err
	}
	n.host.Do(func(now machine.Time) {
		for i, q := range questions {
			if err != nil {
				n.gateway.HandleFault(now, q)
			} else {
				n.gateway.HandleDecision(now, q, decisions[i])
			}
		}
	})
	return err
}

func (n *Node) check(ctx context.Context, questions []control.Question) ([]control.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	b, err := n.checks.ask(ctx, (&control.Checks{Region: n.cfg.Region, Questions: questions}).Encode())
	if err != nil {
		return nil, err
	}
	return control.ParseDecisions(b, len(questions))
}

// policy posts a POLICY_CHECK and returns the answer.
func (t *teller) policy(ctx context.Context, checks []byte) ([]byte, error) {
	r, err := t.plane.ask(ctx, request{path: PolicyPath, post: checks, most: control.DecisionsMax})
	if err == nil && !r.ok() {
		err = fmt.Errorf("the control process answers %s: %s", r.Status, r.said())
	}
	return r.body, err
}

// settings asks for what follows a revision of the configuration.
func (t *teller) settings(ctx context.Context, query url.Values) (status int, answer []byte, err error) {
	r, err := t.plane.ask(ctx, request{path: settingsPath + "?" + query.Encode(), most: settings.DeliveryMost})
	if err != nil {
		return 0, nil, err
	}
	return r.StatusCode, r.body, nil
}
