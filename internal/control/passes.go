package control

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// PassRule is what an entry makes of passes.
type PassRule uint8

// Rules.
const (
	PassesIgnored  PassRule = iota // it has no issuer, and does not look at them
	PassesTaken                    // who spends one is known by it
	PassesRequired                 // nobody is admitted without
)

// PassKey is a key under which passes are taken until a time.
type PassKey struct {
	Public *seal.PassPublic
	Until  machine.Time
}

// Spent is a pass that was taken, for the record that outlives the process.
type Spent struct {
	Key [32]byte
	Tag pass.Tag
}

const (
	// spentMax bounds what is kept of the passes that were spent under one key: 160 MB.
	// An entry that has taken so many takes no more of them.
	spentMax = 1 << 22
	// barredFor is how long a link that showed a forged pass shows others in vain: a
	// signature costs as much to check as ten datagrams to open.
	barredFor = 10 * time.Second
)

// passes is an entry's side of passes: under which keys they are taken, and which were.
// A pass names the entry in what it answers, so that this record alone decides.
type passes struct {
	rule      PassRule
	challenge [32]byte
	keys      map[[32]byte]*passKey
	barred    map[Holder]machine.Time
	spent     []Spent // to be told
}

type passKey struct {
	PassKey
	spent map[pass.Tag]struct{}
}

// setKeys takes the keys that there are from now on. What was spent under one that goes
// is forgotten with it.
func (p *passes) setKeys(keys []PassKey) {
	was := p.keys
	p.keys = make(map[[32]byte]*passKey, len(keys))
	for _, k := range keys {
		id := k.Public.ID()
		to := was[id]
		if to == nil {
			to = &passKey{spent: map[pass.Tag]struct{}{}}
		}
		to.PassKey = k
		p.keys[id] = to
	}
}

// load takes what an earlier process has taken.
func (p *passes) load(s Spent) {
	if k := p.keys[s.Key]; k != nil {
		k.spent[s.Tag] = struct{}{}
	}
}

// look judges what a SESSION_INIT shows, and reports whether it is a pass that may be
// spent. What costs least is looked at first, and the signature last.
func (p *passes) look(now machine.Time, m *wire.SessionInit, by Holder) (good bool, refused wire.Refusal) {
	switch {
	case p.rule == PassesIgnored:
		return false, 0
	case !m.Passed && p.rule == PassesRequired:
		return false, wire.RefusedPass
	case !m.Passed:
		return false, 0
	}
	k := p.keys[m.Pass.Key]
	switch {
	case k == nil || now >= k.Until || m.Pass.Challenge != p.challenge || k.has(&m.Pass) || now < p.barred[by]:
		return false, wire.RefusedPass
	case len(k.spent) >= spentMax:
		return false, wire.RefusedFull
	case !k.Public.Verify(m.Pass.AppendInput(nil), m.Pass.Authenticator[:]):
		if p.barred == nil {
			p.barred = map[Holder]machine.Time{}
		}
		p.barred[by] = now.Add(barredFor)
		return false, wire.RefusedPass
	}
	return true, 0
}

func (k *passKey) has(p *wire.Pass) bool {
	_, spent := k.spent[pass.TagOf(p)]
	return spent
}

// spendable reports whether a pass that was good when it was looked at still is: while
// it waited, another request may have spent it.
func (p *passes) spendable(x *wire.Pass) bool {
	k := p.keys[x.Key]
	return k != nil && !k.has(x)
}

// spend takes a pass that is spendable.
func (p *passes) spend(x *wire.Pass) {
	s := Spent{x.Key, pass.TagOf(x)}
	p.keys[x.Key].spent[s.Tag] = struct{}{}
	p.spent = append(p.spent, s)
}

// SetPassKeys takes the issuer's keys, in place of those before.
func (i *Intake) SetPassKeys(keys []PassKey) { i.passes.setKeys(keys) }

// LoadSpent takes a pass that was taken by an earlier process, under a key that is set.
func (i *Intake) LoadSpent(s Spent) { i.passes.load(s) }

// PollSpent yields what was taken since, to be on record before the answer leaves.
func (i *Intake) PollSpent() (Spent, bool) {
	if len(i.passes.spent) == 0 {
		return Spent{}, false
	}
	s := i.passes.spent[0]
	if i.passes.spent = i.passes.spent[1:]; len(i.passes.spent) == 0 {
		i.passes.spent = nil
	}
	return s, true
}
