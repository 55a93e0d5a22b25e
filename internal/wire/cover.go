package wire

import (
	"encoding/binary"
	"errors"
)

// Cover plans, as the control plane hands them out (docs/protocol.md, section
// 8.4). COVER_TRAFFIC_PLAN says what every class of every region emits in one
// cover epoch, ADJUST_RATE changes one figure of it:
//
//	COVER_TRAFFIC_PLAN  [version 1][cover epoch 4][noise ms 3 × 1][regions 1], each
//	                    [name length 1][name][weight 2][λ 10 × 2]
//	ADJUST_RATE         [version 1][cover epoch 4][name length 1][name][class 2][λ′ 2]
//
// Regions ascend by name.

// ErrCover means that a plan or an adjustment is cut short, has a value out of
// range, or uses another encoding than the one of its value.
var ErrCover = errors.New("wire: malformed cover plan")

const (
	// CoverClasses is the number of emission classes.
	CoverClasses = 10
	// CoverRegionsMax bounds the regions of a plan; a directory has no more.
	CoverRegionsMax = 64
	// CoverWeightOne is the weight that prefers nothing.
	CoverWeightOne = 256
	// CoverSegments are the parts of the way out that noise has a width for: the
	// first mix, those between, the last.
	CoverSegments = 3

	// CoverEpochSeconds is how long a plan is for. Epochs are numbered by the clock:
	// unix time / CoverEpochSeconds.
	CoverEpochSeconds = 900

	coverVersion    = 1
	coverNameMax    = 64
	coverRegionSize = 2 + 2*CoverClasses
)

// CoverPlan is COVER_TRAFFIC_PLAN. Whether its figures may be followed is
// package obfs's to judge.
type CoverPlan struct {
	Epoch   uint32               // quarters of an hour since 1970
	Noise   [CoverSegments]uint8 // greatest added delay on the way out, ms
	Regions []CoverRegion        // 1 to CoverRegionsMax, ascending by name
}

// CoverRegion is a plan's part for one region.
type CoverRegion struct {
	Name   string               // as descriptors have it
	Weight uint16               // of exits in the draw of paths; CoverWeightOne prefers nothing
	Rates  [CoverClasses]uint16 // λ of each class, cells per second
}

// Region returns the plan's part for a region, or nil.
func (p *CoverPlan) Region(name string) *CoverRegion {
	for i := range p.Regions {
		if p.Regions[i].Name == name {
			return &p.Regions[i]
		}
	}
	return nil
}

// Append appends the encoding of p.
func (p *CoverPlan) Append(b []byte) []byte {
	b = append(b, coverVersion)
	b = binary.BigEndian.AppendUint32(b, p.Epoch)
	b = append(b, p.Noise[:]...)
	b = append(b, byte(len(p.Regions)))
	for i := range p.Regions {
		r := &p.Regions[i]
		b = appendCoverName(b, r.Name)
		b = binary.BigEndian.AppendUint16(b, r.Weight)
		for _, rate := range r.Rates {
			b = binary.BigEndian.AppendUint16(b, rate)
		}
	}
	return b
}

// ParseCoverPlan reads a plan from the front of b and says how long it is.
func ParseCoverPlan(b []byte) (p CoverPlan, n int, err error) {
	const head = 1 + 4 + CoverSegments + 1
	if len(b) < head || b[0] != coverVersion {
		return CoverPlan{}, 0, ErrCover
	}
	p.Epoch = binary.BigEndian.Uint32(b[1:])
	copy(p.Noise[:], b[5:])
	count := int(b[head-1])
	if count == 0 || count > CoverRegionsMax {
		return CoverPlan{}, 0, ErrCover
	}
	n = head
	for range count {
		name, used, err := parseCoverName(b[n:])
		if err != nil || len(b) < n+used+coverRegionSize {
			return CoverPlan{}, 0, ErrCover
		}
		if last := len(p.Regions) - 1; last >= 0 && name <= p.Regions[last].Name {
			return CoverPlan{}, 0, ErrCover
		}
		n += used
		r := CoverRegion{Name: name, Weight: binary.BigEndian.Uint16(b[n:])}
		for i := range r.Rates {
			r.Rates[i] = binary.BigEndian.Uint16(b[n+2+2*i:])
		}
		p.Regions = append(p.Regions, r)
		n += coverRegionSize
	}
	return p, n, nil
}

// AdjustRate is ADJUST_RATE: what the control loop has the scheduler change in
// the plan of an epoch.
type AdjustRate struct {
	Epoch  uint32
	Region string
	Class  uint16 // its nominal rate
	Rate   uint16 // λ′
}

// Append appends the encoding of a.
func (a *AdjustRate) Append(b []byte) []byte {
	b = append(b, coverVersion)
	b = binary.BigEndian.AppendUint32(b, a.Epoch)
	b = appendCoverName(b, a.Region)
	b = binary.BigEndian.AppendUint16(b, a.Class)
	return binary.BigEndian.AppendUint16(b, a.Rate)
}

// ParseAdjustRate reads an adjustment from the front of b and says how long it is.
func ParseAdjustRate(b []byte) (a AdjustRate, n int, err error) {
	if len(b) < 5 || b[0] != coverVersion {
		return AdjustRate{}, 0, ErrCover
	}
	name, used, err := parseCoverName(b[5:])
	if n = 5 + used; err != nil || len(b) < n+4 {
		return AdjustRate{}, 0, ErrCover
	}
	a = AdjustRate{Epoch: binary.BigEndian.Uint32(b[1:]), Region: name,
		Class: binary.BigEndian.Uint16(b[n:]), Rate: binary.BigEndian.Uint16(b[n+2:])}
	return a, n + 4, nil
}

func appendCoverName(b []byte, name string) []byte {
	return append(append(b, byte(len(name))), name...)
}

// parseCoverName reads a region's name, in the letters that descriptors allow.
func parseCoverName(b []byte) (name string, n int, err error) {
	if len(b) == 0 || b[0] == 0 || b[0] > coverNameMax || len(b) < 1+int(b[0]) {
		return "", 0, ErrCover
	}
	n = 1 + int(b[0])
	for _, c := range b[1:n] {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return "", 0, ErrCover
		}
	}
	return string(b[1:n]), n, nil
}
