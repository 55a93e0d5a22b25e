package wire

// StreamFrame carries bytes of a stream. Data aliases the packet.
type StreamFrame struct {
	Stream, Offset uint64
	Data           []byte
	Fin            bool
}

// StreamHeaderLen is the size of the header of a STREAM frame with size bytes.
func StreamHeaderLen(stream, offset uint64, size int) int {
	return 1 + VarintLen(stream) + VarintLen(offset) + VarintLen(uint64(size))
}

// StreamRoom is how many of size bytes a STREAM frame of at most room bytes
// can carry, or -1 if not even the header fits.
func StreamRoom(stream, offset uint64, size, room int) int {
	return dataRoom(size, room-1-VarintLen(stream)-VarintLen(offset))
}

// dataRoom is how many of size bytes fit room bytes behind their length, or -1.
func dataRoom(size, room int) int {
	switch {
	case room < 1:
		return -1
	case size < 64 || room <= 64:
		return min(size, room-1, 63)
	default:
		return min(size, room-2)
	}
}

// AppendStreamHeader appends the header of a STREAM frame; size bytes follow.
func AppendStreamHeader(b []byte, stream, offset uint64, size int, fin bool) []byte {
	t := SFrameStream
	if fin {
		t = SFrameStreamFin
	}
	b = AppendVarint(append(b, byte(t)), stream)
	return AppendVarint(AppendVarint(b, offset), uint64(size))
}

// ParseStream parses a frame of type SFrameStream or SFrameStreamFin. The
// offset after the data is at most MaxVarint.
func ParseStream(b []byte) (f StreamFrame, n int, err error) {
	r := fields{b: b, at: 1}
	f.Fin = len(b) > 0 && SessionFrameType(b[0]) == SFrameStreamFin
	f.Stream, f.Offset = r.varint(), r.varint()
	f.Data = r.bytes(r.varint())
	if f.Offset > MaxVarint-uint64(len(f.Data)) {
		r.fail()
	}
	n, err = r.result()
	return f, n, err
}

// MaxDatagramSize is the greatest datagram of one DATAGRAM frame: a session
// payload without type, the longest flow id and a length of two bytes.
const MaxDatagramSize = SessionPayloadSize - 1 - 8 - 2 // 1043

// DatagramFrame carries one datagram, which is not sent again when lost. Data
// aliases the packet.
type DatagramFrame struct {
	Flow uint64
	Data []byte
}

// Append appends the frame.
func (f DatagramFrame) Append(b []byte) []byte {
	b = AppendVarint(append(b, byte(SFrameDatagram)), f.Flow)
	return append(AppendVarint(b, uint64(len(f.Data))), f.Data...)
}

// Len is the size of the frame.
func (f DatagramFrame) Len() int {
	return 1 + VarintLen(f.Flow) + VarintLen(uint64(len(f.Data))) + len(f.Data)
}

// ParseDatagram parses a frame whose type byte is SFrameDatagram.
func ParseDatagram(b []byte) (f DatagramFrame, n int, err error) {
	r := fields{b: b, at: 1}
	f.Flow = r.varint()
	f.Data = r.bytes(r.varint())
	if len(f.Data) > MaxDatagramSize {
		r.fail()
	}
	n, err = r.result()
	return f, n, err
}
