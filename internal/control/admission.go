// Package control holds the pure parts of the control plane: what a policy
// decides and what an admission leaves behind. It knows no peers, no targets
// and no traffic.
package control

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Policy decides who is admitted. The zero Policy admits everybody at the
// seed's rate.
type Policy struct {
	// NetworkKey, if set, admits only clients that prove to hold it.
	NetworkKey *seal.Key
	// PerMinute is how many new sessions one client may open a minute; 30.
	PerMinute int
	// Lifetime is how long a session_token is good; 1 h.
	Lifetime time.Duration
	// RecordsMax bounds the records kept, those included whose session ended
	// within the minute; 1,000,000, the seed's target of concurrent sessions.
	RecordsMax int

	// Central has a decision of the control plane asked for; without it the node
	// decides by the above alone.
	Central   bool
	Decisions DecisionConfig
	// PerSecond is how many sessions the node admits a second; 0: as many as come.
	PerSecond int
	// QueueMax bounds the requests that wait for a decision or for their turn;
	// 4,096. Negative: none may wait, for controls of tests.
	QueueMax int
	// WorkMost is the greatest difficulty of proofs of work that are asked for while
	// the queue is under pressure; 0: none are.
	WorkMost uint8

	// Passes is what the entry makes of unlinkable tokens, PassChallenge what those
	// answer that are for it (pass.Challenge).
	Passes        PassRule
	PassChallenge [32]byte
}

const (
	defaultPerMinute  = 30
	defaultLifetime   = time.Hour
	defaultRecordsMax = 1_000_000
	defaultQueueMax   = 4096
)

func (p Policy) withDefaults() Policy {
	if p.PerMinute == 0 {
		p.PerMinute = defaultPerMinute
	}
	if p.Lifetime == 0 {
		p.Lifetime = defaultLifetime
	}
	if p.RecordsMax == 0 {
		p.RecordsMax = defaultRecordsMax
	}
	if p.QueueMax == 0 {
		p.QueueMax = defaultQueueMax
	}
	p.QueueMax, p.WorkMost = max(p.QueueMax, 0), min(p.WorkMost, WorkMost)
	return p
}

// Proof is what a client of a network with a key sends in SESSION_INIT.
func Proof(key *seal.Key, clientID, nonce [16]byte) [seal.MACSize]byte {
	return seal.MAC(key, clientID[:], nonce[:])
}

// record is what an admission leaves: version, expiry and class, under the
// client's pseudonym, and nothing about peers or traffic. One whose session has
// ended is kept, without its token, until the minute is over in which it counts:
// otherwise a client would have its rate anew by ending its session.
type record struct {
	expires machine.Timer[[16]byte]
	nonce   [16]byte
	fleet   *fleetKey // of the session's token; nil when it has ended
	token   uint64    // counter of the token, from which it is sealed anew
	version uint32
	holder  Holder
	level   wire.Level
	ended   bool

	opened uint32       // admissions in the window
	minute machine.Time // its start
}

// fleetKey is a key under which tokens are sealed, and how many live records have
// one under it. A replaced key stays for as long as there are such.
type fleetKey struct {
	seal.AEAD
	tokens int
}

// Holder names, to the owner, by what a client came last: the session ends with
// it. 0 is none.
type Holder uint32

// Admission decides SESSION_INIT and keeps session records. It is part of one
// machine and belongs to its owner.
type Admission struct {
	// Room is asked, last of all, before a session is admitted; nil: there is room.
	Room func(machine.Time) bool
	// Changes are told what becomes of session records; nil: nobody is.
	Changes *RecordChanges

	policy  Policy
	fleet   *fleetKey // of new tokens
	counter *prng.Stream
	records map[[16]byte]*record
	expiry  machine.Timers[[16]byte]
	ended   int // of the records
	drain   bool
	// configured is the policy as it was given, before SetLimits; nil: it is in force.
	configured *Policy
}

// NewAdmission returns an admission under a policy. fleet is the key that all
// Stream nodes of a fleet share; it seals session tokens.
func NewAdmission(p Policy, fleet *seal.Key, rng prng.Source) *Admission {
	a := &Admission{policy: p.withDefaults(), counter: rng.Stream("token"), records: map[[16]byte]*record{}}
	a.RotateFleet(fleet)
	return a
}

// RotateFleet makes fleet the key of new tokens. Those under the keys before it
// are good until their records end; a key goes with the last of its tokens.
func (a *Admission) RotateFleet(fleet *seal.Key) {
	last := a.fleet
	key := seal.Derive(fleet, "session token")
	a.fleet = &fleetKey{}
	a.fleet.Init(seal.AES256GCM, &key) // one suite, whatever the processors of the fleet
	key.Clear()
	if last != nil && last.tokens == 0 {
		last.Forget()
	}
}

// under has a record's token be one under k, or, if k is nil, gives the token up.
func (a *Admission) under(r *record, k *fleetKey) {
	if k != nil {
		k.tokens++
	}
	if last := r.fleet; last != nil {
		if last.tokens--; last.tokens == 0 && last != a.fleet {
			last.Forget()
		}
	}
	r.fleet = k
}

// terms are the limits under which a session is admitted: the node's own, or
// stricter ones of a Decision.
type terms struct {
	perMinute int
	lifetime  time.Duration
}

func (a *Admission) terms() terms { return terms{a.policy.PerMinute, a.policy.Lifetime} }

func (t terms) within(d *Decision) terms {
	if d.PerMinute > 0 {
		t.perMinute = min(t.perMinute, d.PerMinute)
	}
	if d.Lifetime > 0 {
		t.lifetime = min(t.lifetime, d.Lifetime)
	}
	return t
}

// Init decides a SESSION_INIT that came by a holder, by the node's own policy. The
// same client id and nonce get the same answer for as long as the record lives, and
// count once.
func (a *Admission) Init(now machine.Time, m *wire.SessionInit, by Holder) (wire.SessionReady, wire.Refusal) {
	if ready, again := a.repeated(now, m, by); again {
		return ready, 0
	}
	return a.admit(now, m, by, a.terms())
}

// repeated answers a SESSION_INIT that was admitted before.
func (a *Admission) repeated(now machine.Time, m *wire.SessionInit, by Holder) (wire.SessionReady, bool) {
	a.Expire(now)
	r := a.records[m.ClientID]
	if r == nil || r.ended || r.nonce != m.Nonce {
		return wire.SessionReady{}, false
	}
	r.holder = by
	return a.ready(now, r), true
}

// admit makes or renews the record of a client, unless the node refuses it.
func (a *Admission) admit(now machine.Time, m *wire.SessionInit, by Holder, t terms) (wire.SessionReady, wire.Refusal) {
	if refused := a.check(now, m, t); refused != 0 {
		return wire.SessionReady{}, refused
	}
	if a.Room != nil && !a.Room(now) {
		return wire.SessionReady{}, wire.RefusedFull
	}
	r := a.records[m.ClientID]
	if r == nil {
		r = &record{minute: now}
		r.expires.Value = m.ClientID
		a.records[m.ClientID] = r
	}
	if now.Sub(r.minute) >= time.Minute {
		r.minute, r.opened = now, 0
	}
	if r.ended {
		r.ended = false
		a.ended--
	}
	a.tellEnded(r) // the session that this one renews
	r.opened++
	r.version++
	r.nonce, r.level, r.holder = m.Nonce, m.Level, by
	a.under(r, a.fleet)
	r.token = a.counter.Uint64()
	a.expiry.Set(&r.expires, now.Add(t.lifetime))
	ready := a.ready(now, r)
	if c := a.Changes; c != nil {
		c.Put(RecordCreated, SessionRecord{Token: HashToken(&ready.Token), Version: r.version, Expires: c.unix(r.expires.At()), Class: uint8(a.credential())})
	}
	return ready, 0
}

// credential is by what a client is known that is admitted.
func (a *Admission) credential() Credential {
	if a.policy.NetworkKey != nil {
		return CredentialKey
	}
	return CredentialNone
}

// tellEnded tells of a record whose session ends, if it has one.
func (a *Admission) tellEnded(r *record) {
	if a.Changes == nil || r.fleet == nil {
		return
	}
	token := a.seal(r)
	a.Changes.Put(RecordEnded, SessionRecord{Token: HashToken(&token)})
}

func (a *Admission) check(now machine.Time, m *wire.SessionInit, t terms) wire.Refusal {
	r := a.records[m.ClientID]
	switch {
	case a.drain:
		return wire.RefusedDrain
	case m.Version < wire.AdmissionVersionLeast || m.Version > wire.AdmissionVersion:
		return wire.RefusedVersion
	case !a.proven(m):
		return wire.RefusedPolicy
	case r != nil && now.Sub(r.minute) < time.Minute && int(r.opened) >= t.perMinute:
		return wire.RefusedRate
	case r == nil && len(a.records) >= a.policy.RecordsMax:
		return wire.RefusedFull
	}
	return 0
}

func (a *Admission) proven(m *wire.SessionInit) bool {
	if a.policy.NetworkKey == nil {
		return true
	}
	want := Proof(a.policy.NetworkKey, m.ClientID, m.Nonce)
	return seal.Equal(want[:], m.Proof[:])
}

func (a *Admission) ready(now machine.Time, r *record) wire.SessionReady {
	left := r.expires.At().Sub(now) / time.Second
	return wire.SessionReady{Nonce: r.nonce, Version: r.version, Lifetime: uint32(max(left, 0)), Token: a.seal(r)}
}

// seal makes the token of a record, the same each time: [counter 8][sealed: hash
// of the client id 31, version 4, level 1, zero 4][tag 16].
func (a *Admission) seal(r *record) (t wire.Token) {
	name := seal.Hash("session record", r.expires.Value[:])
	var plain [wire.TokenSize - 8 - wire.TagSize]byte
	copy(plain[:31], name[:])
	plain[31], plain[32], plain[33], plain[34] = byte(r.version>>24), byte(r.version>>16), byte(r.version>>8), byte(r.version)
	plain[35] = byte(r.level)
	for i := range 8 {
		t[i] = byte(r.token >> (56 - 8*i))
	}
	r.fleet.Seal(t[8:8], plain[:], nil, r.token)
	return t
}

// Terminate ends the session of a token and reports whether there was one.
// Calling it again is harmless.
func (a *Admission) Terminate(client [16]byte, token *wire.Token) bool {
	r := a.records[client]
	if r == nil || r.ended {
		return false
	}
	if own := a.seal(r); !seal.Equal(own[:], token[:]) {
		return false
	}
	a.end(r)
	return true
}

// Release ends the session of a client that vanished with a holder, unless it
// has come by another since.
func (a *Admission) Release(client [16]byte, by Holder) bool {
	r := a.records[client]
	if r == nil || r.ended || r.holder != by {
		return false
	}
	a.end(r)
	return true
}

// end takes a record's session from it, and leaves what counts.
func (a *Admission) end(r *record) {
	a.tellEnded(r)
	a.under(r, nil)
	r.ended, r.token, r.nonce = true, 0, [16]byte{}
	a.ended++
	a.expiry.Set(&r.expires, r.minute.Add(time.Minute))
}

// Has reports whether a client has a live record.
func (a *Admission) Has(client [16]byte) bool {
	r := a.records[client]
	return r != nil && !r.ended
}

// Drain refuses every new session from now on; old ones stay.
func (a *Admission) Drain() { a.drain = true }

// Expire forgets the records whose time is over.
func (a *Admission) Expire(now machine.Time) {
	for {
		t, due := a.expiry.Pop(now)
		if !due {
			return
		}
		r := a.records[t.Value]
		if !r.ended && r.minute.Add(time.Minute) > now {
			a.end(r)
			continue
		}
		if r.ended {
			a.ended--
		} else {
			a.under(r, nil)
		}
		delete(a.records, t.Value)
	}
}

// NextExpiry is when Expire has work.
func (a *Admission) NextExpiry() machine.Time { return a.expiry.Next() }

// Len is the number of live records.
func (a *Admission) Len() int { return len(a.records) - a.ended }
