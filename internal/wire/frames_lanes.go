package wire

import "math"

// Frames about lanes, the scheduling classes of streams in a session
// (docs/protocol.md, section 12.7). Of several for one stream, or for one lane,
// the one with the greatest version counts, and of equal versions the one with
// the greatest lane, or weight.
//
//	PRIORITY  [0x12][stream][lane 1][version]
//	LANE      [0x13][lane 1][weight 1][version]

// version reads a varint of at most 32 bits, which is more changes than a
// session sees.
func (f *fields) version() uint32 {
	v := f.varint()
	if v > math.MaxUint32 {
		f.fail()
	}
	return uint32(v)
}

// MaxLanes bounds the lanes of a session, which are numbered from 0.
const MaxLanes = 8

// PriorityFrame says which lane a stream is in.
type PriorityFrame struct {
	Stream  uint64
	Lane    uint8
	Version uint32
}

// Append appends the frame.
func (f PriorityFrame) Append(b []byte) []byte {
	b = AppendVarint(append(b, byte(SFramePriority)), f.Stream)
	return AppendVarint(append(b, f.Lane), uint64(f.Version))
}

// ParsePriority parses a frame whose type byte is SFramePriority.
func ParsePriority(b []byte) (f PriorityFrame, n int, err error) {
	r := fields{b: b, at: 1}
	f.Stream, f.Lane, f.Version = r.varint(), r.byte(), r.version()
	if f.Lane >= MaxLanes {
		r.fail()
	}
	n, err = r.result()
	return f, n, err
}

// LaneFrame says which weight a lane has; 0 removes it. Lane 0 cannot be
// removed.
type LaneFrame struct {
	Lane, Weight uint8
	Version      uint32
}

// Append appends the frame.
func (f LaneFrame) Append(b []byte) []byte {
	return AppendVarint(append(b, byte(SFrameLane), f.Lane, f.Weight), uint64(f.Version))
}

// ParseLane parses a frame whose type byte is SFrameLane.
func ParseLane(b []byte) (f LaneFrame, n int, err error) {
	r := fields{b: b, at: 1}
	f.Lane, f.Weight, f.Version = r.byte(), r.byte(), r.version()
	if f.Lane >= MaxLanes || f.Lane == 0 && f.Weight == 0 {
		r.fail()
	}
	n, err = r.result()
	return f, n, err
}
