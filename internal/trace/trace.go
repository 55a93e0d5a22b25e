// Package trace is the one vocabulary for what a machine did: counters for
// drops and work, and typed events for golden traces, telemetry and the lab.
//
// Nothing here can hold a destination, a client address, a key or anything
// that links an input to an output: values are kinds, sizes, counts and times.
package trace

import "github.com/nyxnet/nyx/internal/machine"

// Counter names one thing that a machine counts.
type Counter uint8

// Counters. A dropped packet is never an error, it is one of these.
const (
	LinkIn                 Counter = iota // datagrams received
	LinkOut                               // datagrams sent
	DropSize                              // datagram is not 1280 bytes
	DropLinkUnknown                       // neither a known link nor a handshake for this node
	DropLinkAuth                          // link authentication failed
	DropLinkReplay                        // link counter seen before or too old
	DropLinkMalformed                     // link frame of unknown type or shape
	DropLinkQueue                         // link queue full
	DropHandshakeMalformed                // handshake message does not parse or a key is bad
	DropHandshakeCookie                   // address not proven
	DropHandshakeLimit                    // too many handshakes at once
	DropHandshakePeer                     // peer is not one we talk to
	HandshakesDone                        // link handshakes completed
	LinkRekeys                            // link keys replaced
	LinkPathChanges                       // neighbour moved to a new address
	LinkCookiesSent                       // address challenges answered
	SetupIn                               // set-up trains received whole
	SetupDone                             // routes set up at this hop
	DropSetupMalformed                    // set-up fragment or packet malformed
	DropSetupAuth                         // set-up layer does not authenticate
	DropSetupReplay                       // set-up seen before under this onion key
	DropSetupLimit                        // set-up rate or table limit reached
	DropSetupPeer                         // next hop unknown, or set-up from a peer not admitted
	DropSetupExpired                      // set-up is past its time
	CellIn                                // cells received
	CellForwarded                         // cells passed on
	CellDelivered                         // cells that ended here as end of their route
	CellDropped                           // drop cells that ended here by intention
	DropCellRoute                         // cell for no known route
	DropCellAuth                          // layer does not authenticate
	DropCellReplay                        // layer counter seen before or too old
	DropCellMalformed                     // padding or command malformed
	DropCellQueue                         // delay queue or link queue full
	NackSent                              // drops told along the route
	NackReceived                          // drops we were told of
	RoutesExpired                         // routes that ended by their TTL
	RoutesClosed                          // routes closed on purpose
	DummyOut                              // cover cells emitted
	RealOut                               // cells with content emitted
	DummyIn                               // cover cells dropped by the end
	SessionPacketIn                       // session packets accepted
	DropSessionAuth                       // session packet does not authenticate
	DropSessionReplay                     // session packet seen before or too old
	DropSessionMalformed                  // session frame malformed
	DropSessionUnknown                    // session packet for no known session
	Retransmitted                         // session packets whose content was sent again
	SpuriousRetransmit                    // of these, found unnecessary
	RepairOut                             // repair packets sent
	RepairIn                              // repair packets received
	Rebuilt                               // session packets rebuilt from repairs
	RepairGood                            // protected session packets that the peer rebuilt
	RepairShort                           // protected session packets that were lost and not rebuilt
	PriorityConflict                      // changes of lanes that met another as late or later
	LaneDuplicate                         // STREAM frames that held nothing new
	FailoverDuplicate                     // STREAM frames sent again because their path was given up, which had arrived
	RoutesTampered                        // routes left because cells were changed or sent twice
	MessageReassembled                    // messages that arrived whole
	FragmentError                         // messages of which fragments came, and not all
	Rekeys                                // sending keys of sessions replaced
	RekeyLatency                          // µs that these added to the first round trip under each
	MissingAuthTags                       // session packets found without a tag before they left, and not sent
	PQHandshakes                          // session handshakes asked of this side
	PQHandshakeSuccess                    // of these, finished: the client has shown the keys
	HandshakesRefused                     // of these, told to come again with another KEM or version
	VersionMismatch                       // sessions that ended because the sides' versions do not go together
	ClientVersionErrors                   // of these, on the side that was called
	LinkMissed                            // datagrams of neighbours that newer ones overtook
	LinkLate                              // of these, arrived after all
	SessionPacketOut                      // session packets sent
	HeartbeatOut                          // heartbeats among their frames
	ContentOut                            // frames of streams, datagrams and messages among them
	ReorderCorrections                    // datagrams opened before an earlier one, which they waited for
	ReorderThreshold                      // batches of which more than half waited so
	HeartbeatIn                           // heartbeats received
	KeyRotations                          // onion keys that began to be the present one
	PlanTaken                             // cover plans that are followed
	PlanRefused                           // cover plans that are not
	CoverStopped                          // slots that no plan may ask for, held back
	AvoidedTamper                         // nodes that a client left out of its paths, by reason (AvoidedFor)
	AvoidedDrop                           // and so on, in the order of the reasons
	AvoidedDelay
	AvoidedSilent
	AvoidedSetup
	AvoidedReplay
	AvoidedSteer
	AvoidedRefused
	LinkMissingTold  // frames that told a client which of its datagrams did not come
	CellsAgain       // cells that a client sent again for that
	CellsTooLate     // cells that came too late for it, of routes that go on
	PolicyCacheHit   // looks for a decision that found a present one
	PolicyCacheMiss  // decisions that were asked for, because none was there or it was due
	PolicyCacheStale // looks that found one to be followed meanwhile
	PolicyFault      // checks without an answer
	AdmissionShed    // SESSION_INITs refused for want of room, or of a turn or a decision in time
	WorkAsked        // SESSION_INITs answered by a challenge
	HandshakeErrors  // SESSION_INITs refused, challenges apart
	PassesSpent      // unlinkable tokens by which sessions were admitted
	PassesRefused    // SESSION_INITs that lacked one, or showed one that is not good
	NumCounters
)

var counterNames = [NumCounters]string{
	"link_in", "link_out", "drop_size", "drop_link_unknown", "drop_link_auth",
	"drop_link_replay", "drop_link_malformed", "drop_link_queue",
	"drop_handshake_malformed", "drop_handshake_cookie", "drop_handshake_limit",
	"drop_handshake_peer", "handshakes_done", "link_rekeys", "link_path_changes",
	"link_cookies_sent", "setup_in", "setup_done", "drop_setup_malformed",
	"drop_setup_auth", "drop_setup_replay", "drop_setup_limit", "drop_setup_peer",
	"drop_setup_expired", "cell_in", "cell_forwarded", "cell_delivered",
	"cell_dropped", "drop_cell_route", "drop_cell_auth", "drop_cell_replay",
	"drop_cell_malformed", "drop_cell_queue", "nack_sent", "nack_received",
	"routes_expired", "routes_closed", "dummy_out", "real_out", "dummy_in",
	"session_packet_in", "drop_session_auth", "drop_session_replay",
	"drop_session_malformed", "drop_session_unknown", "retransmitted",
	"spurious_retransmit", "repair_out", "repair_in", "rebuilt", "repair_good", "repair_short",
	"stream_priority_conflict", "stream_lane_duplicate_count", "stream_failover_duplicate_frames", "routes_tampered",
	"stream_messages_reassembled", "stream_fragment_reassembly_error",
	"stream_rekeys", "stream_rekey_latency_us", "obf_missing_auth_tags", "pq_handshakes", "pq_handshake_success", "pq_handshakes_refused",
	"stream_sdk_version_mismatch", "client_version_errors",
	"link_missed", "link_late", "session_packet_out", "stream_heartbeats_out", "stream_content_out",
	"obf_reorder_corrections", "obf_reorder_threshold", "stream_heartbeats_in", "mix_key_rotation_events",
	"obf_plans_taken", "obf_plans_refused", "obf_cover_stopped",
	"nodes_avoided_tamper", "nodes_avoided_drop", "nodes_avoided_delay", "nodes_avoided_silent",
	"nodes_avoided_setup", "nodes_avoided_replay", "nodes_avoided_steer", "nodes_avoided_refused",
	"link_missing_told", "cells_again", "cells_too_late",
	"policy_cache_hit", "policy_cache_miss", "policy_cache_stale", "policy_check_faults", "admission_shed", "admission_work_asked", "api_handshake_errors",
	"passes_spent", "passes_refused",
}

// String returns the counter's name as exported.
func (c Counter) String() string {
	if c < NumCounters {
		return counterNames[c]
	}
	return "unknown"
}

// TellsContent reports whether a counter tells cells with content from cover, by
// itself or with others: who may read it knows how much is sent and when, which
// is what cover hides from who watches the wire.
func (c Counter) TellsContent() bool {
	switch c {
	case RealOut, DummyOut, DummyIn, SessionPacketIn, Retransmitted, SpuriousRetransmit, RepairOut, RepairIn, Rebuilt, RepairGood, RepairShort, Rekeys, RekeyLatency,
		PriorityConflict, LaneDuplicate, FailoverDuplicate, MessageReassembled, FragmentError, SessionPacketOut, HeartbeatOut, HeartbeatIn, ContentOut:
		return true
	}
	return false
}

// Counts are the counters of one machine, owned by that machine.
type Counts [NumCounters]uint64

// Add adds every counter of o.
func (c *Counts) Add(o *Counts) {
	for i := range c {
		c[i] += o[i]
	}
}

// CellsOut is how many cells were emitted, with content or without.
func (c *Counts) CellsOut() uint64 { return c[RealOut] + c[DummyOut] }

// PacketLoss is how many datagrams of neighbours did not arrive, of how many
// that they sent: what the counters of links show, so far.
func (c *Counts) PacketLoss() (lost, sent uint64) {
	arrived := c[LinkIn] - c[DropSize] - c[DropLinkUnknown] - c[DropLinkAuth] - c[DropLinkReplay]
	lost = c[LinkMissed] - min(c[LinkMissed], c[LinkLate])
	return lost, arrived + lost
}

// MixDrop is how many of the cells that came a hop dropped though they were not
// tampered with: it knew no route for them, as after a restart, or had no room.
func (c *Counts) MixDrop() (dropped, came uint64) {
	return c[DropCellRoute] + c[DropCellQueue], c[CellIn]
}

// Event is one typed step of a machine: what, when, and up to two numbers
// whose meaning the kind gives (a size, a count, a small index).
type Event struct {
	At   machine.Time
	Kind Kind
	A, B uint64
}

// Sink takes events; a nil Sink takes none.
type Sink func(Event)

// Emit passes an event to the sink, if there is one.
func (s Sink) Emit(at machine.Time, k Kind, a, b uint64) {
	if s != nil {
		s(Event{At: at, Kind: k, A: a, B: b})
	}
}

// Kind names an event.
type Kind uint8

// Event kinds.
const (
	LinkUp         Kind = iota // A: 1 of a node, 0 of a client
	LinkDown                   // A: reason (link.Reason)
	RouteUp                    // A: hops, B: set-up time in ns
	RouteDown                  // A: hops, B: age in ns
	SessionUp                  // A: set-up time in ns
	SessionDown                // A: close code
	StreamUp                   // A: stream id
	StreamDown                 // A: stream id, B: error code
	Rekeyed                    // A: generation
	PathSwitched               // A: ns since the old path was last heard
	ClassChanged               // A: old class in packets per second, B: new class
	SessionInit                // SESSION_INIT admitted; A: version of the record
	SessionRefused             // SESSION_INIT refused; A: reason code
	SessionClosed              // SESSION_TERMINATE; A: ns between the last sign of life and release
	RouteTampered              // A: position of the fault (0: the entry), B: cells that were changed
	ExitGone                   // an exit was given up with its sessions
	PacketLost                 // a session takes a packet for lost; A: ns since it was sent, B: 1 if a hop told that it dropped it
	KeyConfirmed               // the peer has a packet under a new key; A: ns beyond the known round trip
	PacketTaken                // a session took the frames of a packet; A: bytes of them that are not content, B: of the greatest frame
	StreamAnswered             // the first byte after what was last written to an own stream; A: ns since, B: lane
	StreamQueued               // bytes of a stream left a queue; A: ns in it, B: 0 to be sent, 1 to be read
	PlanJudged                 // a cover plan came; A: its epoch, B: why it is not followed (obfs.Refusal), or 0
	RepairSent                 // a repair left; A: ns since the first packet that had none left, B: packets that it covers
	RouteMoved                 // a route left a node that is to be left; A: its place, B: ns until another carried on
	NodeAvoided                // a client leaves a node out of its paths; A: Reason

	// Steps of a probe's session (client.Config.Steps, gateway.Config.Steps).
	StepInit     // SESSION_INIT is sent under a new nonce; A, B: its halves
	StepGranted  // and answered by a token
	StepDenied   // or not; A: reason code
	StepRequest  // a route is wanted for a session
	StepQuery    // the directory is asked for its nodes; A: epoch of the document
	StepResponse // it has told them; A: how many it lists
	StepPlan     // the route has a path, keys and a set-up; A: hops
	StepCame     // the SESSION_INIT came to the entry; A: the place of its question (control.QuestionAt)
	StepDecided  // and has a decision; A: reason code, 0 of who is admitted under it
	NumKinds
)

var kindNames = [NumKinds]string{
	"link_up", "link_down", "route_up", "route_down", "session_up", "session_down",
	"stream_up", "stream_down", "rekeyed", "path_switched", "class_changed",
	"SESSION_INIT", "SESSION_REFUSED", "SESSION_TERMINATE",
	"route_tampered", "exit_gone", "packet_lost", "key_confirmed", "packet_taken", "stream_answered", "stream_queued", "cover_plan", "repair_sent",
	"route_moved",
	"node_avoided",
	"step_init", "step_granted", "step_denied", "step_request", "step_query", "step_response", "step_plan", "step_came", "step_decided",
}

// String returns the kind's name as it stands in golden traces.
func (k Kind) String() string {
	if k < NumKinds {
		return kindNames[k]
	}
	return "unknown"
}
