package wire

import "encoding/binary"

// Control frames of a link. They are consumed inside it.

// PathTokenSize is the size of a path challenge's random value in bytes.
const PathTokenSize = 8

// LinkPath is a path challenge or its response:
//
//	[type 1][token 8][zero 1243]
//
// Type is FramePathChallenge or FramePathResponse; the response repeats the
// challenge's token.
type LinkPath struct {
	Type  FrameType
	Token [PathTokenSize]byte
}

// Append appends the frame, LinkPayloadSize bytes.
func (m *LinkPath) Append(b []byte) []byte {
	b = append(b, byte(m.Type))
	b = append(b, m.Token[:]...)
	return appendZero(b, LinkPayloadSize-1-PathTokenSize)
}

// ParseLinkPath parses the frame.
func ParseLinkPath(b []byte) (m LinkPath, n int, err error) {
	if len(b) < LinkPayloadSize || !IsZero(b[1+PathTokenSize:LinkPayloadSize]) {
		return m, 0, ErrLink
	}
	m.Type = FrameType(b[0])
	if m.Type != FramePathChallenge && m.Type != FramePathResponse {
		return LinkPath{}, 0, ErrLink
	}
	copy(m.Token[:], b[1:])
	return m, LinkPayloadSize, nil
}

// LinkBare is a frame without content: FramePad keeps a link alive, FrameClose
// ends it. A receiver of FramePad need not parse it: its content is ignored.
//
//	[type 1][zero 1251]
type LinkBare struct {
	Type FrameType
}

// Append appends the frame, LinkPayloadSize bytes.
func (m *LinkBare) Append(b []byte) []byte {
	return appendZero(append(b, byte(m.Type)), LinkPayloadSize-1)
}

// ParseLinkBare parses the frame.
func ParseLinkBare(b []byte) (m LinkBare, n int, err error) {
	if len(b) < LinkPayloadSize || !IsZero(b[1:LinkPayloadSize]) {
		return m, 0, ErrLink
	}
	m.Type = FrameType(b[0])
	if m.Type != FramePad && m.Type != FrameClose {
		return LinkBare{}, 0, ErrLink
	}
	return m, LinkPayloadSize, nil
}

// missingMore is how many counters the bitmap of LinkMissing reaches back.
const missingMore = 64

// LinkMissing says which datagrams of the peer did not come while newer ones did,
// by their counters under the keys that seal it:
//
//	[type 1][last 8][more 8][zero 1235]
//
// Last is missing, and so is Last−1−i for each bit i of More, the least bit first.
type LinkMissing struct {
	Last, More uint64
}

// Add adds a counter lower than those before it. It reports false, and adds
// nothing, if it is too low to be told with them.
func (m *LinkMissing) Add(counter uint64) bool {
	i := m.Last - counter - 1
	if i >= missingMore {
		return false
	}
	m.More |= 1 << i
	return true
}

// Each yields the counters, from the highest down.
func (m *LinkMissing) Each(yield func(counter uint64) bool) {
	if !yield(m.Last) {
		return
	}
	for i := range uint64(missingMore) {
		if m.More>>i&1 == 1 && !yield(m.Last-1-i) {
			return
		}
	}
}

// Append appends the frame, LinkPayloadSize bytes.
func (m *LinkMissing) Append(b []byte) []byte {
	b = append(b, byte(FrameMissing))
	b = binary.BigEndian.AppendUint64(b, m.Last)
	b = binary.BigEndian.AppendUint64(b, m.More)
	return appendZero(b, LinkPayloadSize-17)
}

// ParseLinkMissing parses the frame. No counter is below zero.
func ParseLinkMissing(b []byte) (m LinkMissing, n int, err error) {
	if len(b) < LinkPayloadSize || FrameType(b[0]) != FrameMissing || !IsZero(b[17:LinkPayloadSize]) {
		return m, 0, ErrLink
	}
	m.Last, m.More = binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])
	if m.Last < missingMore && m.More>>m.Last != 0 {
		return LinkMissing{}, 0, ErrLink
	}
	return m, LinkPayloadSize, nil
}
