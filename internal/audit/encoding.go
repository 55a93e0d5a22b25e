package audit

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Encoding of an event, version 1. Numbers are big-endian, a text is its length (1)
// and its bytes, so that each event has one form:
//
//	version (1) ‖ ID (16) ‖ Unix ms (6) ‖ kind (1) ‖ severity (1) ‖ outcome (1) ‖
//	sensitivity (1) ‖ count (8) ‖ actor ‖ subject ‖ action ‖ reason ‖ organisation ‖
//	number of details (1) ‖ details
//
// and a detail is a key (a text), the length of the value (2), and the value.
const (
	eventVersion = 1
	eventHead    = 1 + 16 + 6 + 4 + 8

	// EventMax bounds the encoding of an event, in bytes.
	EventMax = eventHead + 5 + ActorMax + SubjectMax + ActionMax + ReasonMax + OrgMax + 1 + DetailsMax*(1+KeyMax+2+ValueMax)
)

// Append writes an event, which must be valid. Of its time the milliseconds count.
func Append(b []byte, e *Event) []byte {
	b = append(append(b, eventVersion), e.ID[:]...)
	ms := uint64(e.Time.UnixMilli())
	b = append(b, byte(ms>>40), byte(ms>>32), byte(ms>>24), byte(ms>>16), byte(ms>>8), byte(ms))
	b = append(b, byte(e.Kind), byte(e.Severity), byte(e.Outcome), e.Sensitivity)
	b = binary.BigEndian.AppendUint64(b, e.Count)
	for i := range texts {
		b = appendText(b, *texts[i].of(e))
	}
	b = append(b, byte(len(e.Details)))
	for _, d := range e.Details {
		b = appendText(b, d.Key)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(d.Value))), d.Value...)
	}
	return b
}

func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// Parse reads an event. It takes what Append writes of a valid event and nothing
// else. The event keeps nothing of b.
func Parse(b []byte) (Event, error) {
	var e Event
	if len(b) < eventHead || len(b) > EventMax {
		return e, fmt.Errorf("%w: %d bytes", ErrEvent, len(b))
	}
	if b[0] != eventVersion {
		return e, fmt.Errorf("%w: version %d, not %d", ErrEvent, b[0], eventVersion)
	}
	e.ID = ID(b[1:17])
	e.Time = time.UnixMilli(int64(binary.BigEndian.Uint64(b[15:23]) & (timeMax - 1))).UTC()
	e.Kind, e.Severity, e.Outcome, e.Sensitivity = Kind(b[23]), Severity(b[24]), Outcome(b[25]), b[26]
	e.Count = binary.BigEndian.Uint64(b[27:eventHead])
	rest, ok := string(b[eventHead:]), true // one copy, of which all texts are parts
	for i := range texts {
		if *texts[i].of(&e), rest, ok = cut(rest, 1); !ok {
			return Event{}, fmt.Errorf("%w: it ends in its %s", ErrEvent, texts[i].name)
		}
	}
	if rest, ok = e.parseDetails(rest); !ok || rest != "" {
		return Event{}, fmt.Errorf("%w: its details do not end where it does", ErrEvent)
	}
	if err := e.Validate(); err != nil {
		return Event{}, err
	}
	return e, nil
}

func (e *Event) parseDetails(s string) (rest string, ok bool) {
	if s == "" || s[0] > DetailsMax {
		return s, false
	}
	n := int(s[0])
	if s = s[1:]; n == 0 {
		return s, true
	}
	e.Details = make([]Detail, n)
	for i := range e.Details {
		if e.Details[i].Key, s, ok = cut(s, 1); !ok {
			return s, false
		}
		if e.Details[i].Value, s, ok = cut(s, 2); !ok {
			return s, false
		}
	}
	return s, true
}

// cut takes a text off that is preceded by its length in so many bytes.
func cut(s string, size int) (text, rest string, ok bool) {
	if len(s) < size {
		return "", s, false
	}
	n := 0
	for i := range size {
		n = n<<8 | int(s[i])
	}
	if len(s) < size+n {
		return "", s, false
	}
	return s[size : size+n], s[size+n:], true
}
