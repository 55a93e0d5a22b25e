package telemetry

import (
	"time"

	"github.com/nyxnet/nyx/internal/trace"
)

// Picture is what an operator sees of a running network at one moment. It names nodes
// and regions; of users it knows the client of its own process alone, and of that
// neither what it opens nor for whom.
type Picture struct {
	At      time.Time
	Network string
	Level   string // of the own client
	// Own is nil of a process without a client, Fleet of one that runs all nodes itself.
	Own    *OwnPicture
	Fleet  *FleetPicture
	Nodes  []NodePicture
	Delays []DelayPicture
	// Directory is nil where no authority runs, Control without a control process.
	Directory *DirectoryPicture
	Control   *ControlPicture
	// Parts are all that runs, by name, with why it does not work fully or "".
	Parts []PartPicture
}

// PartPicture is one part's health.
type PartPicture struct{ Name, Trouble string }

// OwnPicture is the client of the process that makes the picture.
type OwnPicture struct {
	// Latency is how long streams waited for an answer, in µs, since the start.
	Latency trace.Values
	// Asked are streams that were opened to another end, Answered those of them from
	// which it answered, since the start.
	Asked, Answered uint64
	Sessions        []SessionPicture
	Routes          []RoutePicture
	// CoverRatio is cells without content to cells with, in the last minutes, of
	// routes above their floors; negative: there are none.
	CoverRatio float64
	Connected  int64 // streams of the proxy that are open
}

// SessionPicture is one session of the own client.
type SessionPicture struct {
	RTT            time.Duration
	Sent, Received uint64 // bytes of content
	Packets, Lost  uint64
	Streams, Paths int
}

// RoutePicture is one route of the own client.
type RoutePicture struct {
	Hops    []string // names of nodes, the entry first
	Session int      // number of the session that it carries, from 1; 0: it waits for one
	Rate    int      // cells a second; 0: as they come
	Ready   bool
	Age     time.Duration
	Life    time.Duration // after which it is replaced
}

// FleetPicture is what a control process makes of the reports of a network's nodes.
type FleetPicture struct {
	// Listed are the nodes of the directory, Heard those of which this process has a
	// report that counts, and Unshown how many of the listed are not among Nodes.
	Listed, Heard, Unshown      int
	Overloaded, Alone, Draining int
	// Strain is the greatest of a node, Load what nodes send of what they can; negative:
	// none is heard. In are the datagrams a second that all of those that are heard take
	// in, likewise. Cover is the cover ratio where enough routes are above their floors;
	// negative: there are too few to speak of.
	Strain, Load, In, Cover float64
	// Held are sessions that nodes refused for want of room, since the process started.
	Held uint64
	// Lag is how long nine of ten reports take, and more; zero before the first.
	Lag time.Duration
	// Safe are the regions whose rates are left alone, because nothing is heard of them.
	Safe []string
}

// NodePicture is one node.
type NodePicture struct {
	Name, ID, Operator, Region string
	Stream                     bool // a Stream node; else a Mix node
	Trouble                    string
	Capacity                   uint32 // datagrams a second, as its descriptor says
	DatagramsIn, DatagramsOut  uint64
	Dropped                    uint64 // cells dropped for want of a route or of room
	Sessions                   int    // that end here; negative: nobody is told
	Draining                   bool
	// Unheard says that the node has told this process nothing that counts, so that its
	// figures are not known.
	Unheard bool
	// Overloaded says that the node slows what it admits, Alone that it lacks the control
	// plane, Strain how near it is to the first, at 1.
	Overloaded, Alone bool
	Strain            float64
	// Revision is that of the configuration in force, Refused the one that could not
	// be had, if any. Follows says that the node follows one.
	Follows           bool
	Revision, Refused uint64
	// OnionTurns is when the next period of onion keys begins.
	OnionTurns time.Time
}

// DelayPicture is what a datagram takes from one region to another.
type DelayPicture struct {
	From, To string
	Millis   uint16
}

// DirectoryPicture is the directory and its log.
type DirectoryPicture struct {
	Epoch, Revision uint64
	Hash            string
	Nodes           int
	Signatures      int
	Threshold       int
	Authorities     int
	EpochLength     time.Duration
	EpochEnds       time.Time
	ValidUntil      time.Time
	// Log are the documents in the authority's log, Cosigned those of them that enough
	// witnesses have seen; Root is the hash of the tree of these.
	Log, Cosigned int64
	Root          string
	Witnesses     int
	Quorum        int
	Evidence      int
	// Recent are the documents that were published last, the newest first.
	Recent []DocumentPicture
}

// DocumentPicture is one document of the directory.
type DocumentPicture struct {
	Epoch, Revision uint64
	Hash            string
}

// ControlPicture is the control process.
type ControlPicture struct {
	Revision uint64 // of the configuration
	Queue    int    // changes that are not accepted yet
	Dead     int    // changes that could not be had, and are not corrected
	Events   uint64 // audit events taken
}
