package control

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// door is an intake, and what it said.
type door struct {
	*Intake
	records *Admission
	counts  trace.Counts
	said    []Answer
}

func newDoor(p Policy) *door {
	d := &door{records: newAdmission(p)}
	d.Intake = NewIntake(d.records, prng.FromUint64(1), &d.counts)
	return d
}

func (d *door) listen() {
	for a, ok := d.PollAnswer(); ok; a, ok = d.PollAnswer() {
		d.said = append(d.said, a)
	}
}

// knock has client n ask, by a link of its own.
func (d *door) knock(now machine.Time, n int, nonce byte) {
	m := &wire.SessionInit{ClientID: [16]byte{byte(n), byte(n >> 8), 1}, Nonce: [16]byte{nonce}, Version: wire.AdmissionVersion}
	d.Handle(now, m, Holder(n+1))
	d.listen()
}

func (d *door) decide(now machine.Time, decision Decision) {
	for q, ok := d.PollCheck(now); ok; q, ok = d.PollCheck(now) {
		d.HandleDecision(now, q, decision)
	}
	d.listen()
}

// tally counts what was said, by reason; 0 is admission.
func (d *door) tally() map[wire.Refusal]int {
	n := map[wire.Refusal]int{}
	for _, a := range d.said {
		n[a.Refused.Reason]++
	}
	return n
}

// Who waits for a decision is admitted when it comes, all by one check; repetitions
// wait once and are answered alike after.
func TestRequestsWaitForTheDecision(t *testing.T) {
	d := newDoor(Policy{Central: true})
	for n := range 100 {
		d.knock(0, n, 1)
		d.knock(0, n, 1)
	}
	if len(d.said) != 0 || d.Waiting() != 100 || d.counts[trace.PolicyCacheMiss] != 1 {
		t.Fatalf("%d answers, %d wait, %d misses", len(d.said), d.Waiting(), d.counts[trace.PolicyCacheMiss])
	}
	d.decide(second(0.1), accepted("1"))
	if n := d.tally(); n[0] != 100 || len(n) != 1 || d.Waiting() != 0 {
		t.Errorf("said %v, %d wait", n, d.Waiting())
	}
	token := d.said[7].Ready.Token
	if d.knock(second(0.2), 7, 1); d.said[100].Ready.Token != token {
		t.Error("a repetition has another token")
	}
	for i, a := range d.said[:100] {
		if a.By != Holder(i+1) {
			t.Fatalf("answer %d is for holder %d: not in the order in which they came", i, a.By)
		}
	}
}

// A policy refuses, or limits more strictly than the node; never less.
func TestPoliciesRefuseAndLimit(t *testing.T) {
	d := newDoor(Policy{Central: true, PerMinute: 5, Lifetime: time.Hour})
	d.knock(0, 1, 1)
	d.decide(0, Decision{Refused: wire.RefusedPolicy, CacheFor: time.Second})
	if n := d.tally(); n[wire.RefusedPolicy] != 1 || d.records.Len() != 0 {
		t.Fatalf("said %v with %d records", n, d.records.Len())
	}
	d = newDoor(Policy{Central: true, PerMinute: 5, Lifetime: time.Hour})
	for nonce := range byte(4) {
		d.knock(0, 1, nonce)
		d.decide(0, Decision{PerMinute: 2, Lifetime: time.Minute, CacheFor: time.Hour})
	}
	if n := d.tally(); n[0] != 2 || n[wire.RefusedRate] != 2 || d.said[0].Ready.Lifetime != 60 {
		t.Errorf("said %v, for %d s", n, d.said[0].Ready.Lifetime)
	}
	d = newDoor(Policy{Central: true, PerMinute: 1, Lifetime: time.Minute})
	for nonce := range byte(2) {
		d.knock(0, 1, nonce)
		d.decide(0, Decision{PerMinute: 9, Lifetime: time.Hour, CacheFor: time.Hour})
	}
	if n := d.tally(); n[0] != 1 || d.said[0].Ready.Lifetime != 60 {
		t.Errorf("a policy made the node's limits wider: %v, for %d s", n, d.said[0].Ready.Lifetime)
	}
}

// Nobody waits for ever: without a decision each is told when its time is over.
func TestNobodyWaitsForEver(t *testing.T) {
	d := newDoor(Policy{Central: true})
	for n := range 50 {
		d.knock(machine.Time(n)*machine.Time(time.Millisecond), n, 1)
	}
	for now := d.NextTimer(); d.Waiting() > 0; now = d.NextTimer() {
		if now > second(2.1) {
			t.Fatalf("%d wait after %v", d.Waiting(), now)
		}
		for q, ok := d.PollCheck(now); ok; q, ok = d.PollCheck(now) {
			d.Decisions.HandleFault(now, q)
		}
		d.HandleTimer(now)
		d.listen()
	}
	if n := d.tally(); n[wire.RefusedBusy] != 50 || d.counts[trace.AdmissionShed] != 50 {
		t.Errorf("said %v, %d counted", n, d.counts[trace.AdmissionShed])
	}
}

// Only what the entry itself lacks is counted as its fault: nobody can have the operator
// woken by asking wrongly or too often.
func TestStrangersAreNoFault(t *testing.T) {
	stranger := func(version uint8) func(d *door) {
		return func(d *door) {
			for n := range 9 {
				d.Handle(0, &wire.SessionInit{ClientID: [16]byte{1}, Nonce: [16]byte{byte(n)}, Version: version}, 1)
			}
			d.decide(0, Decision{CacheFor: time.Hour, Work: 8})
		}
	}
	crowd := func(d *door) {
		for n := range 9 {
			d.knock(0, n, 1)
		}
	}
	for _, c := range []struct {
		what   string
		policy Policy
		do     func(*door)
		why    wire.Refusal
		fault  bool
	}{
		{"a wrong key", Policy{NetworkKey: &seal.Key{1}}, stranger(wire.AdmissionVersion), wire.RefusedPolicy, false},
		{"a greedy client", Policy{PerMinute: 1}, stranger(wire.AdmissionVersion), wire.RefusedRate, false},
		{"a version that is not spoken", Policy{}, stranger(wire.AdmissionVersion + 1), wire.RefusedVersion, false},
		{"a client that knows of no work", Policy{Central: true}, stranger(1), wire.RefusedBusy, false},
		{"a node that drains", Policy{}, func(d *door) { d.records.Drain(); crowd(d) }, wire.RefusedDrain, false},
		{"no token", Policy{Passes: PassesRequired}, crowd, wire.RefusedPass, false},
		{"a policy that refuses", Policy{Central: true}, func(d *door) { crowd(d); d.decide(0, Decision{CacheFor: time.Hour, Refused: wire.RefusedPolicy}) }, wire.RefusedPolicy, false},
		{"no room for records", Policy{RecordsMax: 1}, crowd, wire.RefusedFull, true},
		{"a node that is overloaded", Policy{}, func(d *door) { d.records.Room = func(machine.Time) bool { return false }; crowd(d) }, wire.RefusedFull, true},
		{"a full queue", Policy{Central: true, QueueMax: 1}, crowd, wire.RefusedBusy, true},
	} {
		d := newDoor(c.policy)
		c.do(d)
		n := uint64(d.tally()[c.why])
		if shed := d.counts[trace.AdmissionShed]; n == 0 || d.counts[trace.HandshakeErrors] < n || (shed == n) != c.fault || !c.fault && shed != 0 {
			t.Errorf("%s: said %v; %d refusals, %d of the entry's own fault", c.what, d.tally(), d.counts[trace.HandshakeErrors], shed)
		}
	}
}

// The queue is bounded, and costs the youngest of the weakest first; what a link that
// is gone had asked for is forgotten.
func TestTheQueueIsBounded(t *testing.T) {
	q := newQueue(3)
	ask := func(n int, c Credential) *pending {
		return q.push(&pending{by: Holder(n), came: machine.Time(n), question: Question{Credential: c}})
	}
	for n := range 3 {
		if ask(n, CredentialNone) != nil {
			t.Fatal("shed with room")
		}
	}
	if shed := ask(3, CredentialNone); shed == nil || shed.by != 3 {
		t.Errorf("a newcomer pushed out %+v", shed)
	}
	if shed := ask(4, CredentialKey); shed == nil || shed.by != 2 {
		t.Errorf("a member pushed out %+v, want the youngest stranger", shed)
	}
	q.release(1)
	if shed := ask(5, CredentialKey); shed != nil || q.len() != 3 {
		t.Errorf("a member pushed out %+v where one was gone; %d wait", shed, q.len())
	}
	var order []Holder
	for p := q.pop(func(Question) bool { return true }); p != nil; p = q.pop(func(Question) bool { return true }) {
		order = append(order, p.by)
	}
	if len(order) != 3 || order[0] != 4 || order[1] != 5 || order[2] != 0 {
		t.Errorf("their turns came as %v, want members first and nobody never", order)
	}
	if q.held != 0 || q.gone != 0 || len(q.of) != 0 {
		t.Errorf("an empty queue holds %d, %d gone, %d known", q.held, q.gone, len(q.of))
	}
}

// A burst is admitted at the node's pace, in order, and within its time. Control:
// without a queue most of it is refused.
func TestABurstIsSpread(t *testing.T) {
	burst := func(queueMax int) (admitted int, took machine.Time) {
		d := newDoor(Policy{PerSecond: 1000, QueueMax: queueMax})
		for n := range 500 {
			d.knock(0, n, 1)
		}
		for d.Waiting() > 0 {
			took = d.NextTimer()
			d.HandleTimer(took)
			d.listen()
		}
		return d.tally()[0], took
	}
	if n, took := burst(0); n != 500 || took < second(0.48) || took > second(0.5) {
		t.Errorf("%d admitted in %v", n, time.Duration(took))
	}
	if n, _ := burst(-1); n > 20 {
		t.Errorf("control: %d admitted at once", n)
	}
}

// Under pressure strangers show a proof of work; the entry keeps nothing of whom it
// asked, a proof is good for one request, and asking ends with the pressure.
func TestWorkIsAskedForUnderPressure(t *testing.T) {
	p := Policy{PerSecond: 10, QueueMax: 64, WorkMost: 14}
	d := newDoor(p)
	now := machine.Time(0)
	for n := range 600 {
		now = now.Add(10 * time.Millisecond)
		d.HandleTimer(now)
		d.knock(now, n, 1)
	}
	if d.counts[trace.WorkAsked] < 200 || len(d.queue.of) > 64 {
		t.Fatalf("%d challenges, %d wait", d.counts[trace.WorkAsked], len(d.queue.of))
	}
	last := d.said[len(d.said)-1]
	if last.Refused.Reason != wire.RefusedWork || last.Refused.Challenge.Bits < workFirst {
		t.Fatalf("the last answer is %+v", last.Refused)
	}
	m := &wire.SessionInit{ClientID: last.Client, Nonce: last.Refused.Nonce, Version: wire.AdmissionVersion, Worked: true}
	answer, found := Prove(&last.Refused.Challenge, m.ClientID, m.Nonce)
	if m.Work = answer; !found || !d.work.shown(now, m, d.work.bits) {
		t.Fatalf("a proof was refused (found %v)", found)
	}
	other := *m
	if other.Nonce[5]++; d.work.shown(now, &other, d.work.bits) {
		t.Error("the proof of another request is taken")
	}
	if d.work.shown(now.Add(3*workEpoch), m, d.work.bits) {
		t.Error("an old proof is taken")
	}
	if (&work{key: seal.Key{9}}).shown(now, m, d.work.bits) {
		t.Error("the proof for another entry is taken")
	}
	for range 40 {
		now = now.Add(time.Second)
		d.HandleTimer(now)
	}
	if d.work.bits != 0 {
		t.Errorf("%d bits are asked for when all is calm", d.work.bits)
	}
}

// One that speaks version 1 knows of no challenge: it is told that the node is busy.
func TestOldClientsAreToldThatTheNodeIsBusy(t *testing.T) {
	d := newDoor(Policy{WorkMost: 14})
	d.work.bits, d.work.next = 14, machine.Never
	d.Handle(0, &wire.SessionInit{Version: 1}, 1)
	d.listen()
	if d.said[0].Refused.Reason != wire.RefusedBusy {
		t.Errorf("said %+v", d.said[0].Refused)
	}
}
