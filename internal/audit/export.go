package audit

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Format is that of an export.
type Format string

// Formats.
const (
	CSV       Format = "csv"
	JSONLines Format = "jsonl"
	Parquet   Format = "parquet"
)

// ParseFormat finds a format by its name, which is the suffix of its files too.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case CSV, JSONLines, Parquet:
		return f, nil
	}
	return "", fmt.Errorf("audit: there is no format %q; use csv, jsonl or parquet", name)
}

// Encoder writes the entries of one file. Head comes first, Tail last.
type Encoder interface {
	Head(b []byte) []byte
	Append(b []byte, e *Entry) []byte
	Tail(b []byte) []byte
}

// Encoder returns a new encoder of the format. That of Parquet keeps all until Tail.
func (f Format) Encoder() Encoder {
	switch f {
	case CSV:
		return csvEncoder{}
	case Parquet:
		return &parquetEncoder{}
	}
	return jsonEncoder{}
}

// field is a column of exports: a text, or a number where that is nil.
type field struct {
	name   string
	text   func(*Entry) string
	number func(*Entry) int64
}

// fields are the columns of every format, in their order.
var fields = [...]field{
	{"seq", nil, func(e *Entry) int64 { return e.Seq }},
	{"id", func(e *Entry) string { return e.Event.ID.String() }, nil},
	{timeField, nil, func(e *Entry) int64 { return e.Event.Time.UnixMilli() }},
	{"kind", func(e *Entry) string { return e.Event.Kind.String() }, nil},
	{"severity", func(e *Entry) string { return e.Event.Severity.String() }, nil},
	{"actor", func(e *Entry) string { return e.Event.Actor }, nil},
	{"subject", func(e *Entry) string { return e.Event.Subject }, nil},
	{"action", func(e *Entry) string { return e.Event.Action }, nil},
	{"outcome", func(e *Entry) string { return e.Event.Outcome.String() }, nil},
	{"reason", func(e *Entry) string { return e.Event.Reason }, nil},
	{"org", func(e *Entry) string { return e.Event.Org }, nil},
	{"sensitivity", nil, func(e *Entry) int64 { return int64(e.Event.Sensitivity) }},
	{"count", nil, func(e *Entry) int64 { return int64(e.Event.Count) }},
	{"details", func(e *Entry) string { return detailsText(&e.Event) }, nil},
}

// timeField counts milliseconds, and is written for people where the format has no
// times.
const timeField = "time"

const timeFormat = "2006-01-02T15:04:05.000Z"

func detailsText(e *Event) string {
	if len(e.Details) == 0 {
		return ""
	}
	return string(appendDetails(nil, e))
}

// csvEncoder writes RFC 4180. A text that a spreadsheet would take for a formula has
// an apostrophe before it.
type csvEncoder struct{}

func (csvEncoder) Head(b []byte) []byte {
	for i := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, fields[i].name...)
	}
	return append(b, "\r\n"...)
}

func (csvEncoder) Append(b []byte, e *Entry) []byte {
	for i := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		switch f := &fields[i]; {
		case f.name == timeField:
			b = e.Event.Time.AppendFormat(b, timeFormat)
		case f.text == nil:
			b = strconv.AppendInt(b, f.number(e), 10)
		default:
			b = appendCell(b, f.text(e))
		}
	}
	return append(b, "\r\n"...)
}

func appendCell(b []byte, s string) []byte {
	if s == "" {
		return b
	}
	formula := strings.ContainsRune("=+-@", rune(s[0]))
	if !formula && !strings.ContainsAny(s, "\",;'") {
		return append(b, s...)
	}
	b = append(b, '"')
	if formula {
		b = append(b, '\'')
	}
	return append(append(b, strings.ReplaceAll(s, `"`, `""`)...), '"')
}

func (csvEncoder) Tail(b []byte) []byte { return b }

// jsonEncoder writes an object a line.
type jsonEncoder struct{}

func (jsonEncoder) Head(b []byte) []byte { return b }
func (jsonEncoder) Tail(b []byte) []byte { return b }

func (jsonEncoder) Append(b []byte, e *Entry) []byte { return append(AppendJSON(b, e), '\n') }

// AppendJSON writes an entry as an object. Details are an object in it.
func AppendJSON(b []byte, e *Entry) []byte {
	for i := range fields {
		if i == 0 {
			b = append(b, '{')
		} else {
			b = append(b, ',')
		}
		f := &fields[i]
		b = append(appendString(b, f.name), ':')
		switch {
		case f.name == timeField:
			b = append(e.Event.Time.AppendFormat(append(b, '"'), timeFormat), '"')
		case f.name == "details":
			b = appendDetails(b, &e.Event)
		case f.text == nil:
			b = strconv.AppendInt(b, f.number(e), 10)
		default:
			b = appendString(b, f.text(e))
		}
	}
	return append(b, '}')
}

func appendDetails(b []byte, e *Event) []byte {
	b = append(b, '{')
	for i, d := range e.Details {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(appendString(b, d.Key), ':'), d.Value)
	}
	return append(b, '}')
}

// appendString writes a valid text of an event, which has no control characters.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// Part is a file of an export.
type Part struct {
	File   string `json:"file"`
	Rows   int64  `json:"rows"`
	First  int64  `json:"first"`  // place of its first entry in the log
	Before int64  `json:"before"` // place up to which it looked
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Manifest says what an export holds. The log signs it when it is complete.
type Manifest struct {
	Version int       `json:"version"` // 1
	Origin  string    `json:"origin"`
	Format  Format    `json:"format"`
	Filter  string    `json:"filter"` // in words, "" for all
	Made    time.Time `json:"made"`
	First   int64     `json:"first"`  // entries from this place on
	Before  int64     `json:"before"` // and before this one were looked at
	// Checkpoint is one that covers all of them.
	Checkpoint string `json:"checkpoint"`
	Parts      []Part `json:"parts"`
}

// Next is the place at which an export that was interrupted goes on.
func (m *Manifest) Next() int64 {
	if len(m.Parts) == 0 {
		return m.First
	}
	return m.Parts[len(m.Parts)-1].Before
}

// Rows is how many entries the export holds.
func (m *Manifest) Rows() (n int64) {
	for _, p := range m.Parts {
		n += p.Rows
	}
	return n
}

// String says what a filter wants, and is the same for equal filters.
func (f *Filter) String() string {
	var out []string
	add := func(name, value string) {
		if value != "" {
			out = append(out, name+"="+strconv.Quote(value))
		}
	}
	moment := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	add("from", moment(f.From))
	add("to", moment(f.To))
	if f.Kind != 0 {
		add("kind", f.Kind.String())
	}
	if f.Severity != 0 {
		add("severity", f.Severity.String())
	}
	add("actor", f.Actor)
	add("subject", f.Subject)
	add("action", f.Action)
	if f.Org != nil {
		out = append(out, "org="+strconv.Quote(*f.Org))
	}
	if f.Outcome != nil {
		add("outcome", f.Outcome.String())
	}
	if f.Sensitivity != nil {
		out = append(out, fmt.Sprintf("sensitivity<=%d", *f.Sensitivity))
	}
	return strings.Join(out, " ")
}

// Digest writes a hash as exports and manifests do.
func Digest(h [32]byte) string { return hex.EncodeToString(h[:]) }
