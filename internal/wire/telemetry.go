package wire

import (
	"encoding/binary"
	"errors"
)

// TELEMETRY_REPORT of a period, as a node gives it to the control plane
// (docs/control-plane.md, "Rates"). That of a window, for authorities, is
// CoverReport.
//
//	[version 2][flags 1][stands for 1][time ms 8][span ms 4]
//	[capacity 4][sent 4][came 4][dropped 4][refused 4][before 4][queue ms 2]
//	[classes 1], each [place 1][routes 2][use 1]
//
// What it says is of the node, or of so many routes that none of them shows: it has
// no client, no neighbour and no time but its own.

// ErrTelemetry means that a report is cut short, has a value out of range, or is in
// another encoding than its own.
var ErrTelemetry = errors.New("wire: malformed telemetry report")

// Telemetry is TELEMETRY_REPORT of a period.
type Telemetry struct {
	Flags TelemetryFlags
	// StandsFor is how many reports this one stands for, itself included: 1 to
	// TelemetryStandsMax.
	StandsFor uint8
	// Millis is when the period ended, in ms since 1970, and Span how long it was.
	Millis int64
	Span   uint32
	// Capacity is in datagrams per second, as the node's descriptor has it; Sent and
	// Came are datagrams, Dropped those that came and for which there was no room,
	// Refused sessions that were not admitted, all in the period.
	Capacity, Sent, Came, Dropped, Refused uint32
	// Before is what was sent in all the periods that the last report which stood for
	// more than itself stood for: how far it was off is seen by it.
	Before uint32
	// Queue is the longest that something waited for its turn, in ms.
	Queue uint16
	// Classes are those of which there were enough routes to speak of, by class
	// ascending.
	Classes []TelemetryClass
}

// TelemetryClass is the routes of one class in the last window of five minutes.
type TelemetryClass struct {
	Place  uint8  // of the class in obfs.Classes
	Routes uint16 // in steps of TelemetryRoutesStep, and noised
	Use    uint8  // cells with content of all cells, in hundredths, in steps of TelemetryUseStep
}

// TelemetryFlags are a node's states.
type TelemetryFlags uint8

// Flags.
const (
	// TelemetryOverloaded: the node's own guard holds admissions back.
	TelemetryOverloaded TelemetryFlags = 1 << iota
	// TelemetryDraining: it is about to stop.
	TelemetryDraining
	// TelemetryAlone: it has lacked the control plane and goes by stricter bounds.
	TelemetryAlone
	telemetryFlags = 1<<iota - 1
)

const (
	// TelemetryStandsMax bounds sampling: one report in so many.
	TelemetryStandsMax = 10
	// TelemetrySpanMax bounds a period, in ms.
	TelemetrySpanMax = 60_000
	// TelemetryRoutesStep and TelemetryUseStep are how coarsely classes are told.
	TelemetryRoutesStep, TelemetryUseStep = 16, 5
	// TelemetryMax is the size of the greatest report.
	TelemetryMax = telemetryHead + CoverClasses*telemetryClass

	telemetryVersion = 2
	telemetryHead    = 3 + 8 + 4 + 6*4 + 2 + 1
	telemetryClass   = 1 + 2 + 1
)

// Append appends the encoding of t.
func (t *Telemetry) Append(b []byte) []byte {
	b = append(b, telemetryVersion, byte(t.Flags), t.StandsFor)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Millis))
	for _, v := range [...]uint32{t.Span, t.Capacity, t.Sent, t.Came, t.Dropped, t.Refused, t.Before} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	b = binary.BigEndian.AppendUint16(b, t.Queue)
	b = append(b, byte(len(t.Classes)))
	for _, c := range t.Classes {
		b = append(b, c.Place)
		b = binary.BigEndian.AppendUint16(b, c.Routes)
		b = append(b, c.Use)
	}
	return b
}

// ParseTelemetry reads a report from the front of b and says how long it is.
func ParseTelemetry(b []byte) (t Telemetry, n int, err error) {
	if len(b) < telemetryHead || b[0] != telemetryVersion {
		return Telemetry{}, 0, ErrTelemetry
	}
	t = Telemetry{Flags: TelemetryFlags(b[1]), StandsFor: b[2], Millis: int64(binary.BigEndian.Uint64(b[3:]))}
	for i, v := range []*uint32{&t.Span, &t.Capacity, &t.Sent, &t.Came, &t.Dropped, &t.Refused, &t.Before} {
		*v = binary.BigEndian.Uint32(b[11+4*i:])
	}
	t.Queue = binary.BigEndian.Uint16(b[39:])
	count := int(b[telemetryHead-1])
	n = telemetryHead + count*telemetryClass
	if t.Flags&^telemetryFlags != 0 || t.StandsFor == 0 || t.StandsFor > TelemetryStandsMax || t.Millis < 0 ||
		t.Span == 0 || t.Span > TelemetrySpanMax || t.Dropped > t.Came || count > CoverClasses || len(b) < n {
		return Telemetry{}, 0, ErrTelemetry
	}
	for i := range count {
		at := b[telemetryHead+i*telemetryClass:]
		c := TelemetryClass{Place: at[0], Routes: binary.BigEndian.Uint16(at[1:]), Use: at[3]}
		if c.Place >= CoverClasses || c.Routes%TelemetryRoutesStep != 0 || c.Use > 100 || c.Use%TelemetryUseStep != 0 ||
			i > 0 && t.Classes[i-1].Place >= c.Place {
			return Telemetry{}, 0, ErrTelemetry
		}
		t.Classes = append(t.Classes, c)
	}
	return t, n, nil
}

// Load is what was sent of what the node can send, at its capacity 1; 0 of a node
// without a capacity.
func (t *Telemetry) Load() float64 {
	if t.Capacity == 0 {
		return 0
	}
	return float64(t.Sent) * 1000 / float64(t.Span) / float64(t.Capacity)
}
