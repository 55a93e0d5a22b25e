// Package wire is the one home of every byte format: what stands on a link, in
// a cell, in a set-up packet, in a session packet and in a frame, with the
// constants of the specification. Layouts are drawn in the comment of each
// file; docs/protocol.md is normative.
//
// Parsers take untrusted bytes. They never panic, never allocate in proportion
// to a length they were told, and accept exactly one encoding of each value: a
// second encoding would be a mark.
package wire

import "slices"

// Sizes of the specification, in bytes (docs/protocol.md, section 2).
const (
	// DatagramSize is the UDP payload of every datagram on every link.
	DatagramSize = 1280
	// TagSize is the authentication tag of every AEAD layer.
	TagSize = 16
	// LinkHeaderSize is the receiver index (4) and the packet counter (8).
	LinkHeaderSize = 12
	// LinkPayloadSize is what one datagram carries inside its link seal.
	LinkPayloadSize = DatagramSize - LinkHeaderSize - TagSize // 1252

	// MaxHops is the greatest number of hops of a route.
	MaxHops = 7
	// MinHops is the least.
	MinHops = 3

	// FrameHeaderSize is the type (1) and the route id (4) of a link frame.
	FrameHeaderSize = 5
	// CounterSize is the layer counter in front of every layer.
	CounterSize = 4
	// LayerHeaderSize is the command (1) and the delay (3) inside a layer.
	LayerHeaderSize = 4
	// LayerOverhead is what one hop's layer costs: its header, the counter of
	// the next layer, and the tag.
	LayerOverhead = LayerHeaderSize + CounterSize + TagSize // 24
	// MaxLayerSize is the sealed layer of the first hop.
	MaxLayerSize = LinkPayloadSize - FrameHeaderSize - CounterSize // 1243
	// SessionPacketSize is the content of a cell at every level: what is left
	// in the layer of the seventh hop.
	SessionPacketSize = MaxLayerSize - (MaxHops-1)*LayerOverhead - TagSize - LayerHeaderSize // 1079

	// SessionHeaderSize is the kind (1), the connection id (4) and the packet
	// number (4) of a session packet.
	SessionHeaderSize = 9
	// SessionPayloadSize is the room for frames in one session packet.
	SessionPayloadSize = SessionPacketSize - SessionHeaderSize - TagSize // 1054

	// MaxFrameSize bounds any frame of the stream layer, metadata included.
	MaxFrameSize = 1150
)

// Every frame lies in one packet, so that none is larger than MaxFrameSize,
// whatever it says of itself: this does not compile otherwise.
const _ = uint(MaxFrameSize - SessionPayloadSize)

// LayerSize is the size of the sealed layer of the hop at position (0 is the
// entry). It counts from the front, so that a hop learns its own position and
// not how many hops follow.
func LayerSize(position int) int { return MaxLayerSize - position*LayerOverhead }

// Level is an anonymity level.
type Level uint8

// Levels, from the cheapest to the most expensive.
const (
	// Fast neither delays nor shapes: it hides content and destination from
	// each single relay, not the flow from an observer of all wires.
	Fast Level = iota
	// Standard mixes with 10 ms a hop over 3 mixes and shapes every route.
	Standard
	// High mixes with 20 ms a hop over 3 mixes in two regions or more.
	High
	// Extreme mixes with 40 ms a hop over 5 mixes in three regions or more.
	Extreme
	numLevels
)

var levelNames = [numLevels]string{"fast", "standard", "high", "extreme"}

// String returns the level's name as written in configuration.
func (l Level) String() string {
	if l < numLevels {
		return levelNames[l]
	}
	return "unknown"
}

// Valid reports whether l is a level of this version.
func (l Level) Valid() bool { return l < numLevels }

// ParseLevel returns the level of a name.
func ParseLevel(name string) (Level, bool) {
	for i, n := range levelNames {
		if n == name {
			return Level(i), true
		}
	}
	return 0, false
}

// Profile says for what kind of machine a route is shaped.
type Profile uint8

// Profiles.
const (
	ProfileFull   Profile = iota // from the floor of the level to its ceiling
	ProfileMobile                // the classes 10 to 50
	ProfileLow                   // class 5: a mobile machine whose screen is off
	numProfiles
)

// Valid reports whether p is a profile of this version.
func (p Profile) Valid() bool { return p < numProfiles }

var profileNames = [numProfiles]string{"full", "mobile", "low"}

// String returns the profile's name.
func (p Profile) String() string {
	if p.Valid() {
		return profileNames[p]
	}
	return "unknown"
}

// ParseProfile returns the profile of a name.
func ParseProfile(name string) (Profile, bool) {
	i := slices.Index(profileNames[:], name)
	return Profile(max(i, 0)), i >= 0
}

// Mixes is the number of mixes on a route of this level, between the entry and
// the exit.
func (l Level) Mixes() int {
	if l == Extreme {
		return 5
	}
	return 3
}

// Hops is the number of hops of a route: entry, mixes, exit.
func (l Level) Hops() int { return l.Mixes() + 2 }

// NodeID names a node: the SHA-256 of its identity keys.
type NodeID [32]byte
