package metric

import "github.com/nyxnet/nyx/internal/trace"

// specified are the counters that the specification names.
var specified = map[trace.Counter]string{
	trace.MissingAuthTags:     "obf_missing_auth_tags",
	trace.LaneDuplicate:       "stream_lane_duplicate_count",
	trace.FailoverDuplicate:   "stream_failover_duplicate_frames",
	trace.PriorityConflict:    "stream_priority_conflict",
	trace.FragmentError:       "stream_fragment_reassembly_error",
	trace.KeyRotations:        "mix_key_rotation_events",
	trace.ReorderCorrections:  "obf_reorder_corrections",
	trace.VersionMismatch:     "stream_sdk_version_mismatch",
	trace.ClientVersionErrors: "client_version_errors",
	trace.PolicyCacheMiss:     "policy_cache_miss",
	trace.HandshakeErrors:     "api_handshake_errors_total",
	trace.PQHandshakeSuccess:  "pq_handshake_success",
}

// coarse are the counters that single users move, and that do not tell content from
// cover.
var coarse = map[trace.Counter]bool{
	trace.PQHandshakes:         true,
	trace.PQHandshakeSuccess:   true,
	trace.HandshakesRefused:    true,
	trace.PassesSpent:          true,
	trace.PassesRefused:        true,
	trace.PolicyCacheHit:       true,
	trace.PolicyCacheStale:     true,
	trace.AdmissionShed:        true,
	trace.WorkAsked:            true,
	trace.HandshakeErrors:      true,
	trace.VersionMismatch:      true,
	trace.ClientVersionErrors:  true,
	trace.DropSessionUnknown:   true,
	trace.DropSessionMalformed: true,
	trace.DropSessionAuth:      true,
	trace.DropSessionReplay:    true,
}

func counters() []Metric {
	all := []Metric{{CellsOut, Counter, None, Open, "Cells emitted, with content or without."}}
	for c := trace.Counter(0); c < trace.NumCounters; c++ {
		rule := Open
		switch {
		case c.TellsContent():
			rule = Content
		case coarse[c]:
			rule = Coarse
		}
		all = append(all, Metric{OfCounter(c), Counter, None, rule, counted[c]})
	}
	return all
}

// counted says what the counters of a machine count (package trace).
var counted = [trace.NumCounters]string{
	trace.LinkIn:                 "Datagrams received.",
	trace.LinkOut:                "Datagrams sent.",
	trace.DropSize:               "Datagrams dropped because they are not of 1280 bytes.",
	trace.DropLinkUnknown:        "Datagrams dropped that are neither of a known link nor a handshake for this node.",
	trace.DropLinkAuth:           "Datagrams dropped that the link does not authenticate.",
	trace.DropLinkReplay:         "Datagrams dropped because their counter was seen before or is too old.",
	trace.DropLinkMalformed:      "Link frames dropped that are of unknown type or shape.",
	trace.DropLinkQueue:          "Frames dropped because the queue of the link was full.",
	trace.DropHandshakeMalformed: "Link handshakes dropped that do not parse, or whose key is bad.",
	trace.DropHandshakeCookie:    "Link handshakes dropped because the address was not proven.",
	trace.DropHandshakeLimit:     "Link handshakes dropped because there were too many at once.",
	trace.DropHandshakePeer:      "Link handshakes dropped of peers with whom this machine does not talk.",
	trace.HandshakesDone:         "Link handshakes completed.",
	trace.LinkRekeys:             "Link keys replaced.",
	trace.LinkPathChanges:        "Neighbour moved to a new address.",
	trace.LinkCookiesSent:        "Address challenges answered.",
	trace.SetupIn:                "Set-up trains received whole.",
	trace.SetupDone:              "Routes set up at this hop.",
	trace.DropSetupMalformed:     "Set-ups of routes dropped that are malformed.",
	trace.DropSetupAuth:          "Set-ups dropped of which a layer does not authenticate.",
	trace.DropSetupReplay:        "Set-ups dropped that were seen before under the same onion key.",
	trace.DropSetupLimit:         "Set-ups dropped because a limit of rate or room was reached.",
	trace.DropSetupPeer:          "Set-ups dropped because the next hop is unknown, or the peer was not admitted.",
	trace.DropSetupExpired:       "Set-ups dropped because they are past their time.",
	trace.CellIn:                 "Cells received.",
	trace.CellForwarded:          "Cells passed on.",
	trace.CellDelivered:          "Cells that ended here as end of their route.",
	trace.CellDropped:            "Cells that ended here by intention.",
	trace.DropCellRoute:          "Cells dropped because their route is not known.",
	trace.DropCellAuth:           "Cells dropped of which the layer does not authenticate.",
	trace.DropCellReplay:         "Cells dropped because their counter was seen before or is too old.",
	trace.DropCellMalformed:      "Cells dropped because padding or command are malformed.",
	trace.DropCellQueue:          "Cells dropped because the queue of delays or of the link was full.",
	trace.NackSent:               "Drops told along the route.",
	trace.NackReceived:           "Drops we were told of.",
	trace.RoutesExpired:          "Routes that ended by their TTL.",
	trace.RoutesClosed:           "Routes closed on purpose.",
	trace.DummyOut:               "Cover cells emitted.",
	trace.RealOut:                "Cells with content emitted.",
	trace.DummyIn:                "Cover cells dropped by the end.",
	trace.SessionPacketIn:        "Session packets accepted.",
	trace.DropSessionAuth:        "Session packets dropped that do not authenticate.",
	trace.DropSessionReplay:      "Session packets dropped because they were seen before or are too old.",
	trace.DropSessionMalformed:   "Session packets dropped because a frame is malformed.",
	trace.DropSessionUnknown:     "Session packets dropped because their session is not known.",
	trace.Retransmitted:          "Session packets whose content was sent again.",
	trace.SpuriousRetransmit:     "Session packets whose content was sent again without need.",
	trace.RepairOut:              "Repair packets sent.",
	trace.RepairIn:               "Repair packets received.",
	trace.Rebuilt:                "Session packets rebuilt from repairs.",
	trace.RepairGood:             "Protected session packets that the peer rebuilt.",
	trace.RepairShort:            "Protected session packets that were lost and not rebuilt.",
	trace.PriorityConflict:       "Changes of lanes that met another as late or later.",
	trace.LaneDuplicate:          "STREAM frames that held nothing new.",
	trace.FailoverDuplicate:      "STREAM frames sent again because their path was given up, which had arrived.",
	trace.RoutesTampered:         "Routes left because cells were changed on the way back.",
	trace.MessageReassembled:     "Messages that arrived whole.",
	trace.FragmentError:          "Messages of which fragments came, and not all.",
	trace.Rekeys:                 "Sending keys of sessions replaced.",
	trace.RekeyLatency:           "Microseconds that replaced sending keys added to the first round trip under each.",
	trace.MissingAuthTags:        "Session packets found without a tag before they left, and not sent.",
	trace.PQHandshakes:           "Session handshakes asked of this side.",
	trace.PQHandshakeSuccess:     "Session handshakes of these that were finished: the client has shown the keys.",
	trace.HandshakesRefused:      "Session handshakes that were told to come again with another KEM or version.",
	trace.VersionMismatch:        "Sessions that ended because the sides' versions do not go together.",
	trace.ClientVersionErrors:    "Sessions that ended for that reason, on the side that was called.",
	trace.LinkMissed:             "Datagrams of neighbours that newer ones overtook.",
	trace.LinkLate:               "Datagrams among those overtaken that arrived after all.",
	trace.SessionPacketOut:       "Session packets sent.",
	trace.HeartbeatOut:           "Heartbeats among the frames sent.",
	trace.ContentOut:             "Frames of streams, datagrams and messages among those sent.",
	trace.ReorderCorrections:     "Datagrams opened before an earlier one, which they waited for.",
	trace.ReorderThreshold:       "Batches of which more than half of the datagrams waited so.",
	trace.HeartbeatIn:            "Heartbeats received.",
	trace.KeyRotations:           "Onion keys that began to be the present one.",
	trace.PlanTaken:              "Cover plans that are followed.",
	trace.PlanRefused:            "Cover plans that are not followed.",
	trace.CoverStopped:           "Sending slots that no plan may ask for, held back.",
	trace.AvoidedTamper:          "Nodes that a client left out of its paths because they changed cells.",
	trace.AvoidedDrop:            "Nodes that a client left out of its paths because they dropped cells.",
	trace.AvoidedDelay:           "Nodes that a client left out of its paths because they delayed cells.",
	trace.AvoidedSilent:          "Nodes that a client left out of its paths because they were silent.",
	trace.AvoidedSetup:           "Nodes that a client left out of its paths because they did not set routes up.",
	trace.AvoidedReplay:          "Nodes that a client left out of its paths because they replayed cells.",
	trace.AvoidedSteer:           "Nodes that a client left out of its paths because they steered paths.",
	trace.AvoidedRefused:         "Nodes that a client left out of its paths because they refused.",
	trace.LinkMissingTold:        "Frames that told a client which of its datagrams did not come.",
	trace.CellsAgain:             "Cells that a client sent again because its entry lacked them.",
	trace.CellsTooLate:           "Cells that came too late to be delayed as their route does, of routes that go on.",
	trace.PolicyCacheHit:         "Looks for a decision that found a present one.",
	trace.PolicyCacheMiss:        "Decisions that were asked for, because none was there or it was due.",
	trace.PolicyCacheStale:       "Looks for a decision that found one to be followed until the new one is there.",
	trace.PolicyFault:            "Checks without an answer.",
	trace.AdmissionShed:          "SESSION_INITs refused for want of room, or of an answer in time.",
	trace.WorkAsked:              "SESSION_INITs answered by a challenge.",
	trace.HandshakeErrors:        "SESSION_INITs refused, challenges apart.",
	trace.PassesSpent:            "Unlinkable tokens by which sessions were admitted.",
	trace.PassesRefused:          "SESSION_INITs that lacked one, or showed one that is not good.",
}
