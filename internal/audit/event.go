package audit

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"
)

// Limits of an event, in bytes, and of its details.
const (
	ActorMax   = 64
	SubjectMax = 128
	ActionMax  = 64
	ReasonMax  = 64
	OrgMax     = 64
	DetailsMax = 8   // pairs
	KeyMax     = 32  // of a detail
	ValueMax   = 256 // of a detail

	// SensitivityMax is that of what only few may read.
	SensitivityMax = 2
	// timeMax is the first Unix millisecond that an ID cannot hold: year 10889.
	timeMax = 1 << 48
)

// Event is one AUDIT_EVENT. It names operators and nodes, never clients, targets or
// routes.
type Event struct {
	ID          ID        // the key of deduplication
	Time        time.Time // when it happened; UTC, ms
	Kind        Kind
	Severity    Severity
	Actor       string // an operator's name or a node's name; ≤ 64 bytes, not empty
	Subject     string // what it is about: a configuration key, a node, a key's name; ≤ 128 bytes
	Action      string // ≤ 64 bytes, e.g. "set", "rollback", "rotate"
	Outcome     Outcome
	Reason      string   // reason code where there is one; ≤ 64 bytes
	Org         string   // organisation; "" is the network's own; ≤ 64 bytes
	Sensitivity uint8    // 0 public, 1 internal, 2 restricted
	Count       uint64   // of events that were counted together (refusals per minute); 1 of one
	Details     []Detail // at most 8 pairs, of keys that the Kind allows, each once
}

// Entry is an event in its place in the log: the first stands at 0.
type Entry struct {
	Seq   int64
	Event Event
}

// Detail is a pair of a key that the event's kind allows (Kind.Keys) and a value of
// at most 256 bytes.
type Detail struct{ Key, Value string }

// ID names an event: 6 bytes of Unix milliseconds, 10 of randomness.
type ID [16]byte

// NewID returns an ID of a time and drawn bytes.
func NewID(t time.Time, drawn [10]byte) (id ID) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(id[:6], ms[2:])
	copy(id[6:], drawn[:])
	return id
}

// Time is the time in the ID.
func (id ID) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)).UTC()
}

// String writes the ID in 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String writes.
func ParseID(s string) (id ID, err error) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == len(id) {
		return ID(b), nil
	}
	return id, fmt.Errorf("%w: %q is not an ID of 32 hexadecimal digits", ErrEvent, s)
}

// Detail returns the value of a detail, "" without it.
func (e *Event) Detail(key string) string {
	for _, d := range e.Details {
		if d.Key == key {
			return d.Value
		}
	}
	return ""
}

// Validate reports whether the event may be recorded. Texts are valid UTF-8 without
// control characters, and hold no network address: who records one is mistaken
// about what an audit event is.
func (e *Event) Validate() error {
	ms := e.Time.UnixMilli()
	switch {
	case e.ID == ID{}:
		return fmt.Errorf("%w: it has no ID", ErrEvent)
	case ms < 0 || ms >= timeMax:
		return fmt.Errorf("%w: time %v is out of range", ErrEvent, e.Time)
	case !e.Kind.Valid():
		return fmt.Errorf("%w: unknown kind %d", ErrEvent, e.Kind)
	case !e.Severity.Valid():
		return fmt.Errorf("%w: unknown severity %d", ErrEvent, e.Severity)
	case !e.Outcome.Valid():
		return fmt.Errorf("%w: unknown outcome %d", ErrEvent, e.Outcome)
	case e.Sensitivity > SensitivityMax:
		return fmt.Errorf("%w: sensitivity %d is above %d", ErrEvent, e.Sensitivity, SensitivityMax)
	case e.Count == 0:
		return fmt.Errorf("%w: count 0; one event counts 1", ErrEvent)
	case e.Actor == "":
		return fmt.Errorf("%w: it has no actor", ErrEvent)
	case len(e.Details) > DetailsMax:
		return fmt.Errorf("%w: %d details, at most %d", ErrEvent, len(e.Details), DetailsMax)
	}
	for i := range texts {
		if err := checkText(texts[i].name, *texts[i].of(e), texts[i].max); err != nil {
			return err
		}
	}
	return e.validateDetails()
}

// texts are the texts of an event, in the order of the encoding.
var texts = [...]struct {
	name string
	max  int
	of   func(*Event) *string
}{
	{"actor", ActorMax, func(e *Event) *string { return &e.Actor }},
	{"subject", SubjectMax, func(e *Event) *string { return &e.Subject }},
	{"action", ActionMax, func(e *Event) *string { return &e.Action }},
	{"reason", ReasonMax, func(e *Event) *string { return &e.Reason }},
	{"organisation", OrgMax, func(e *Event) *string { return &e.Org }},
}

func (e *Event) validateDetails() error {
	allowed := e.Kind.Keys()
	for i, d := range e.Details {
		if !slices.Contains(allowed, d.Key) {
			return fmt.Errorf("%w: a %v has no detail %q", ErrEvent, e.Kind, d.Key)
		}
		for _, before := range e.Details[:i] {
			if before.Key == d.Key {
				return fmt.Errorf("%w: detail %q twice", ErrEvent, d.Key)
			}
		}
		if err := checkText(d.Key, d.Value, ValueMax); err != nil {
			return err
		}
	}
	return nil
}

func checkText(name, s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("%w: %s of %d bytes, at most %d", ErrEvent, name, len(s), most)
	}
	ascii, marks := true, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			return fmt.Errorf("%w: %s holds a control character", ErrEvent, name)
		case c >= utf8.RuneSelf:
			ascii = false
		case c == '.' || c == ':':
			marks++
		}
	}
	if !ascii && !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is not UTF-8", ErrEvent, name)
	}
	if marks >= 2 && holdsAddress(s) {
		return fmt.Errorf("%w: %s holds a network address, which no audit event may", ErrEvent, name)
	}
	return nil
}

// holdsAddress reports whether some run of the characters of addresses is one, with
// a port or without.
func holdsAddress(s string) bool {
	for i := 0; i < len(s); {
		j := i
		for j < len(s) && addressByte(s[j]) {
			j++
		}
		if run := s[i:j]; len(run) > 2 && isAddress(run) {
			return true
		}
		i = j + 1
	}
	return false
}

func addressByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == '.' || c == ':'
}

// isAddress looks at a run without the punctuation of a sentence at its end.
func isAddress(run string) bool {
	for len(run) > 2 {
		if _, err := netip.ParseAddr(run); err == nil {
			return true
		}
		if _, err := netip.ParseAddrPort(run); err == nil {
			return true
		}
		if c := run[len(run)-1]; c != '.' && c != ':' {
			return false
		}
		run = run[:len(run)-1]
	}
	return false
}
