package audit

import (
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// when is the time of the tests.
var when = time.Date(2026, 11, 23, 9, 30, 0, 123e6, time.UTC)

// full is a valid event with all fields.
func full() Event {
	return Event{
		ID: NewID(when, [10]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}), Time: when, Kind: ConfigChange, Severity: Notice,
		Actor: "alice", Subject: "mix.queue_limit", Action: "set", Outcome: OK, Reason: "ticket-17", Org: "north", Sensitivity: 1, Count: 1,
		Details: []Detail{{"revision", "42"}, {"digest", strings.Repeat("ab", 32)}},
	}
}

// least is a valid event with as little as there can be.
func least() Event {
	return Event{ID: NewID(when, [10]byte{9: 1}), Time: when, Kind: Incident, Actor: "mix-3", Count: 1}
}

func TestEncoding(t *testing.T) {
	e := least()
	const want = "01" + "019faeb3d0db" + "00000000000000000001" + "019faeb3d0db" + "06" + "00" + "00" + "00" + "0000000000000001" +
		"05" + "6d69782d33" + "00" + "00" + "00" + "00" + "00"
	got := Append(nil, &e)
	ms := hex.EncodeToString(e.ID[:6])
	if hex.EncodeToString(got) != strings.ReplaceAll(want, "019faeb3d0db", ms) {
		t.Errorf("an event is written as %x", got)
	}
	if !e.ID.Time().Equal(when) {
		t.Errorf("the ID's time is %v", e.ID.Time())
	}
	for _, e := range []Event{full(), least()} {
		b := Append(nil, &e)
		got, err := Parse(b)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%+v came back as %+v, %v", e, got, err)
		}
		for i := range b {
			if _, err := Parse(b[:i]); !errors.Is(err, ErrEvent) {
				t.Errorf("the first %d of %d bytes: %v", i, len(b), err)
			}
		}
		if _, err := Parse(append(b, 0)); !errors.Is(err, ErrEvent) {
			t.Errorf("with a byte more: %v", err)
		}
	}
	id, err := ParseID(e.ID.String())
	if err != nil || id != e.ID {
		t.Errorf("ID %v came back as %v, %v", e.ID, id, err)
	}
	if _, err := ParseID("'; drop table events"); !errors.Is(err, ErrEvent) {
		t.Errorf("no ID: %v", err)
	}
}

// TestLargest: an event with every text at its limit is valid and has its place in
// EventMax; a byte more in any of them is refused.
func TestLargest(t *testing.T) {
	e := full()
	e.Details = nil
	for _, key := range ConfigChange.Keys()[:DetailsMax] {
		e.Details = append(e.Details, Detail{key, strings.Repeat("v", ValueMax)})
	}
	for i := range texts {
		*texts[i].of(&e) = strings.Repeat("t", texts[i].max)
	}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	if b := Append(nil, &e); len(b) > EventMax {
		t.Errorf("%d bytes, more than %d", len(b), EventMax)
	}
	for i := range texts {
		one := e
		*texts[i].of(&one) += "t"
		if err := one.Validate(); !errors.Is(err, ErrEvent) {
			t.Errorf("a longer %s: %v", texts[i].name, err)
		}
	}
}

// TestRefused: each of these is a change of a valid event.
func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*Event){
		"no ID":             func(e *Event) { e.ID = ID{} },
		"no time":           func(e *Event) { e.Time = time.Time{} },
		"far time":          func(e *Event) { e.Time = time.UnixMilli(timeMax) },
		"no kind":           func(e *Event) { e.Kind = 0 },
		"unknown kind":      func(e *Event) { e.Kind = numKinds },
		"unknown severity":  func(e *Event) { e.Severity = numSeverities },
		"unknown outcome":   func(e *Event) { e.Outcome = numOutcomes },
		"sensitivity":       func(e *Event) { e.Sensitivity = 3 },
		"count":             func(e *Event) { e.Count = 0 },
		"no actor":          func(e *Event) { e.Actor = "" },
		"control character": func(e *Event) { e.Subject = "a\nb" },
		"not UTF-8":         func(e *Event) { e.Action = "\xff" },
		"address":           func(e *Event) { e.Subject = "192.0.2.7" },
		"address and port":  func(e *Event) { e.Actor = "192.0.2.7:443" },
		"IPv6":              func(e *Event) { e.Reason = "from 2001:db8::1." },
		"IPv6 and port":     func(e *Event) { e.Reason = "[2001:db8::1]:443" },
		"address in detail": func(e *Event) { e.Details[0].Value = "client=192.0.2.7, twice" },
		"unknown detail":    func(e *Event) { e.Details[0].Key = "destination" },
		"detail of another": func(e *Event) { e.Kind = SessionTerminate },
		"detail twice":      func(e *Event) { e.Details[1].Key = e.Details[0].Key },
		"nine details":      func(e *Event) { e.Details = make([]Detail, 9) },
		"long value":        func(e *Event) { e.Details[0].Value = strings.Repeat("v", ValueMax+1) },
	} {
		e := full()
		change(&e)
		if err := e.Validate(); !errors.Is(err, ErrEvent) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasSuffix(name, " time") || name == "nine details" {
			continue // these have no encoding
		}
		if _, err := Parse(Append(nil, &e)); !errors.Is(err, ErrEvent) {
			t.Errorf("%s, parsed: %v", name, err)
		}
	}
	for _, fine := range []string{"12:30:45", "v1.2.3", "a: b: c", "2026-11-23T09:30:00.123Z", "sha256:abcdef", "mix.queue.limit: 5", "größer"} {
		e := full()
		e.Subject = fine
		if err := e.Validate(); err != nil {
			t.Errorf("%q: %v", fine, err)
		}
	}
}

// TestVocabulary: names are found again, no kind is without one, and no key of a
// detail is beyond its limit.
func TestVocabulary(t *testing.T) {
	for k := AdminAction; k < numKinds; k++ {
		if found, err := ParseKind(k.String()); err != nil || found != k {
			t.Errorf("kind %v is found as %v, %v", k, found, err)
		}
		if len(k.Keys()) == 0 {
			t.Errorf("kind %v has no details", k)
		}
		for _, key := range k.Keys() {
			if len(key) == 0 || len(key) > KeyMax {
				t.Errorf("key %q of %v", key, k)
			}
		}
	}
	for s := Info; s < numSeverities; s++ {
		if found, err := ParseSeverity(s.String()); err != nil || found != s {
			t.Errorf("severity %v is found as %v, %v", s, found, err)
		}
	}
	for o := OK; o < numOutcomes; o++ {
		if found, err := ParseOutcome(o.String()); err != nil || found != o {
			t.Errorf("outcome %v is found as %v, %v", o, found, err)
		}
	}
	if _, err := ParseKind("login"); !errors.Is(err, ErrEvent) {
		t.Errorf("an unknown kind: %v", err)
	}
}

// FuzzParse: what parses is written as it was read.
func FuzzParse(f *testing.F) {
	for _, e := range []Event{full(), least()} {
		f.Add(Append(nil, &e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		if again := Append(nil, &e); string(again) != string(b) {
			t.Errorf("%x is written as %x", b, again)
		}
	})
}

// TestParseJSON: what AppendJSON writes is read as the same; what is no event is not.
func TestParseJSON(t *testing.T) {
	e := Entry{Seq: 7, Event: Event{ID: NewID(time.UnixMilli(1_700_000_000_123), [10]byte{1}), Time: time.UnixMilli(1_700_000_000_123).UTC(), Kind: AuditAccess, Severity: Warning, Actor: `a"\b`, Subject: "=1",
		Action: "read", Outcome: Refused, Reason: "rate", Org: "north", Sensitivity: 2, Count: 3, Details: []Detail{{"query", "x"}, {"role", "auditor"}}}}
	got, err := ParseJSON(AppendJSON(nil, &e))
	if err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, s := range []string{"", "{}", `{"id":"00"}`, strings.Replace(string(AppendJSON(nil, &e)), "audit.access", "login", 1), strings.Replace(string(AppendJSON(nil, &e)), `"north"`, `"192.0.2.7"`, 1)} {
		if _, err := ParseJSON([]byte(s)); !errors.Is(err, ErrEvent) {
			t.Errorf("%.40q: %v", s, err)
		}
	}
}
