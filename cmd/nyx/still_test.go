package main

import (
	"testing"

	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/scenarios"
)

// How sure it is that a series does not move in TestSeriesMoveInALiveNetwork.
type sureness uint8

const (
	// perhaps: load, chance or a loss decides.
	perhaps sureness = iota
	// turned: it moves only where a window of cover has ended, which is at full five minutes
	// of the clock, or an epoch is summed up, two minutes before its end. Days and the
	// periods of onion keys end with a window.
	turned
	// never: what moves it cannot come about there.
	never
)

// excuse is why a series of the catalogue need not move there, and the scenario that
// asserts that it does: a run that does not observe a metric of its list has no verdict.
type excuse struct {
	scenario string
	sure     sureness
	why      string
}

// still are the series of the catalogue that need not move. One that is sure not to, and
// moves, is told as an error: it must go from here.
var still = map[string]excuse{
	"analytics_batch_duration":          {"DF-031", turned, "a day must end"},
	"analytics_partial_export_rate":     {"DF-038", never, "a copy must fail half-way"},
	"audit_queue_depth":                 {"DF-008", perhaps, "events wait for milliseconds"},
	"audit_replay_throughput":           {"DF-009", never, "the index must be a thousand entries behind"},
	"client_version_errors":             {"SCL-039", never, "a client of a version that nobody has must come"},
	"control_duplicate_event_detected":  {"DF-030", perhaps, "an event must be told twice, as after an answer that was late"},
	"control_event_queue_depth":         {"DF-040", perhaps, "changes wait for milliseconds"},
	"control_feedback_oscillation":      {"DF-044", perhaps, "needs rates that are steered to and fro"},
	"cover_traffic_compliance":          {"SCL-005", turned, "a window must end, or an epoch be summed up"},
	"directory_lookup_latency":          {"SCL-046", never, "buckets are asked for in larger networks"},
	"directory_rebuild_duration":        {"SCL-011", never, "a replica must start again"},
	"directory_timeout_events":          {"DF-019", perhaps, "a directory server must be late"},
	"fec_encode_latency":                {"SCL-044", perhaps, "repairs begin with losses"},
	"fec_recovery_ratio":                {"DF-017", perhaps, "repairs begin with losses"},
	"latency_cross_region":              {"SCL-014", perhaps, "a round trip on loopback is below a millisecond, which is told as 0"},
	"log_volume_bytes":                  {"SCL-041", never, "nyx up keeps no log files"},
	"mix_failover_duration":             {"SCL-012", perhaps, "a path must be silent"},
	"mix_frame_drop_detect_latency":     {"DF-023", perhaps, "a mix must drop"},
	"mix_key_rotation_events":           {"DF-027", turned, "an onion key must turn"},
	"mix_packet_drop":                   {"SCL-045", perhaps, "a mix must drop"},
	"obf_cover_geo_distribution":        {"DF-024", turned, "an epoch must be summed up"},
	"obf_cover_ratio":                   {"DF-006", perhaps, "classes may be at their floors, which are reported apart"},
	"obf_missing_auth_tags":             {"DF-048", never, "a defect must be put in"},
	"obf_reorder_corrections":           {"DF-016", perhaps, "datagrams must come in batches over several processors"},
	"policy_cache_miss":                 {"DF-002", perhaps, "nodes may have their decisions before the first session"},
	"report_generation_duration":        {"SCL-048", never, "an auditor must ask for a report, which the console does not offer"},
	"route_update_latency":              {"SCL-004", perhaps, "a route must leave a node"},
	"stream_compressed_frame_size":      {"DF-011", never, "an application must ask for compression"},
	"stream_failover_duplicate_frames":  {"DF-035", perhaps, "a path must be given up"},
	"stream_fragment_reassembly_error":  {"DF-045", never, "an application must send messages, and a fragment be lost for good"},
	"stream_heartbeat_distribution":     {"DF-021", perhaps, "sessions at rest send heartbeats"},
	"stream_heartbeat_queue_share":      {"DF-046", perhaps, "sessions at rest send heartbeats"},
	"stream_lane_duplicate_count":       {"DF-028", perhaps, "a packet must be repeated needlessly"},
	"stream_log_sampling_gap":           {"DF-039", never, "the log is the program's own under nyx node"},
	"stream_priority_conflict":          {"DF-037", never, "two sides must change a lane at once"},
	"stream_rekey_latency":              {"DF-022", never, "a session must last ten minutes"},
	"stream_sdk_version_mismatch":       {"DF-032", never, "two versions must meet"},
	"stream_state_lookup_latency":       {"DF-049", never, "session records are shared by fleets of several processes"},
	"stream_state_replication_lag":      {"DF-033", never, "session records are shared by fleets of several processes"},
	"telemetry_fallback_used_total":     {"DF-020", perhaps, "a region must fall silent"},
	"telemetry_sampling_error_rate":     {"DF-025", perhaps, "a window must have both sampled and whole reports"},
	"transport_multipath_delay_gap":     {"DF-034", perhaps, "paths of one machine are about equally long"},
	"transport_packet_loss":             {"SCL-006", perhaps, "loopback loses where a queue is full"},
	"transport_reordering_buffer_usage": {"DF-029", perhaps, "loopback keeps order, paths do not"},
	"transport_retransmission_ratio":    {"DF-004", perhaps, "loopback loses where a queue is full"},
}

// outside are series of the catalogue that no process can tell.
var outside = map[string]excuse{
	"transport_jitter_feedback_latency": {"DF-014", never, "when a path became jittery is known to who made it so: the lab"},
	"cover_drift_percent":               {"SCL-032", never, "what was asked for is known to the control loop's owner, what was emitted to each machine: the lab compares them"},
	"slo_burn_rate":                     {"SCL-027", never, "recorded by the rules of deploy/prometheus; panels show it"},
	"cli_telemetry_backlog":             {"SCL-042", never, "of a user's commands, not of a network: nyx telemetry show prints it, and each report has it"},
	"sli_completeness":                  {"SCL-025", never, "recorded by the rules of deploy/prometheus; a panel shows it"},
}

// Whatever is excused is moved by a scenario, which lists it as a metric of this system.
func TestWhatIsExcusedMovesElsewhere(t *testing.T) {
	catalogue, err := lab.Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, excuses := range []map[string]excuse{still, outside} {
		for name, e := range excuses {
			if !moves(catalogue, e.scenario, name) || e.why == "" {
				t.Errorf("%s is excused (%s), and %s does not list it", name, e.why, e.scenario)
			}
			if _, both := outside[name]; both && still[name].why != "" {
				t.Errorf("%s is excused twice", name)
			}
		}
	}
	if moves(catalogue, "DF-004", "stream_rekey_latency") || moves(catalogue, "DF-999", "stream_rekey_latency") { // control
		t.Error("control: any scenario moves anything")
	}
}

// moves reports whether a scenario lists a series as one that its run must observe.
func moves(catalogue *lab.Catalogue, id, series string) bool {
	s, ok := catalogue.Find(id)
	if !ok {
		return false
	}
	for _, m := range s.Metric {
		if m.Owner == lab.OwnerNyx && lab.SeriesName(m.Name) == series {
			return true
		}
	}
	return false
}
