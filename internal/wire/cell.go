package wire

import (
	"encoding/binary"
	"time"
)

// A cell on a link, at the hop of a position (0 is the entry):
//
//	[type 1][route id 4][counter 4][sealed layer LayerSize(position)][zero …]
//
// Inside a sealed layer on the way out, when the cell goes on:
//
//	[command 1][delay µs 3][counter of the next hop 4][its sealed layer]
//
// so that the plaintext, opened at offset 1 of a frame, is the next cell once
// the route id has been written over command and delay. When the cell ends:
//
//	[command 1][place 3][content][zero …]
//
// where the place is 0 but for a packet whose end plays cells out by their
// places. On the way back a layer holds the same: BackRelay with the inner cell, or
// BackPacket, BackNack, BackLoop with content. docs/protocol.md, section 6.

// Command is the first byte of a layer on the way out. CommandClose is a flag
// on top of it.
type Command uint8

// Commands away from the client.
const (
	// CommandRelay passes the inner cell to the next hop.
	CommandRelay Command = 1
	// CommandDeliver hands a session packet to the end of the route.
	CommandDeliver Command = 2
	// CommandDrop is cover that ends here.
	CommandDrop Command = 3
	// CommandLoop is answered with a back cell that echoes 8 bytes.
	CommandLoop Command = 4
	// CommandClose ends the route at this hop after this cell.
	CommandClose Command = 0x80
)

// BackCommand is the first byte of a layer on the way to the client.
type BackCommand uint8

// Commands to the client. They differ from those of the other direction, so
// that a layer cannot be taken for one.
const (
	// BackRelay holds a cell of the hop further out.
	BackRelay BackCommand = 0x41
	// BackPacket holds a session packet.
	BackPacket BackCommand = 0x42
	// BackNack holds the news that this hop had to drop a cell.
	BackNack BackCommand = 0x43
	// BackLoop holds the echo of a CommandLoop.
	BackLoop BackCommand = 0x44
)

// NackReason says why a hop dropped a cell of its own accord, or what its
// neighbours on the route do. What does not authenticate is never answered: news
// of neighbours waits for the next cell that does.
type NackReason uint8

// Reasons of a NACK. The last three each stand for NackRefusals cells, and name none.
const (
	NackQueueFull    NackReason = 1 // delay queue or link queue full
	NackLinkGone     NackReason = 2 // the link to the next hop is down
	NackChanged      NackReason = 3 // cells from the hop before do not authenticate
	NackRepeated     NackReason = 4 // cells from the hop before came before
	NackRepeatedBack NackReason = 5 // cells from the hop behind came before
)

// NackRefusals is how many cells a hop refuses before it tells why: failing memory
// spoils single ones.
const NackRefusals = 16

// Valid reports whether r is a reason of this version.
func (r NackReason) Valid() bool { return r >= NackQueueFull && r <= NackRepeatedBack }

const (
	// NackSize is the reason (1) and the counter of the dropped cell (4).
	NackSize = 5
	// EchoSize is the content of a loop.
	EchoSize = 8
	// LayerDelayMax is the longest delay that a layer can name, 16.777215 s.
	// An exponential delay of the longest mean (MixDelayMax) exceeds it with
	// probability e^-83.
	LayerDelayMax = (1<<24 - 1) * time.Microsecond
	// MixDelayMax is the longest mean delay of one hop.
	MixDelayMax = 200 * time.Millisecond
)

// ReserveMax is the longest that an entry keeps a cell (docs/protocol.md, section
// 8.5). More is malformed: an entry delays nothing else.
const ReserveMax = 100 * time.Millisecond

// MixDelay is the mean delay of one mix at this level.
func (l Level) MixDelay() time.Duration {
	switch l {
	case Standard:
		return 10 * time.Millisecond
	case High:
		return 20 * time.Millisecond
	case Extreme:
		return 40 * time.Millisecond
	}
	return 0
}

// PathDelayMax is what the mixes of a path delay a cell by in all at most, 0 for
// no bound: one draw in a thousand is longer, and is made again. The end of the
// route waits for every cell that long (docs/protocol.md, section 8.1), so that
// none tells by coming later what the mixes drew for it.
func (l Level) PathDelayMax() time.Duration {
	switch l {
	case High: // the sum of three exponential delays of 20 ms
		return 225 * time.Millisecond
	case Extreme: // and of five of 40 ms
		return 592 * time.Millisecond
	}
	return 0
}

// CellOffset is where the sealed layer of a cell begins in its frame.
const CellOffset = FrameHeaderSize + CounterSize

// PutCellHeader writes everything in front of the sealed layer.
func PutCellHeader(b []byte, t FrameType, routeID, counter uint32) {
	_ = b[CellOffset-1]
	b[0] = byte(t)
	binary.BigEndian.PutUint32(b[1:], routeID)
	binary.BigEndian.PutUint32(b[5:], counter)
}

// PutFrameHeader writes type and route id only.
func PutFrameHeader(b []byte, t FrameType, routeID uint32) {
	_ = b[FrameHeaderSize-1]
	b[0] = byte(t)
	binary.BigEndian.PutUint32(b[1:], routeID)
}

// FrameRouteID returns the route id, or train id, of a link frame.
func FrameRouteID(b []byte) uint32 { return binary.BigEndian.Uint32(b[1:]) }

// CellCounter returns the counter in front of a cell's layer.
func CellCounter(b []byte) uint32 { return binary.BigEndian.Uint32(b[5:]) }

// CellLayer returns the sealed layer of a cell at a position.
func CellLayer(b []byte, position int) []byte {
	return b[CellOffset : CellOffset+LayerSize(position)]
}

// CellTailZero reports whether everything after the layer is zero, as it must
// be: a bit set there would be a mark.
func CellTailZero(b []byte, position int) bool {
	return IsZero(b[CellOffset+LayerSize(position) : LinkPayloadSize])
}

// PutLayerHeader writes command and delay, which is rounded down to µs.
func PutLayerHeader(b []byte, command byte, delay time.Duration) {
	binary.BigEndian.PutUint32(b, uint32(command)<<24|uint32(delay/time.Microsecond)&0xffffff)
}

// ParseLayerHeader reads what PutLayerHeader wrote.
func ParseLayerHeader(b []byte) (command byte, delay time.Duration) {
	v := binary.BigEndian.Uint32(b)
	return byte(v >> 24), time.Duration(v&0xffffff) * time.Microsecond
}

// PlaceMax is the greatest place that a layer can name: at 100 places a second
// those of two days, which no route lives.
const PlaceMax = 1<<24 - 1

// PutPlace writes a place, up to PlaceMax, over the delay of a layer's header.
func PutPlace(b []byte, place uint32) {
	_ = b[LayerHeaderSize-1]
	b[1], b[2], b[3] = byte(place>>16), byte(place>>8), byte(place)
}

// LayerPlace is the place in a layer's header.
func LayerPlace(b []byte) uint32 { return binary.BigEndian.Uint32(b) & PlaceMax }

// PutNack writes the content of a NACK.
func PutNack(b []byte, reason NackReason, counter uint32) {
	_ = b[NackSize-1]
	b[0] = byte(reason)
	binary.BigEndian.PutUint32(b[1:], counter)
}

// ParseNack reads the content of a NACK; rest must be zero.
func ParseNack(b []byte) (reason NackReason, counter uint32, ok bool) {
	if len(b) < NackSize || !IsZero(b[NackSize:]) || !NackReason(b[0]).Valid() {
		return 0, 0, false
	}
	return NackReason(b[0]), binary.BigEndian.Uint32(b[1:]), true
}

// ParseEcho reads the content of a loop; rest must be zero.
func ParseEcho(b []byte) (echo uint64, ok bool) {
	if len(b) < EchoSize || !IsZero(b[EchoSize:]) {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}
