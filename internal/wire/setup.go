package wire

import (
	"encoding/binary"
	"time"
)

// The set-up packet, the same size at every hop and for every number of hops:
//
//	[α: KEM ciphertext 1120][γ: MAC 16][β: sealed routing 7264][δ: sealed first flight 2814]
//
// A hop opens β followed by 1200 zero bytes into
//
//	[routing 64][α' 1120][γ' 16][β' 7264]
//
// and δ into δ'. At the last hop δ' is [length 2][first flight][zero …].
//
// On a link it is a train of 12 frames, 9 parts and 3 of parity:
//
//	[FrameSetup 1][train id 4][shard index 1][shard 1246]
//
// docs/protocol.md, section 5.

// Sizes of the set-up, in bytes.
const (
	SetupKEMSize     = 1120
	SetupMACSize     = 16
	SetupRoutingSize = 64
	// SetupStepSize is what one hop takes out of β.
	SetupStepSize = SetupRoutingSize + SetupKEMSize + SetupMACSize // 1200
	// SetupHeaderSize is β: six whole steps and the routing of the seventh hop.
	SetupHeaderSize = (MaxHops-1)*SetupStepSize + SetupRoutingSize // 7264
	// SetupPayloadSize is δ: what is left of nine shards.
	SetupPayloadSize = SetupSize - SetupKEMSize - SetupMACSize - SetupHeaderSize // 2814
	// SetupSize is the whole packet.
	SetupSize = TrainData * ShardSize // 11214
	// MaxFirstFlight is the room for a session's first flight.
	MaxFirstFlight = SetupPayloadSize - 2 // 2812

	// TrainData and TrainParity are the frames of a train: any nine rebuild it.
	TrainData   = 9
	TrainParity = 3
	TrainFrames = TrainData + TrainParity
	// ShardOffset is where the shard begins in its frame.
	ShardOffset = FrameHeaderSize + 1
	// ShardSize is the part of the packet in one frame.
	ShardSize = LinkPayloadSize - ShardOffset // 1246
)

// PutShardHeader writes everything in front of a shard.
func PutShardHeader(b []byte, trainID uint32, index int) {
	_ = b[ShardOffset-1]
	b[0] = byte(FrameSetup)
	binary.BigEndian.PutUint32(b[1:], trainID)
	b[5] = byte(index)
}

// ShardIndex returns the index of a shard and whether there is such a one.
func ShardIndex(b []byte) (int, bool) { return int(b[5]), b[5] < TrainFrames }

// Routing is what the set-up tells one hop:
//
//	[flags 1][position 1][suite 1][level 1][TTL s 2][mean delay back µs 4]
//	[delay of the set-up µs 3][forward counter start 4][next route id 4]
//	[next node 32][delay seed 11]
//
// Flag 1 marks the last hop, whose next route id and node are zero. It alone
// learns the profile of the route, in flags 2 and 4.
type Routing struct {
	Last         bool
	Profile      Profile
	Position     uint8 // 0 is the entry
	Suite        uint8 // AEAD of both directions, as package seal numbers them
	Level        Level
	TTL          time.Duration // whole seconds, up to 65535
	BackMean     time.Duration // whole µs, up to MixDelayMax
	SetupDelay   time.Duration // whole µs, up to LayerDelayMax
	ForwardStart uint32        // first counter on the way out, 1 … 2^30-1
	NextRoute    uint32        // id of the route on the link to Next
	Next         NodeID
	// DelaySeed is what the hop draws the delays of back cells from. The
	// client draws it, so that it alone decides on both directions.
	DelaySeed [11]byte
}

// CounterStartMax bounds the random first counter of each hop and direction.
const CounterStartMax = 1 << 30

const (
	routingFlagLast     = 1
	routingProfileShift = 1
)

// Append appends the encoding of r. Fields beyond their range panic: they come
// from this process.
func (r *Routing) Append(b []byte) []byte {
	if r.TTL%time.Second != 0 || r.TTL > 65535*time.Second || r.BackMean > MixDelayMax || r.SetupDelay > LayerDelayMax ||
		!r.Profile.Valid() || !r.Last && r.Profile != ProfileFull {
		panic("wire: routing field out of range")
	}
	var flags byte
	if r.Last {
		flags = routingFlagLast | byte(r.Profile)<<routingProfileShift
	}
	b = append(b, flags, r.Position, r.Suite, byte(r.Level))
	b = binary.BigEndian.AppendUint16(b, uint16(r.TTL/time.Second))
	b = binary.BigEndian.AppendUint32(b, uint32(r.BackMean/time.Microsecond))
	delay := uint32(r.SetupDelay / time.Microsecond)
	b = append(b, byte(delay>>16), byte(delay>>8), byte(delay))
	b = binary.BigEndian.AppendUint32(b, r.ForwardStart)
	b = binary.BigEndian.AppendUint32(b, r.NextRoute)
	b = append(b, r.Next[:]...)
	return append(b, r.DelaySeed[:]...)
}

// ParseRouting reads SetupRoutingSize bytes and accepts exactly what Append
// writes; the suite is the caller's to check.
func ParseRouting(b []byte) (r Routing, ok bool) {
	if len(b) != SetupRoutingSize {
		return r, false
	}
	r.Last, r.Profile = b[0]&routingFlagLast != 0, Profile(b[0]>>routingProfileShift)
	r.Position, r.Suite, r.Level = b[1], b[2], Level(b[3])
	r.TTL = time.Duration(binary.BigEndian.Uint16(b[4:])) * time.Second
	r.BackMean = time.Duration(binary.BigEndian.Uint32(b[6:])) * time.Microsecond
	r.SetupDelay = time.Duration(binary.BigEndian.Uint32(b[9:])&0xffffff) * time.Microsecond
	r.ForwardStart = binary.BigEndian.Uint32(b[13:])
	r.NextRoute = binary.BigEndian.Uint32(b[17:])
	copy(r.Next[:], b[21:])
	copy(r.DelaySeed[:], b[53:])
	ok = r.Position < MaxHops && r.Level.Valid() && r.Profile.Valid() && (r.Last || r.Profile == ProfileFull) && r.TTL > 0 &&
		r.BackMean <= MixDelayMax && r.ForwardStart > 0 && r.ForwardStart < CounterStartMax
	if r.Last {
		ok = ok && r.NextRoute == 0 && r.Next == NodeID{} && r.SetupDelay == 0
	} else {
		ok = ok && r.Position < MaxHops-1
	}
	return r, ok
}

// PutFirstFlight fills δ of the last hop.
func PutFirstFlight(b, first []byte) {
	_ = b[SetupPayloadSize-1]
	if len(first) > MaxFirstFlight {
		panic("wire: first flight too long")
	}
	binary.BigEndian.PutUint16(b, uint16(len(first)))
	clear(b[2+copy(b[2:], first) : SetupPayloadSize])
}

// ParseFirstFlight returns the first flight in δ, which aliases b.
func ParseFirstFlight(b []byte) (first []byte, ok bool) {
	if len(b) != SetupPayloadSize {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > MaxFirstFlight || !IsZero(b[2+n:]) {
		return nil, false
	}
	return b[2 : 2+n], true
}
