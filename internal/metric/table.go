package metric

import "github.com/nyxnet/nyx/internal/trace"

// Kind is what a series is for who reads it.
type Kind uint8

// Kinds.
const (
	Gauge Kind = iota
	Counter
	Histogram
	Summary
)

// String is the kind's name in Prometheus' text format.
func (k Kind) String() string { return [...]string{"gauge", "counter", "histogram", "summary"}[k] }

// Rule is what keeps a series from speaking of one user.
type Rule uint8

// Rules.
const (
	// Open series speak of machines and of the network, whoever uses it.
	Open Rule = iota
	// Coarse series count what single users cause. They move every ten seconds, in
	// whole steps (Blur).
	Coarse
	// Crowd series are open where an authority tells them of the whole network, or a prober
	// of its own probes; what the routes and streams of one machine's users did is told as
	// Content is. Who fills a page sees to it.
	Crowd
	// Content series tell content from cover. They are left out of a page unless the
	// machine's owner has said metrics.traffic.
	Content
)

// String is the rule's name in docs/telemetry.md.
func (r Rule) String() string { return [...]string{"open", "coarse", "crowd", "content"}[r] }

// Units, as the Unified Code for Units of Measure writes them.
const (
	None         = "1"
	Seconds      = "s"
	Milliseconds = "ms"
	Bytes        = "By"
	Percent      = "%"
)

// Metric is a series that a process of Nyx tells.
type Metric struct {
	Name string
	Kind Kind
	Unit string
	Rule Rule
	Help string
}

// Find returns the series of a name, or nil.
func Find(name string) *Metric { return byName[name] }

// Table holds every series, in the order of docs/telemetry.md: what the network is,
// its wires, sessions, cover, directory, control plane, audit, and then the counters of
// machines.
var Table = append(append([]Metric(nil), named...), counters()...)

var byName = func() map[string]*Metric {
	m := make(map[string]*Metric, len(Table))
	for i := range Table {
		m[Table[i].Name] = &Table[i]
	}
	return m
}()

var named = []Metric{
	{"nyx_up", Gauge, None, Open, "Whether a part works fully."},
	{"cpu_user_pct", Gauge, Percent, Content, "Processor time in this program's own code since these figures were last read, in hundredths of one processor."},
	{"stream_gc_pause_duration", Summary, Seconds, Content, "Pauses of the garbage collector since the start; quantiles are of the last 256."},
	{"nyx_proxy_active", Gauge, None, Content, "Connections of the proxy that are open."},
	{"nyx_proxy_streams_total", Counter, None, Content, "Connections that the proxy took."},
	{"nyx_proxy_failed_total", Counter, None, Content, "Connections of the proxy that came to nothing."},
	{"stream_log_sampling_gap", Gauge, None, Open, "Important lines of the log that were not written."},
	{"log_lines_total", Counter, None, Open, "Lines of the log that were written."},
	{"log_lines_left_out_total", Counter, None, Open, "Lines of the log that said the same again and were left out."},
	{"log_volume_bytes", Gauge, Bytes, Open, "Bytes that the files of the log take, those kept after a rotation with them."},
	{"log_volume_share", Gauge, None, Open, "The same as a share of their budget."},
	{"log_lines_lost_total", Counter, None, Open, "Lines that were not written because their file could not be."},

	{"transport_packet_loss", Gauge, None, Open, "Share of the neighbours' datagrams that did not arrive."},
	{"mix_packet_drop", Gauge, None, Open, "Share of the cells that came and were dropped for want of a route or of room."},
	{"tls_handshake_duration", Histogram, Seconds, Coarse, "Seconds from a connection's first packet to the end of its handshake, by carriers beside UDP."},
	{"tls_handshake_refused_total", Counter, None, Coarse, "Connections that an entry's carriers refused."},
	{"key_reload_duration", Histogram, Seconds, Open, "Seconds from when a key was due to when the node had it."},
	{"latency_cross_region", Gauge, Seconds, Open, "Seconds of a round trip between nodes of two regions: what a node measures, what an authority tells, what a client goes by."},
	{"node_overloaded", Gauge, None, Open, "Whether the node holds admissions back."},
	{"node_strain", Gauge, None, Open, "The greatest of load, waits and drops as a part of its bound; 1 is overload."},
	{"node_overloads_total", Counter, None, Open, "How often the node became overloaded."},
	{"node_admissions_held_total", Counter, None, Coarse, "Sessions that were not admitted because of it."},

	{"telemetry_session_handshake_latency", Histogram, Seconds, Coarse, "Seconds from a SESSION_INIT until the session was admitted: at an entry since it came, at a client since it was first sent."},
	{"admission_per_minute", Gauge, None, Open, "Sessions that one client may open at an entry in a minute, by the node's limits."},
	{"stream_session_close_lag", Histogram, Seconds, Content, "Seconds from the last sign of life of a session until its Stream node released it."},
	{"stream_state_replication_lag", Histogram, Seconds, Coarse, "Seconds from what became of a session until the fleet's records said so."},
	{"stream_state_lookup_latency", Histogram, Seconds, Coarse, "Seconds in which the record of a session was found that is resumed here."},
	{"nyx_session_records_lost_total", Counter, None, Coarse, "Changes of records for which there was no room."},
	{"nyx_session_records_duplicate_total", Counter, None, Coarse, "Sessions of which there was another record already."},
	{"nyx_session_records_claimed_again_total", Counter, None, Coarse, "Sessions that were resumed by a ticket that had been used before."},
	{"nyx_session_records_unknown_total", Counter, None, Coarse, "Sessions that were resumed before their record was there."},
	{"nyx_session_records_conflicts_total", Counter, None, Coarse, "Claims that another change of the record overtook."},
	{"nyx_session_records_expired_total", Counter, None, Coarse, "Records that were removed because their time was over."},

	{"end_to_end_success_ratio", Gauge, None, Crowd, "Share of the streams opened to another end from which it answered."},
	{"end_to_end_latency", Histogram, Seconds, Open, "Seconds from a probe's question over its session until the answer."},
	{"end_to_end_latency_p95", Gauge, Seconds, Open, "The same, P95 since the start."},
	{"nyx_probes_total", Counter, None, Open, "Probes that Stream nodes made of the network."},
	{"stream_latency_p95", Gauge, Seconds, Content, "Seconds from the last byte written to a stream until the next came back, P95 since the start."},
	{"stream_latency_seconds", Histogram, Seconds, Content, "The same, of all."},
	{"stream_queue_latency", Histogram, Seconds, Content, "Seconds that bytes of streams waited: to be sent for the first time, and to be read."},
	{"stream_metadata_size", Histogram, Bytes, Content, "Bytes of received session packets that are neither content nor padding."},
	{"stream_compressed_frame_size", Histogram, Bytes, Content, "Bytes of the frames that compressed streams were cut into."},
	{"stream_heartbeat_distribution", Gauge, None, Content, "Gini coefficient of the heartbeats that Stream nodes received."},
	{"stream_heartbeat_queue_share", Gauge, None, Content, "Heartbeats, of the frames sent that are heartbeats or content."},
	{"stream_rekey_latency", Gauge, Seconds, Content, "Seconds that a replaced sending key added to the first round trip under it, on average."},
	{"transport_retransmission_ratio", Gauge, None, Content, "Session packets whose content was sent again, of those sent."},
	{"transport_multipath_delay_gap", Gauge, Seconds, Content, "Seconds by which the round trips of a session's paths differ."},
	{"transport_reordering_buffer_usage", Gauge, None, Content, "Share of a session's receive window that waits for what precedes it."},
	{"transport_path_metric_coverage", Gauge, None, Content, "Share of the paths of sessions in use of which every figure is there: round trip, jitter, packets and losses."},
	{"transport_paths", Gauge, None, Content, "Paths of all sessions that end here, by state: measured, or new."},
	{"transport_path_round_trip", Gauge, Seconds, Content, "Round trip on a path of a client's own session."},
	{"transport_path_jitter", Gauge, Seconds, Content, "How much that varies."},
	{"transport_path_packets", Gauge, None, Content, "Packets sent on a path of a client's own session."},
	{"transport_path_lost", Gauge, None, Content, "Of these, packets that were lost."},
	{"fec_recovery_ratio", Gauge, None, Content, "Share of the lost packets under repairs that the peer rebuilt."},
	{"fec_encode_latency", Histogram, Seconds, Content, "Seconds from the sending of a packet until the first repair that covers it, of the oldest of each repair."},
	{"mix_frame_drop_detect_latency", Histogram, Seconds, Content, "Seconds from the sending of a packet that a hop dropped until the hop's word of it came: at most this long after the drop."},
	{"mix_route_plan_latency", Histogram, Seconds, Content, "Seconds from when a route was wanted until a path for it was found."},
	{"mix_failover_duration", Histogram, Seconds, Content, "Seconds from when a session last heard a path until it went on over another."},
	{"route_update_latency", Histogram, Seconds, Content, "Seconds from when a route was to leave a node until another carried on in its place."},

	{"obf_timing_jitter_ms", Histogram, Milliseconds, Content, "Milliseconds by which a client moved the moments of its cells."},
	{"obf_cover_ratio", Gauge, None, Crowd, "Cells without content to cells with, of routes above their floors: of an authority in the last epoch, else in the last minutes."},
	{"obf_cover_geo_distribution", Gauge, None, Crowd, "Gini–Simpson index of the regions' shares of cover, in the last epoch."},
	{"cover_traffic_compliance", Gauge, None, Crowd, "Share of the windows in which obf_cover_ratio was at most 0.6."},
	{"obf_cover_windows_total", Counter, None, Crowd, "Windows in which obf_cover_ratio was looked at."},
	{"obf_cover_windows_complied_total", Counter, None, Crowd, "Of these, those in which it was at most 0.6."},
	{"obf_cover_alerts_total", Counter, None, Crowd, "Windows in which obf_cover_ratio was above 0.45."},
	{"obf_plans_refused_reason_total", Counter, None, Open, "Cover plans that were not followed, by reason."},

	{"directory_query_success_ratio", Gauge, None, Open, "Share of the directory's answers among the queries to its servers."},
	{"directory_timeout_events", Counter, None, Open, "Queries to a directory server that were not answered in the time that its answers take."},
	{"directory_server_faults_total", Counter, None, Open, "What was wrong with directory servers, by reason code."},
	{"directory_stale_buckets", Gauge, None, Open, "Buckets of the directory that could not be had; signed ones of an earlier document stand in."},
	{"directory_cache_total", Counter, None, Open, "Buckets that a replica's cache had and had not, calls of its server that failed, those for which the server was left alone, and of those that it had the ones that were spoiled."},
	{"directory_lookup_latency", Histogram, Seconds, Open, "Seconds in which a server of the directory found a bucket."},
	{"directory_connections_turned_total", Counter, None, Coarse, "Connections that a server of the directory, or a witness, had no room for, or let go of because no whole request came."},
	{"directory_rebuild_duration", Gauge, Seconds, Open, "Seconds in which the replica had its documents again after its start."},
	{"nyx_log_entries", Gauge, None, Open, "Documents in the authority's own log."},
	{"nyx_log_cosigned_entries", Gauge, None, Open, "Of these, those that enough witnesses have seen."},
	{"nyx_directory_evidence_total", Counter, None, Open, "Findings of two documents of one number, or of logs that fork."},

	{"telemetry_pushed_total", Counter, None, Open, "Bodies of spans and metrics that were taken, live or late, by where they are pushed to."},
	{"telemetry_push_lost_total", Counter, None, Open, "Bodies that were given up: refused for good, without a spool while nobody was there, or too old, without room, torn or not written in it."},
	{"telemetry_spool_batches", Gauge, None, Open, "Bodies that wait on disk for somebody to take them."},
	{"telemetry_spool_bytes", Gauge, Bytes, Open, "Bytes that they take there."},
	{"telemetry_pipeline_lag_seconds", Summary, Seconds, Open, "Age of the reports of nodes when they came."},
	{"telemetry_freshness", Gauge, Seconds, Open, "Seconds since the newest report of the node of which the newest is oldest."},
	{"telemetry_sampling_error_rate", Gauge, None, Open, "How far sampled reports of the last five minutes were off what they stand for."},
	{"telemetry_reports_refused_total", Counter, None, Open, "Reports that were out of order, of the future, malformed, or of nobody known."},
	{"telemetry_reports_dropped_total", Counter, None, Open, "Reports for which there was no room, or which were refused."},
	{"telemetry_fallback_used_total", Counter, None, Open, "How often the telemetry of a region was gone and its rates were left alone."},
	{"telemetry_fallback_regions", Gauge, None, Open, "Regions whose telemetry is gone."},
	{"telemetry_alone", Gauge, None, Open, "Whether the node lacks the control plane and goes by stricter bounds."},
	{"telemetry_alone_total", Counter, None, Open, "How often it came to that."},
	{"control_nodes_overloaded", Gauge, None, Open, "Nodes that hold admissions back."},
	{"control_feedback_oscillation", Gauge, None, Open, "Half the distance between the greatest and the least λ' of a class in the last minute, as a part of their mean: the greatest of all classes."},
	{"control_api_latency", Histogram, Seconds, Open, "Seconds in which requests of nodes and authorities were answered, the waiting ones for the configuration apart."},
	{"analytics_batch_duration", Gauge, Seconds, Open, "Seconds that the last day took to be summed up when its last hour was closed."},
	{"config_applied_version", Gauge, None, Open, "Revision of the configuration that is in force."},
	{"config_refused_version", Gauge, None, Open, "Revision of the configuration that could not be had; 0: it could."},
	{"control_duplicate_event_detected", Counter, None, Open, "Changes of the configuration that came to a node again, and events that came to the bus again; they were left out."},
	{"control_event_queue_depth", Gauge, None, Open, "Changes of the configuration that are not accepted yet."},
	{"config_dead_letter_count", Counter, None, Open, "Changes of the configuration that could not be had."},
	{"config_dead_letters_revived", Counter, None, Open, "Those of them that went through in the end."},
	{"etcd_server_commit_duration", Histogram, Seconds, Open, "Seconds in which the store of the configuration had made a change durable."},
	{"opa_decision_latency", Histogram, Seconds, Open, "Seconds in which the policy decided."},
	{"opa_decisions_failed_total", Counter, None, Open, "Questions that the policy did not decide."},
	{"policy_bundles_taken_total", Counter, None, Open, "Policy bundles that were taken."},
	{"policy_bundles_refused_total", Counter, None, Open, "Policy bundles that were not taken, and tries to have one that failed."},

	{"audit_outbox_depth", Gauge, None, Open, "Events that wait at a node, or an authority, for a control process to take them."},
	{"audit_copy_lag_events", Gauge, None, Open, "Entries of the audit log that are not in its copy under object lock."},
	{"audit_copy_lag_seconds", Gauge, Seconds, Open, "Time since the copy had all that was signed; 0: it has all there is."},
	{"nyx_audit_copy_bytes_total", Counter, Bytes, Open, "Bytes put under object lock."},
	{"nyx_audit_copy_objects_total", Counter, None, Open, "Objects put under object lock."},
	{"nyx_audit_copy_faults_total", Counter, None, Open, "Tries to copy that failed; they are made again."},
	{"audit_pruned_events_total", Counter, None, Open, "Events that retention removed from the audit log."},
	{"audit_pruned_days_total", Counter, None, Open, "Days of them."},
	{"audit_pruned_bytes_total", Counter, Bytes, Open, "Bytes of segments of them."},
	{"audit_retention_overdue_days", Gauge, None, Open, "Days of the audit log that are kept no longer and still there: they have no copy yet, or removing them failed."},
	{"nyx_audit_retention_faults_total", Counter, None, Open, "Tries to remove days that failed; they are made again."},
	{"nyx_audit_events_given_up_total", Counter, None, Open, "Events that were given up there: there was no room, or no control process takes them."},
	{"audit_queue_depth", Gauge, None, Open, "Events on the bus that are not in the compliance store."},
	{"audit_dead_letters", Gauge, None, Open, "Messages on the bus that are delivered no more."},
	{"audit_slots", Gauge, None, Open, "Batches that are brought to the compliance store at a time."},
	{"audit_delay_seconds", Histogram, Seconds, Open, "Seconds from when the bus took an event until the compliance store had it."},
	{"audit_incident_capture_latency", Histogram, Seconds, Open, "Seconds from an incident until the compliance store had it."},
	{"nyx_audit_recorded_total", Counter, None, Open, "Events brought to the compliance store."},
	{"nyx_audit_taken_total", Counter, None, Open, "Events that the bus took."},
	{"nyx_audit_refused_total", Counter, None, Open, "Events that the bus did not take, for want of room or by a fault; nodes come again with them."},
	{"nyx_audit_forged_total", Counter, None, Open, "Batches with events that their node may not tell."},
	{"nyx_audit_store_failures_total", Counter, None, Open, "Times that the compliance store did not take a batch; it is tried again."},
	{"audit_index_lag_events", Gauge, None, Open, "Entries of the audit log that are not in its index."},
	{"audit_index_lag_seconds", Gauge, Seconds, Open, "For how long the index has not been where the log is; 0: it is."},
	{"nyx_audit_index_faults_total", Counter, None, Open, "Tries to bring the index on that failed; they are made again."},
	{"nyx_audit_index_rebuilt_total", Counter, None, Open, "Times that the index was built anew because it was not what the log holds."},
	{"audit_replay_throughput", Gauge, None, Open, "Entries a second of the last projection of a thousand and more into the index."},
	{"db_query_latency", Summary, Seconds, Open, "Seconds that queries of the audit log took in the index's database."},
	{"db_query_latency_p95", Gauge, Seconds, Open, "The same, P95 since the start."},
	{"audit_query_latency", Summary, Seconds, Open, "Seconds that they took in all, with waiting until the index has what the log has."},
	{"audit_export_duration", Summary, Seconds, Open, "Seconds from when a copy of the audit log was asked for until it was signed, of the last thousand."},
	{"nyx_audit_export_faults_total", Counter, None, Open, "Tries at a copy that failed; it goes on after its last part."},
	{"nyx_audit_exports_failed_total", Counter, None, Open, "Copies that were given up with a part of their rows, until they are asked to go on."},
	{"analytics_partial_export_rate", Gauge, None, Open, "Share of the copies that ended with a part of their rows."},
	{"governance_decision_latency", Summary, Seconds, Open, "Seconds that decisions of the policy of governance took."},
	{"nyx_governance_decision_failures_total", Counter, None, Open, "Decisions that the policy did not give: nothing was allowed."},
	{"compliance_export_latency", Summary, Seconds, Open, "Seconds from an event until it was in the aggregates of its hour."},
	{"nyx_stream_export_entries_total", Counter, None, Open, "Entries of the audit log that were summed up."},
	{"nyx_stream_export_strange_total", Counter, None, Open, "Entries of which the time is more than a day ahead, or 400 days ago: they are in no hour."},
	{"nyx_insight_updates_total", Counter, None, Open, "Updates that were published."},
	{"dashboard_refresh_latency", Summary, Seconds, Open, "Seconds from the oldest event that is new in an update until it was published."},
	{"report_generation_duration", Gauge, Seconds, Open, "Seconds from a request until what was asked for was made and signed: the longest of the last thousand."},
}

// OfCounter is the name of a machine's counter: the specification's, where it has one.
func OfCounter(c trace.Counter) string {
	if name := specified[c]; name != "" {
		return name
	}
	return "nyx_" + c.String() + "_total"
}

// CellsOut is the name of trace.Counts.CellsOut.
const CellsOut = "nyx_cells_out_total"
