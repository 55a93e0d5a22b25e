package lab

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nyxnet/nyx/scenarios"
)

// The figures of the specification, as they must stand in the catalogue.
var facts = []struct {
	id, metric string
	stat       Stat
	op         Op
	bound      float64
	unit       string
	parameters map[string]float64
}{
	{"DF-003", "mix.route_plan_latency", "ratio", "<=", 0.5, "%", map[string]float64{"search_mean_ms": 200}},
	{"DF-006", "obf.cover_ratio", "max", "<=", 0.6, "ratio", map[string]float64{"dummy_growth": 5}},
	{"DF-013", "obf.timing_jitter_ms", "p95", "<=", 400, "ms", map[string]float64{"noise_ms": 120}},
	{"DF-024", "obf.cover_geo_distribution", "min", ">=", 0.5, "index", map[string]float64{"cover_one_region": 0.8}},
	{"SCL-005", "cover_traffic_compliance", "ratio", ">=", 95, "%", map[string]float64{"cover_ratio": 0.4}},
	{"SCL-032", "cover_drift_percent", "max", "<", 0.03, "ratio", map[string]float64{"hours": 48}},
	{"DF-001", "telemetry.session_handshake_latency", "p95", "<=", 180, "ms", map[string]float64{"sessions_per_second": 1500, "policy_ms": 4}},
	{"DF-002", "policy_cache_miss", "ratio", "<=", 0.2, "%", map[string]float64{"nodes": 50_000}},
	{"DF-007", "telemetry.pipeline_lag_seconds", "max", "<=", 1000, "ms", map[string]float64{"lag_seconds": 3}},
	{"DF-008", "audit.queue_depth", "max", "<=", 30_000, "ms", map[string]float64{"surge_factor": 4}},
	{"DF-010", "config.dead_letter_count", "max", "<=", 120, "s", map[string]float64{"dead_share": 0.05}},
	{"DF-018", "config.applied_version", "ratio", "<=", 0, "%", nil},
	{"DF-020", "telemetry.fallback_used_total", "ratio", "<=", 0, "%", map[string]float64{"gap_seconds": 30}},
	{"DF-025", "telemetry.sampling_error_rate", "max", "<=", 0.05, "ratio", map[string]float64{"one_in": 10}},
	{"DF-030", "control.duplicate_event_detected", "ratio", "<=", 0, "%", map[string]float64{"duplicate_share": 0.05}},
	{"DF-031", "analytics.batch_duration", "max", "<=", 45, "min", map[string]float64{"bytes_per_day": 1.5e12}},
	{"DF-039", "stream.log_sampling_gap", "ratio", "<=", 0, "%", nil},
	{"DF-040", "control.event_queue_depth", "max", "<=", 5, "s", map[string]float64{"changes_per_second": 500}},
	{"DF-043", "audit.incident_capture_latency", "max", "<=", 60_000, "ms", map[string]float64{"failures": 10}},
	{"DF-044", "control.feedback_oscillation", "max", "<=", 0.05, "ratio", nil},
	{"SCL-002", "api_handshake_errors_total", "ratio", "<", 0.05, "%", map[string]float64{"creates_per_second": 2000, "stream_nodes": 20, "limit_per_minute": 30}},
	{"SCL-007", "etcd_server_commit_duration", "p95", "<=", 50, "ms", map[string]float64{"writes_per_minute": 5000, "members": 5}},
	{"SCL-018", "opa_decision_latency", "p99", "<=", 12, "ms", map[string]float64{"decisions_per_minute": 50_000, "engines": 3, "bundle_sync_s": 30}},
	{"DF-009", "audit.replay_throughput", "min", ">=", 5000, "per_s", map[string]float64{"events": 1e8}},
	{"DF-038", "analytics.partial_export_rate", "ratio", "<=", 0.1, "%", map[string]float64{"failed_share": 0.02}},
	{"DF-026", "compliance.export_latency", "max", "<=", 15, "min", map[string]float64{"throughput_left": 0.5}},
	{"SCL-048", "report_generation_duration", "max", "<=", 20, "min", map[string]float64{"reports": 50}},
	{"SCL-010", "db_query_latency_p95", "p95", "<=", 450, "ms", map[string]float64{"queries_per_minute": 500}},
	{"SCL-031", "audit_export_duration", "max", "<=", 5, "min", map[string]float64{"exports": 200}},
	{"DF-011", "stream.compressed_frame_size", "ratio", "<=", 8, "%", map[string]float64{"frame_before_bytes": 1400, "frame_after_bytes": 2100}},
	{"DF-012", "directory.query_success_ratio", "ratio", ">=", 95, "%", map[string]float64{"node_response_success": 0.7, "nodes_unknown": 0.5}},
	{"DF-015", "stream.session_close_lag", "ratio", ">=", 99.8, "%", map[string]float64{"terminate_delay_mean_s": 20}},
	{"DF-023", "mix.frame_drop_detect_latency", "p99", "<=", 40, "ms", map[string]float64{"drop_share": 0.05}},
	{"DF-021", "stream.heartbeat_distribution", "max", "<=", 0.2, "index", map[string]float64{"concentration": 0.4}},
	{"DF-027", "mix.key_rotation_events", "ratio", "<=", 1, "%", nil},
	{"DF-045", "stream.fragment_reassembly_error", "ratio", "<=", 0.3, "%", map[string]float64{"reassembly_share": 0.12}},
	{"DF-047", "stream.gc_pause_duration", "ratio", "<=", 3, "%", map[string]float64{"raised_gogc": 5}},
	{"DF-050", "end_to_end.success_ratio", "ratio", ">=", 99.95, "%", map[string]float64{"routes_per_day": 1e8}},
	{"DF-005", "stream.latency_p95", "p95", "<=", 120, "ms", map[string]float64{"high_share": 0.3, "standard_share": 0.7}},
	{"DF-028", "stream.lane_duplicate_count", "ratio", "<=", 0.1, "%", map[string]float64{"lanes_from": 2, "lanes_to": 5}},
	{"DF-037", "stream.priority_conflict", "ratio", "<=", 0, "%", map[string]float64{"conflict_share": 0.15}},
	{"DF-046", "stream.heartbeat_queue_share", "mean", "<=", 0.05, "ratio", map[string]float64{"heartbeat_share": 0.4}},
	{"DF-033", "stream.state_replication_lag", "max", "<=", 500, "ms", map[string]float64{"replication_lag_ms": 1200}},
	{"DF-049", "stream.state_lookup_latency", "p95", "<=", 5, "ms", map[string]float64{"metadata_before_bytes": 1 << 10, "metadata_bytes": 3 << 10}},
	{"DF-041", "stream.metadata_size", "max", "<=", 1150, "bytes", nil},
	{"SCL-001", "stream_latency_p95", "p95", "<=", 320, "ms", map[string]float64{
		"requests_per_second": 500, "payload_bytes": 64, "stream_nodes": 10, "mix_nodes": 15}},
	{"SCL-004", "route_update_latency", "max", "<=", 400, "ms", map[string]float64{"flows": 800, "paths_per_flow": 5, "mix_nodes": 25}},
	{"SCL-019", "vault_token_create_latency", "p99", "<=", 200, "ms", map[string]float64{"tokens_per_minute": 3000, "lease_minutes": 15}},
	{"SCL-037", "key_reload_duration", "max", "<=", 5, "s", map[string]float64{"rotations_per_second": 100}},
	{"SCL-013", "stream_queue_latency", "max", "<=", 5, "s", map[string]float64{"requests_per_second": 1500, "slow_share": 0.5, "queue_size": 10000}},
	{"SCL-003", "cpu_user_pct", "p95", "<", 0.7, "ratio", map[string]float64{"setups_per_second": 1000, "full_share": 0.6, "stream_nodes": 30}},
	{"SCL-044", "fec_encode_latency", "p99", "<=", 3, "ms", map[string]float64{"segments_per_minute": 500_000}},
	{"SCL-014", "latency_cross_region", "p95", "<=", 450, "ms", map[string]float64{"requests_per_second": 800, "between_ms": 90}},
	{"DF-019", "directory.timeout_events", "ratio", ">=", 97, "%", map[string]float64{"rtt_mean_ms": 180}},
	{"SCL-046", "directory_lookup_latency", "p95", "<=", 180, "ms", map[string]float64{"cache_ttl_ms": 0}},
	{"SCL-011", "directory_rebuild_duration", "max", "<=", 10, "s", map[string]float64{"nodes": 50_000}},
	{"SCL-045", "mix_packet_drop", "ratio", "<", 0.2, "%", map[string]float64{"restarts_per_hour": 30, "mix_nodes": 300}},
	{"DF-036", "dashboard.refresh_latency", "max", "<=", 10, "s", nil},
	{"DF-042", "transport.path_metric_coverage", "ratio", ">=", 99, "%", map[string]float64{"looks_lost": 0.1}},
	{"SCL-025", "sli_completeness", "max", "<=", 0, "count", map[string]float64{"looks": 3}},
	{"SCL-026", "alertmanager_notifications", "max", "<=", 60, "s", map[string]float64{"error_ratio": 0.05}},
	{"SCL-027", "slo_burn_rate", "max", "<", 2, "ratio", map[string]float64{"error_ratio": 0.0008}},
	{"SCL-042", "cli_telemetry_backlog", "max", "<=", 60, "min", map[string]float64{"offline_hours": 24}},
	{"SCL-041", "log_volume_bytes", "max", "<", 0.8, "ratio", map[string]float64{"hours": 2}},
	{"SCL-047", "alertmanager_notifications_total", "ratio", ">=", 99.9, "%", map[string]float64{"alerts_per_minute": 500}},
	{"SCL-012", "mix_failover_duration", "max", "<=", 25, "s", map[string]float64{
		"messages_per_minute": 300_000, "kill_share": 0.1, "mix_nodes": 150}},
}

func TestCatalogueHoldsTheFiguresOfTheSpecification(t *testing.T) {
	c, err := Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range facts {
		s, ok := c.Find(strings.ToLower(f.id))
		if !ok {
			t.Errorf("%s is missing", f.id)
			continue
		}
		o := s.SLO[0]
		if s.Metric[0].Name != f.metric || o.Stat != f.stat || o.Op != f.op || o.Bound != f.bound || o.Unit != f.unit {
			t.Errorf("%s: %s on %s", f.id, o, s.Metric[0].Name)
		}
		for name, v := range f.parameters {
			if s.Parameters[name] != v {
				t.Errorf("%s: %s is %v, want %v", f.id, name, s.Parameters[name], v)
			}
		}
	}
	for id := range Funcs() {
		if _, ok := c.Find(id); !ok {
			t.Errorf("a program executes %s, which the catalogue lacks", id)
		}
	}
}

// synthetic is a scenario for tests; edit changes its text.
func synthetic(edit ...string) []byte {
	return []byte(strings.NewReplacer(edit...).Replace(`id = "SCL-007"
title = "Synthetic"
mode = "sim"
layer = "test"
load = "100 trials"
configuration = "none"
sli = "share of trials that succeed"
preconditions = "none"
procedure = "run it"
fallback = "none"
escalation = "none"
follow_up = "none"

[parameters]
trials = 1000
loss = 0.2

[[slo]]
series = "success_ratio"
stat = "ratio"
op = ">="
bound = 99
unit = "%"

[[slo]]
series = "latency_ms"
stat = "p95"
op = "<"
bound = 200
unit = "ms"
at_least = 10

[[metric]]
name = "success.ratio"
owner = "nyx"

[scale]
default = 0.5
full = "1,000 trials"

[control]
off = "retransmission"
fails = ["success_ratio"]
`))
}

func TestFaultsNameFileLineAndKey(t *testing.T) {
	for _, c := range []struct {
		name string
		edit []string
		want string
	}{
		{"unknown key", []string{`layer = "test"`, "layer = \"test\"\nlair = 3"}, "scl-007.toml:5: lair: no scenario has this key"},
		{"unknown key in a table", []string{`default = 0.5`, `defolt = 0.5`}, "scl-007.toml:38: scale.defolt: no scenario has this key"},
		{"wrong type", []string{`bound = 99`, `bound = "99"`}, "scl-007.toml:22: slo.bound: "},
		{"not TOML", []string{`mode = "sim"`, `mode = sim`}, "scl-007.toml:3: "},
		{"empty", []string{`"test"`, `" "`}, "scl-007.toml:4: layer: is missing or empty"},
		{"missing", []string{"sli = \"share of trials that succeed\"\n", ""}, "scl-007.toml:1: sli: is missing or empty"},
		{"id", []string{"SCL-007", "SCL-051"}, `scl-007.toml:1: id: "SCL-051" is not one of`},
		{"file name", []string{"SCL-007", "SCL-008"}, "scl-007.toml:1: id: SCL-008 must stand in scl-008.toml"},
		{"mode", []string{`mode = "sim"`, `mode = "dream"`}, `scl-007.toml:3: mode: "dream" is none of live, sim, model`},
		{"stat", []string{`stat = "p95"`, `stat = "p96"`}, `scl-007.toml:27: slo[1].stat: "p96" is none of p50`},
		{"op", []string{`op = "<"`, `op = "≤"`}, `scl-007.toml:28: slo[1].op: "≤" is none of`},
		{"unit", []string{`unit = "ms"`, `unit = "bananas"`}, `scl-007.toml:30: slo[1].unit: "bananas" is none of ms`},
		{"per cent of a time", []string{`unit = "ms"`, `unit = "%"`}, "slo[1].unit: % is the unit of a ratio"},
		{"series", []string{`series = "latency_ms"`, `series = "latency ms"`}, "slo[1].series:"},
		{"scale", []string{`default = 0.5`, `default = 2`}, "scl-007.toml:38: scale.default: 2 is not above 0"},
		{"metric", []string{`"success.ratio"`, `"Success Ratio"`}, "metric[0].name:"},
		{"owner", []string{`owner = "nyx"`, `owner = ""`}, "scl-007.toml:35: metric[0].owner: is missing"},
		{"control", []string{`fails = ["success_ratio"]`, `fails = ["other"]`}, `scl-007.toml:43: control.fails: "other" is the series of no slo`},
		{"no control", []string{`fails = ["success_ratio"]`, ``}, "scl-007.toml:41: control.fails: is missing"},
		{"no control text", []string{`off = "retransmission"`, ``}, "scl-007.toml:41: control.off: is missing"},
	} {
		_, err := Parse("scl-007.toml", synthetic(c.edit...))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %q does not say %q", c.name, err, c.want)
		}
	}
	if _, err := Parse("scl-007.toml", synthetic()); err != nil {
		t.Errorf("the scenario itself: %v", err)
	}
	cut, _, _ := strings.Cut(string(synthetic()), "[[slo]]")
	if _, err := Parse("scl-007.toml", []byte(cut)); err == nil || !strings.Contains(err.Error(), "slo: is missing") ||
		!strings.Contains(err.Error(), "metric: is missing") {
		t.Errorf("no objective: %v", err)
	}
	df := strings.NewReplacer("SCL-007", "DF-007").Replace(string(synthetic()))
	if _, err := Parse("df-007.toml", []byte(df)); err == nil || !strings.Contains(err.Error(), "trigger: is missing") {
		t.Errorf("a DF scenario without a trigger: %v", err)
	}
}

func TestLoadReportsAllFaultsAndTwins(t *testing.T) {
	file := func(b []byte) *fstest.MapFile { return &fstest.MapFile{Data: b} }
	_, err := Load(fstest.MapFS{
		"scl-001.toml": file([]byte("x = 1")),
		"scl-007.toml": file(synthetic("0.5", "7")),
	})
	for _, want := range []string{"scl-001.toml:1: x", "scl-007.toml:38: scale.default"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if _, err := Load(fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "no scenario") {
		t.Errorf("empty directory: %v", err)
	}
	c, err := Load(fstest.MapFS{"scl-007.toml": file(synthetic()), "scl-003.toml": file(synthetic("SCL-007", "SCL-003"))})
	if err != nil || c.Scenarios[0].ID != "SCL-003" {
		t.Errorf("catalogue %v, %v", c, err)
	}
	if c.Scenarios[0].Digest == c.Scenarios[1].Digest {
		t.Error("two scenarios have one digest")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(synthetic())
	f.Add([]byte("[[slo]]\n[[slo]]\nx.y = [1, {a = 2}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse("scl-007.toml", b)
		if err == nil && (s.ID != "SCL-007" || len(s.SLO) == 0) {
			t.Errorf("accepted %+v", s)
		}
	})
}
