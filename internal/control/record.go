package control

import (
	"cmp"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// TokenHash names a session in a record: who has only the record cannot end or
// resume the session.
type TokenHash [seal.HashSize]byte

// HashToken is the hash of a session_token.
func HashToken(t *wire.Token) TokenHash { return seal.Hash("session record token", t[:]) }

// HashTicket is the hash of a ticket, by which its session is resumed. Nobody can
// match it with that of a session_token.
func HashTicket(t []byte) TokenHash { return seal.Hash("session record ticket", t) }

// SessionRecord is all that a fleet keeps of a session, and has no field for peers or
// traffic. It is a comparable value: a change names the whole record that it follows.
type SessionRecord struct {
	// Token is of the session_token that an entry gave, or of the ticket that an exit
	// gave.
	Token TokenHash
	// Version counts the changes of Class and Expires, from 1.
	Version uint32
	// Expires is the unix second from which the record is as if it were not there.
	Expires int64
	// Class is the session's priority class; a greater one goes first. It begins as the
	// Credential by which the entry knew the client; an exit knows of none, and begins
	// with 0.
	Class uint8
}

// Over reports whether the record's time is over at a unix second.
func (r SessionRecord) Over(unix int64) bool { return unix >= r.Expires }

// WithClass is the record after a change of its class.
func (r SessionRecord) WithClass(class uint8) SessionRecord {
	r.Version++
	r.Class = class
	return r
}

// Claimed is the record after another node has taken the session over, until a unix
// second.
func (r SessionRecord) Claimed(until int64) SessionRecord {
	r.Version++
	r.Expires = max(r.Expires, until)
	return r
}

// Join is what two versions of one session's record make, the rule for changes that
// did not know of each other: of the classes, that of the greater version, and of
// equal versions the greater class; of the times, the later. It does not matter who
// joins, in which order, and how often, so that copies that lag come to be equal. It
// panics on records of two sessions.
func (r SessionRecord) Join(o SessionRecord) SessionRecord {
	if r.Token != o.Token {
		panic("control: records of two sessions are joined")
	}
	if cmp.Or(cmp.Compare(o.Version, r.Version), cmp.Compare(o.Class, r.Class)) > 0 {
		r.Version, r.Class = o.Version, o.Class
	}
	r.Expires = max(r.Expires, o.Expires)
	return r
}

// RecordKind is what became of a session at a node.
type RecordKind uint8

// Kinds of RecordChange.
const (
	RecordCreated RecordKind = iota // it began: Record is whole
	RecordEnded                     // before its time: Record has the token alone
	RecordClaimed                   // it is resumed here: Record has token and end
)

// RecordChange is what a node has to tell of a session's record.
type RecordChange struct {
	Kind   RecordKind
	Record SessionRecord
}

// recordChangesMax bounds the changes between two polls: those of a second at twice
// the seeds' rush of set-ups.
const recordChangesMax = 4096

// RecordChanges are the changes of a machine that nobody has taken yet.
type RecordChanges struct {
	// UnixStart is the unix second at which the machine's time began.
	UnixStart int64
	// Missed counts changes for which there was no room.
	Missed uint64

	waiting []RecordChange
}

// unix is the unix second of a machine's time.
func (c *RecordChanges) unix(t machine.Time) int64 {
	return c.UnixStart + int64(t/machine.Time(time.Second))
}

// Put adds a change, if there is room.
func (c *RecordChanges) Put(kind RecordKind, r SessionRecord) {
	if len(c.waiting) == recordChangesMax {
		c.Missed++
		return
	}
	c.waiting = append(c.waiting, RecordChange{kind, r})
}

// Take returns what waits, which is the caller's.
func (c *RecordChanges) Take() []RecordChange {
	all := c.waiting
	c.waiting = nil
	return all
}
