package wire

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
