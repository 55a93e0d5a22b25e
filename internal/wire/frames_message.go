package wire

// MaxMessageSize is the greatest message: a UDP payload of 64 KiB with the
// target in front of it.
const MaxMessageSize = 64<<10 + 256

// MessageFrame carries a fragment of a message, which arrives whole or not at
// all:
//
//	MESSAGE  [0x16 | end][flow][message number][offset][length][data]
//
// Offset, length and end are sealed with the packet; a fragment is never
// empty. Data aliases the packet.
type MessageFrame struct {
	Flow, Number uint64
	Offset       int
	Data         []byte
	End          bool // these are the message's last bytes
}

// MessageRoom is how many of size bytes a MESSAGE frame of at most room bytes
// can carry, or -1 if not even the header fits.
func MessageRoom(flow, number uint64, offset, size, room int) int {
	return dataRoom(size, room-1-VarintLen(flow)-VarintLen(number)-VarintLen(uint64(offset)))
}

// AppendMessageHeader appends the header of a MESSAGE frame; size bytes follow.
func AppendMessageHeader(b []byte, flow, number uint64, offset, size int, end bool) []byte {
	t := SFrameMessage
	if end {
		t = SFrameMessageEnd
	}
	b = AppendVarint(AppendVarint(append(b, byte(t)), flow), number)
	return AppendVarint(AppendVarint(b, uint64(offset)), uint64(size))
}

// ParseMessage parses a frame of type SFrameMessage or SFrameMessageEnd. It
// refuses an empty fragment and one that goes beyond MaxMessageSize.
func ParseMessage(b []byte) (f MessageFrame, n int, err error) {
	r := fields{b: b, at: 1}
	f.End = len(b) > 0 && SessionFrameType(b[0]) == SFrameMessageEnd
	f.Flow, f.Number = r.varint(), r.varint()
	offset := r.varint()
	f.Data = r.bytes(r.varint())
	if len(f.Data) == 0 || offset > uint64(MaxMessageSize-len(f.Data)) {
		r.fail()
	}
	f.Offset = int(offset)
	n, err = r.result()
	return f, n, err
}
