package control

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// The way of a SESSION_INIT through an entry:
//
//	1. Handle: a repetition has its answer again; what the node refuses by itself
//	   (drain, version, proof, rate, records, a pass that is not good) is refused at
//	   once.
//	2. Handle: while the queue is under pressure, who is known by nothing shows a
//	   proof of work.
//	3. Decisions.Look: the decision of its question, from the cache; without one it
//	   is asked for (PollCheck), and the request waits.
//	4. serve: requests that have a decision go on at the node's pace, in the order
//	   of their due times: when they came, and later by what their credential is
//	   worth. No class of them starves.
//	5. settle: the decision refuses, or Admission admits under its terms, and the
//	   pass that was shown is spent.
//	6. HandleTimer: who has waited for waitMax is told so. When there is no room,
//	   the youngest of the weakest credential is.

// waitMax is how long a request may wait. A client repeats its SESSION_INIT
// meanwhile, for nothing.
const waitMax = 2 * time.Second

// slack is how much later than it came a request is due, by credential.
var slack = [numCredentials]time.Duration{CredentialNone: 200 * time.Millisecond, CredentialKey: 100 * time.Millisecond}

// Answer is what an entry says to a SESSION_INIT.
type Answer struct {
	By      Holder
	Client  [16]byte
	Refused wire.SessionRefused // Reason 0: Ready holds
	Ready   wire.SessionReady
}

// Intake is what a SESSION_INIT passes on its way to Admission. It is part of one
// machine and belongs to its owner: Handle… take input, PollAnswer and PollCheck
// yield output.
type Intake struct {
	Decisions *Decisions
	// Latency is told how long those took that were admitted, in µs; nil: nobody is.
	Latency *trace.Values
	// Own reports whether a nonce is of a session that the owner's own probe has begun;
	// nil: none is. The decision of such a one is asked for anew, and Steps hears of it
	// (trace.StepCame, StepDecided). Of no other does Steps hear.
	Own   func(nonce [16]byte) bool
	Steps trace.Sink

	records *Admission
	counts  *trace.Counts
	central bool
	queue   queue
	pace    pace
	paced   bool // somebody waits for the pace
	work    work
	passes  passes
	answers []Answer
	probes  []*pending // that wait for a decision that was asked for anew
}

// NewIntake returns the intake before records, under the same policy.
func NewIntake(records *Admission, rng prng.Source, counts *trace.Counts) *Intake {
	p := &records.policy
	i := &Intake{
		Decisions: NewDecisions(p.Decisions, rng, counts), records: records, counts: counts, central: p.Central,
		queue: newQueue(p.QueueMax), work: work{most: p.WorkMost}, passes: passes{rule: p.Passes, challenge: p.PassChallenge},
	}
	if p.PerSecond > 0 {
		i.pace.gap = time.Second / time.Duration(p.PerSecond)
	}
	rng.Stream("work").Read(i.work.key[:])
	return i
}

// Handle takes a SESSION_INIT that came by a holder.
func (i *Intake) Handle(now machine.Time, m *wire.SessionInit, by Holder) {
	i.serve(now)
	if ready, again := i.records.repeated(now, m, by); again {
		i.answers = append(i.answers, Answer{By: by, Client: m.ClientID, Ready: ready})
		return
	}
	if i.queue.repeated(m, by) || slices.ContainsFunc(i.probes, func(p *pending) bool { return p.by == by && p.init.Nonce == m.Nonce }) {
		return
	}
	p := &pending{init: *m, by: by, came: now, question: i.question(m)}
	refused := i.records.check(now, m, i.records.terms())
	if refused == 0 {
		p.passed, refused = i.passes.look(now, m, by)
	}
	if refused != 0 {
		i.refuse(p, refused)
		return
	}
	if p.passed {
		p.question.Credential = CredentialToken
	}
	i.work.adapt(now, i.queue.len(), i.queue.most)
	if p.question.Credential == CredentialNone && !i.work.shown(now, m, i.work.bits) {
		i.ask(now, p, i.work.bits)
		return
	}
	if i.probed(now, p) {
		return
	}
	if i.queue.held == 0 && i.pace.ready(now) {
		if d := i.decision(now, p.question); d.known() {
			i.settle(now, p, d)
			return
		}
	}
	i.push(now, p)
}

// push has a request wait for its turn.
func (i *Intake) push(now machine.Time, p *pending) {
	if shed := i.queue.push(p); shed != nil {
		i.refuse(shed, wire.RefusedBusy)
	}
	i.serve(now)
}

// question is what the policy is asked of a SESSION_INIT.
func (i *Intake) question(m *wire.SessionInit) Question {
	q := Question{Credential: i.records.credential(), Level: m.Level}
	switch n := i.queue.len(); {
	case 4*n > 3*i.queue.most:
		q.Load = LoadFull
	case 4*n > i.queue.most:
		q.Load = LoadBusy
	}
	return q
}

// serve settles what has a decision, as the pace allows.
func (i *Intake) serve(now machine.Time) {
	if i.paced = false; i.queue.held == 0 {
		return
	}
	var decided [NumQuestions]*Decision // looked for at most once
	for {
		if i.paced = !i.pace.ready(now); i.paced {
			return
		}
		p := i.queue.pop(func(q Question) bool {
			d := &decided[q.place()]
			if *d == nil {
				*d = i.decision(now, q)
			}
			return (*d).known()
		})
		if p == nil {
			return
		}
		i.settle(now, p, decided[p.question.place()])
	}
}

// undecided stands for a decision that is not there yet.
var undecided Decision

func (d *Decision) known() bool { return d != &undecided }

// decision is the decision of a question, or &undecided.
func (i *Intake) decision(now machine.Time, q Question) *Decision {
	if !i.central {
		return &Decision{}
	}
	if d, known := i.Decisions.Look(now, q); known {
		return &d
	}
	return &undecided
}

func (i *Intake) settle(now machine.Time, p *pending, d *Decision) {
	i.step(now, p, d)
	switch {
	case d.Refused != 0:
		i.refuse(p, d.Refused)
		return
	case !i.work.shown(now, &p.init, d.Work):
		i.ask(now, p, d.Work)
		return
	case p.passed && !i.passes.spendable(&p.init.Pass):
		i.refuse(p, wire.RefusedPass)
		return
	}
	ready, refused := i.records.admit(now, &p.init, p.by, i.records.terms().within(d))
	if refused != 0 {
		i.refuse(p, refused)
		return
	}
	i.pace.take(now)
	if p.passed {
		i.passes.spend(&p.init.Pass)
		i.counts[trace.PassesSpent]++
	}
	if i.Latency != nil {
		i.Latency.Observe(uint64(now.Sub(p.came) / time.Microsecond))
	}
	i.answers = append(i.answers, Answer{By: p.by, Client: p.init.ClientID, Ready: ready})
}

// refuse refuses a request. What the entry itself lacks (room, a turn, a decision) is
// counted apart: the operator is woken by that (package slo), and by nothing that who asks
// can bring about alone, as with a wrong key or too often.
func (i *Intake) refuse(p *pending, why wire.Refusal) {
	switch why {
	case wire.RefusedPass:
		i.counts[trace.PassesRefused]++
	case wire.RefusedFull, wire.RefusedBusy:
		i.counts[trace.AdmissionShed]++
	}
	i.deny(p, why)
}

func (i *Intake) deny(p *pending, why wire.Refusal) {
	i.counts[trace.HandshakeErrors]++
	i.answers = append(i.answers, Answer{By: p.by, Client: p.init.ClientID, Refused: wire.SessionRefused{Nonce: p.init.Nonce, Reason: why}})
}

// ask tells a client what proof of work to show. One of version 1 knows of none: for
// it the node is busy.
func (i *Intake) ask(now machine.Time, p *pending, difficulty uint8) {
	if p.init.Version < 2 {
		i.deny(p, wire.RefusedBusy)
		return
	}
	i.counts[trace.WorkAsked]++
	i.answers = append(i.answers, Answer{By: p.by, Client: p.init.ClientID, Refused: wire.SessionRefused{
		Nonce: p.init.Nonce, Reason: wire.RefusedWork, Challenge: i.work.challenge(now, difficulty)}})
}

// HandleDecision takes the answer to a check.
func (i *Intake) HandleDecision(now machine.Time, q Question, d Decision) {
	i.Decisions.HandleDecision(now, q, d)
	i.resume(now, q)
	i.serve(now)
}

// HandleFault says that a check had no answer.
func (i *Intake) HandleFault(now machine.Time, q Question) {
	i.Decisions.HandleFault(now, q)
	i.resume(now, q)
}

// HandleTimer serves whose turn has come, and tells those who have waited for too
// long.
func (i *Intake) HandleTimer(now machine.Time) {
	i.serve(now)
	for p := i.queue.expired(now); p != nil; p = i.queue.expired(now) {
		i.refuse(p, wire.RefusedBusy)
	}
	i.work.adapt(now, i.queue.len(), i.queue.most)
}

// NextTimer is when HandleTimer or PollCheck has work.
func (i *Intake) NextTimer() machine.Time {
	next := min(i.queue.nextEnd(), i.Decisions.NextCheck())
	if i.paced {
		next = min(next, i.pace.next)
	}
	return next
}

// Release forgets what a holder that is gone has asked for.
func (i *Intake) Release(by Holder) {
	i.queue.release(by)
	i.probes = slices.DeleteFunc(i.probes, func(p *pending) bool { return p.by == by })
	delete(i.passes.barred, by)
}

// PollCheck yields a POLICY_CHECK, to be answered by HandleDecision or HandleFault.
func (i *Intake) PollCheck(now machine.Time) (Question, bool) { return i.Decisions.PollCheck(now) }

// PollAnswer yields what is to be said to a client.
func (i *Intake) PollAnswer() (Answer, bool) {
	if len(i.answers) == 0 {
		return Answer{}, false
	}
	a := i.answers[0]
	if i.answers = i.answers[1:]; len(i.answers) == 0 {
		i.answers = nil
	}
	return a, true
}

// Waiting is how many requests wait.
func (i *Intake) Waiting() int { return i.queue.len() }

// pace lets so many pass a second, and those of 10 ms at once after a rest: what they
// bring to the nodes behind is spread alike.
// The zero pace lets all pass.
type pace struct {
	gap  time.Duration
	next machine.Time // when the next may pass
}

const paceBurst = 10 * time.Millisecond

func (p *pace) ready(now machine.Time) bool { return p.gap == 0 || now >= p.next }

func (p *pace) take(now machine.Time) {
	if p.gap > 0 {
		p.next = max(p.next, now-machine.Time(paceBurst)).Add(p.gap)
	}
}
