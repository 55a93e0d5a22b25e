package wire

// Session frames fill the payload of a session packet one after another. Each
// begins with its type; numbers are varints (AppendVarint) unless said
// otherwise. docs/protocol.md, section 12.
//
//	PADDING          [0x00] and nothing but zeros to the end of the packet
//	PING             [0x01]
//	ACK              [0x02] see frames_ack.go
//	RESET            [0x03][stream][code][final size]
//	STOP             [0x04][stream][code]
//	MAX_DATA         [0x05][bytes of all streams]
//	MAX_STREAM_DATA  [0x06][stream][bytes]
//	MAX_STREAMS      [0x07][streams opened in all]
//	DATAGRAM         [0x08][flow][length][data]
//	HEARTBEAT        [0x09][number]
//	PATH             [0x0a][number]
//	NACK             [0x0b][reason 1][packets]
//	CLASS            [0x0c][class]
//	CLOSE            [0x0d][code 1][length 1][reason, UTF-8]
//	REPAIR           [0x0e][mask 8][symbol 1045] see frames_repair.go
//	REBUILT          [0x0f][greatest][mask 8]
//	STREAM           [0x10 | fin][stream][offset][length][data]
//	PRIORITY         [0x12] see frames_lanes.go
//	LANE             [0x13] see frames_lanes.go
//	MESSAGE          [0x16 | end] see frames_message.go
//
// All except PADDING, ACK, REBUILT and CLOSE ask for an acknowledgement.

// SessionFrameType is the first byte of a session frame.
type SessionFrameType uint8

// Session frame types.
const (
	SFramePadding       SessionFrameType = 0x00
	SFramePing          SessionFrameType = 0x01
	SFrameAck           SessionFrameType = 0x02
	SFrameReset         SessionFrameType = 0x03
	SFrameStop          SessionFrameType = 0x04
	SFrameMaxData       SessionFrameType = 0x05
	SFrameMaxStreamData SessionFrameType = 0x06
	SFrameMaxStreams    SessionFrameType = 0x07
	SFrameDatagram      SessionFrameType = 0x08
	SFrameHeartbeat     SessionFrameType = 0x09
	SFramePath          SessionFrameType = 0x0a
	SFrameNack          SessionFrameType = 0x0b
	SFrameClass         SessionFrameType = 0x0c
	SFrameClose         SessionFrameType = 0x0d
	SFrameRepair        SessionFrameType = 0x0e
	SFrameRebuilt       SessionFrameType = 0x0f
	SFrameStream        SessionFrameType = 0x10
	SFrameStreamFin     SessionFrameType = 0x11
	SFramePriority      SessionFrameType = 0x12
	SFrameLane          SessionFrameType = 0x13
	SFrameMessage       SessionFrameType = 0x16
	SFrameMessageEnd    SessionFrameType = 0x17
)

// MaxStreamCount bounds the number of streams that one side opens in the life
// of a session, so that a stream id (number × 2 + side) is a varint.
const MaxStreamCount = 1 << 60

// ResetFrame ends one direction of a stream without delivering the rest.
type ResetFrame struct {
	Stream uint64
	// Code is the users' business.
	Code uint64
	// Final is the number of bytes sent on the stream, for the account of the
	// session window.
	Final uint64
}

// Append appends the frame.
func (f ResetFrame) Append(b []byte) []byte {
	b = AppendVarint(append(b, byte(SFrameReset)), f.Stream)
	return AppendVarint(AppendVarint(b, f.Code), f.Final)
}

// ParseReset parses a frame whose type byte is SFrameReset.
func ParseReset(b []byte) (f ResetFrame, n int, err error) {
	r := fields{b: b, at: 1}
	f.Stream, f.Code, f.Final = r.varint(), r.varint(), r.varint()
	n, err = r.result()
	return f, n, err
}

// StopFrame asks the peer to stop sending on a stream.
type StopFrame struct {
	Stream, Code uint64
}

// Append appends the frame.
func (f StopFrame) Append(b []byte) []byte {
	return AppendVarint(AppendVarint(append(b, byte(SFrameStop)), f.Stream), f.Code)
}

// ParseStop parses a frame whose type byte is SFrameStop.
func ParseStop(b []byte) (f StopFrame, n int, err error) {
	r := fields{b: b, at: 1}
	f.Stream, f.Code = r.varint(), r.varint()
	n, err = r.result()
	return f, n, err
}

// AppendValue appends a frame of a type and one number: MAX_DATA, MAX_STREAMS,
// HEARTBEAT, PATH or CLASS.
func AppendValue(b []byte, t SessionFrameType, v uint64) []byte {
	return AppendVarint(append(b, byte(t)), v)
}

// ParseValue parses a frame that AppendValue makes.
func ParseValue(b []byte) (v uint64, n int, err error) {
	r := fields{b: b, at: 1}
	v = r.varint()
	if len(b) > 0 && SessionFrameType(b[0]) == SFrameMaxStreams && v > MaxStreamCount {
		r.fail()
	}
	n, err = r.result()
	return v, n, err
}

// AppendMaxStreamData appends a MAX_STREAM_DATA frame.
func AppendMaxStreamData(b []byte, stream, limit uint64) []byte {
	return AppendVarint(AppendVarint(append(b, byte(SFrameMaxStreamData)), stream), limit)
}

// ParseMaxStreamData parses a frame whose type byte is SFrameMaxStreamData.
func ParseMaxStreamData(b []byte) (stream, limit uint64, n int, err error) {
	r := fields{b: b, at: 1}
	stream, limit = r.varint(), r.varint()
	n, err = r.result()
	return stream, limit, n, err
}

// NackFrame tells the peer how many of its packets hops of the route said they
// dropped, and why (the reasons of the mix layer).
type NackFrame struct {
	Reason  byte
	Packets uint64
}

// Append appends the frame.
func (f NackFrame) Append(b []byte) []byte {
	return AppendVarint(append(b, byte(SFrameNack), f.Reason), f.Packets)
}

// ParseNackFrame parses a frame whose type byte is SFrameNack.
func ParseNackFrame(b []byte) (f NackFrame, n int, err error) {
	r := fields{b: b, at: 1}
	f.Reason, f.Packets = r.byte(), r.varint()
	n, err = r.result()
	return f, n, err
}

// MaxCloseReason is the greatest length of the text of a CLOSE frame: one
// sentence for a person.
const MaxCloseReason = 200

// CloseFrame ends the session. Reason aliases the packet after parsing.
type CloseFrame struct {
	Code   Code
	Reason []byte
}

// Append appends the frame; Reason must not be longer than MaxCloseReason.
func (f CloseFrame) Append(b []byte) []byte {
	return append(append(b, byte(SFrameClose), byte(f.Code), byte(len(f.Reason))), f.Reason...)
}

// ParseClose parses a frame whose type byte is SFrameClose.
func ParseClose(b []byte) (f CloseFrame, n int, err error) {
	r := fields{b: b, at: 1}
	f.Code = Code(r.byte())
	size := r.byte()
	if size > MaxCloseReason {
		r.fail()
	}
	f.Reason = r.bytes(uint64(size))
	n, err = r.result()
	return f, n, err
}

// Code says why a session ended.
type Code uint8

// Codes below 0x40 belong to the session, the others to those who use it.
const (
	CodeNone        Code = 0x00 // ended as agreed
	CodeInternal    Code = 0x01 // the peer cannot go on
	CodeProtocol    Code = 0x02 // a frame was malformed or not allowed
	CodeFlow        Code = 0x03 // more bytes than the window allows
	CodeStreams     Code = 0x04 // more streams than the limit allows
	CodeIdle        Code = 0x05 // nothing happened for the idle timeout
	CodeVanished    Code = 0x06 // the peer stopped answering
	CodeCapability  Code = 0x07 // a required capability is unknown
	CodeHandshake   Code = 0x08 // the handshake got no answer
	CodeKeys        Code = 0x09 // the packet numbers or keys are used up
	CodeApplication Code = 0x40 // first code of the users
)

var codeNames = map[Code]string{
	CodeNone: "closed", CodeInternal: "internal error", CodeProtocol: "protocol error",
	CodeFlow: "flow control exceeded", CodeStreams: "too many streams", CodeIdle: "idle",
	CodeVanished: "peer stopped answering", CodeCapability: "required capability unknown",
	CodeHandshake: "handshake got no answer", CodeKeys: "keys used up",
}

// String returns the code's meaning in words.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return "application code"
}
