package mix

import (
	"encoding/binary"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
)

const replayTagSize = 16

// ReplayTag is the record of one set-up that was accepted. It links nothing: it
// is a hash of a ciphertext that the next hop does not see.
type ReplayTag struct {
	// Onion names the onion key (OnionName).
	Onion uint32
	Tag   [replayTagSize]byte
}

// onionKey is an onion key and what was accepted under it.
type onionKey struct {
	private *seal.KEMPrivate
	name    uint32
	tags    map[[replayTagSize]byte]struct{}
}

// The onion keys under which set-ups are accepted. Present is never nil.
const (
	presentOnion = iota
	previousOnion
	nextOnion
	onionKeys
)

func newOnionKey(private *seal.KEMPrivate) *onionKey {
	if private == nil {
		return nil
	}
	return &onionKey{private, OnionName(private), make(map[[replayTagSize]byte]struct{})}
}

// OnionName is the name of an onion key in records: the first four bytes of a
// hash of its public half, so that a record means the same after a restart.
func OnionName(key *seal.KEMPrivate) uint32 {
	h := seal.Hash("onion key name", key.Public().Bytes())
	return binary.BigEndian.Uint32(h[:])
}

func replayTag(alpha []byte) (tag [replayTagSize]byte) {
	h := seal.Hash("setup replay", alpha)
	copy(tag[:], h[:])
	return tag
}

// AcceptNext has set-ups accepted under the key of the next period besides: who
// makes them may have a clock that is ahead of this node's.
func (t *Table) AcceptNext(key *seal.KEMPrivate) {
	if next := newOnionKey(key); t.onions[nextOnion] == nil || t.onions[nextOnion].name != next.name {
		t.onions[nextOnion] = next
	}
}

// RotateOnion makes key the present onion key, with what was accepted under it
// while it was the next, and the present one the previous, which is accepted
// until DropPrevious or the next rotation.
func (t *Table) RotateOnion(_ machine.Time, key *seal.KEMPrivate) {
	t.counts[trace.KeyRotations]++
	present, next := newOnionKey(key), t.onions[nextOnion]
	if next != nil && next.name == present.name {
		present = next
	}
	t.onions = [onionKeys]*onionKey{present, t.onions[presentOnion], nil}
}

// DropPrevious forgets the previous onion key and its replay record. Routes set
// up under it go on.
func (t *Table) DropPrevious() { t.onions[previousOnion] = nil }

func (t *Table) seen(tag [replayTagSize]byte) bool {
	for _, k := range t.onions {
		if k == nil {
			continue
		}
		if _, ok := k.tags[tag]; ok {
			return true
		}
	}
	return false
}

// unsavedMax bounds the records that wait for PollReplay: half a minute of
// set-ups at the full rate.
const unsavedMax = 1 << 16

// record notes an authentic set-up; false: the key has accepted all it may, and
// must be rotated before it accepts more, or nobody takes the records.
func (t *Table) record(k *onionKey, tag [replayTagSize]byte) bool {
	if len(k.tags) >= t.cfg.Limits.ReplaysPerOnion || t.unsaved.len >= unsavedMax {
		return false
	}
	k.tags[tag] = struct{}{}
	t.unsaved.push(ReplayTag{k.name, tag})
	return true
}

// PollReplay yields a record to be kept on disk for the life of the onion key.
// An owner that makes it durable before it next calls PollSend or PollDeliver
// leaves no moment in which a crash lets a set-up be replayed. An owner that
// keeps no record must poll nevertheless: when unsavedMax records wait, set-ups
// are refused.
func (t *Table) PollReplay() (ReplayTag, bool) { return t.unsaved.pop() }

// LoadReplay takes back a record after a restart. Records of keys that are not
// accepted are ignored.
func (t *Table) LoadReplay(r ReplayTag) {
	for _, k := range t.onions {
		if k != nil && k.name == r.Onion {
			k.tags[r.Tag] = struct{}{}
		}
	}
}
