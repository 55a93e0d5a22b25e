package wire

import (
	"encoding/binary"
	"errors"
)

// TELEMETRY_REPORT, by which a Stream node says what the routes that end at it
// emitted in one window of five minutes (docs/protocol.md, section 8.4):
//
//	TELEMETRY_REPORT  [version 1][window 4][tallies 1], each
//	                  [place 1][real 8][all 8][uses 10 × 8]
//
// Place 0 is of routes at their floors, 1 to 10 of those above them, by class.
// Places ascend; a tally of nothing is left out.

// ErrCoverReport means that a report is cut short, has a figure out of range, or
// uses another encoding than the one of its value.
var ErrCoverReport = errors.New("wire: malformed cover report")

const (
	coverUses       = 10
	coverTallySize  = 1 + 8 + 8 + 8*coverUses
	coverTallyMost  = 1 << 40 // no node emits so much in five minutes; sums of many stay in 64 bits
	coverReportHead = 1 + 4 + 1
)

// CoverReport is TELEMETRY_REPORT.
type CoverReport struct {
	Window uint32 // unix time / 300 s
	Floor  CoverTally
	Above  [CoverClasses]CoverTally
}

// CoverTally is what routes of one class emitted: cells with content, all cells,
// and how many reviews found which tenth of the class used.
type CoverTally struct {
	Real, All uint64
	Uses      [coverUses]uint64
}

// tally returns the one of a place.
func (r *CoverReport) tally(place int) *CoverTally {
	if place == 0 {
		return &r.Floor
	}
	return &r.Above[place-1]
}

// Append appends the encoding of r.
func (r *CoverReport) Append(b []byte) []byte {
	b = append(b, coverVersion)
	b = binary.BigEndian.AppendUint32(b, r.Window)
	b = append(b, 0)
	count := len(b) - 1
	for place := range 1 + CoverClasses {
		t := r.tally(place)
		if *t == (CoverTally{}) {
			continue
		}
		b[count]++
		b = append(b, byte(place))
		b = binary.BigEndian.AppendUint64(b, t.Real)
		b = binary.BigEndian.AppendUint64(b, t.All)
		for _, n := range t.Uses {
			b = binary.BigEndian.AppendUint64(b, n)
		}
	}
	return b
}

// ParseCoverReport reads a report from the front of b and says how long it is.
func ParseCoverReport(b []byte) (r CoverReport, n int, err error) {
	if len(b) < coverReportHead || b[0] != coverVersion {
		return CoverReport{}, 0, ErrCoverReport
	}
	r.Window = binary.BigEndian.Uint32(b[1:])
	n = coverReportHead
	last := -1
	for range b[n-1] {
		if len(b) < n+coverTallySize || int(b[n]) <= last || b[n] > CoverClasses {
			return CoverReport{}, 0, ErrCoverReport
		}
		last = int(b[n])
		t, at := r.tally(last), n+1
		figure := func() (v uint64) {
			v = binary.BigEndian.Uint64(b[at:])
			at += 8
			if v > coverTallyMost {
				err = ErrCoverReport
			}
			return v
		}
		t.Real, t.All = figure(), figure()
		for i := range t.Uses {
			t.Uses[i] = figure()
		}
		if err != nil || t.Real > t.All || *t == (CoverTally{}) {
			return CoverReport{}, 0, ErrCoverReport
		}
		n = at
	}
	return r, n, nil
}
