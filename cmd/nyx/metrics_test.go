package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/monitor"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/slo"
	"github.com/nyxnet/nyx/scenarios"
)

// still are the series of the catalogue that a small network does not move in half a
// minute, each with the reason. What moves all the same must not stand here.
var still = map[string]string{
	"analytics_batch_duration":          "a day must end",
	"analytics_partial_export_rate":     "an auditor must ask for a copy; TestGovernance does",
	"audit_export_duration":             "an auditor must ask for a copy",
	"audit_incident_capture_latency":    "an incident must come about",
	"audit_replay_throughput":           "the index must be a thousand entries behind",
	"client_version_errors":             "a client of a version that nobody has must come",
	"audit_queue_depth":                 "events wait for milliseconds",
	"directory_lookup_latency":          "buckets are asked for in larger networks",
	"config_applied_version":            "nobody changes the configuration",
	"config_dead_letter_count":          "a change must be refused by every node",
	"control_event_queue_depth":         "changes wait for milliseconds",
	"control_feedback_oscillation":      "needs a minute of rates that are steered",
	"cover_traffic_compliance":          "an epoch must end",
	"db_query_latency_p95":              "an auditor must ask",
	"directory_rebuild_duration":        "a replica must start again; TestReplica does",
	"directory_timeout_events":          "a directory server must be late",
	"fec_encode_latency":                "repairs begin with losses",
	"fec_recovery_ratio":                "repairs begin with losses",
	"key_reload_duration":               "a key must be replaced while a node runs",
	"latency_cross_region":              "an authority tells it after an epoch",
	"mix_failover_duration":             "a path must die",
	"mix_frame_drop_detect_latency":     "a mix must drop",
	"mix_key_rotation_events":           "an onion key must turn",
	"mix_packet_drop":                   "a mix must drop",
	"policy_cache_miss":                 "nodes may have their decisions before the first session",
	"obf_cover_geo_distribution":        "an epoch must end",
	"obf_cover_ratio":                   "classes are at their floors, which are reported apart",
	"obf_missing_auth_tags":             "a defect must be put in",
	"obf_reorder_corrections":           "datagrams must come in batches over several processors",
	"report_generation_duration":        "an auditor must ask for a report",
	"route_update_latency":              "a route must leave a node",
	"stream_compressed_frame_size":      "an application must ask for compression",
	"stream_failover_duplicate_frames":  "a path must die",
	"stream_fragment_reassembly_error":  "a fragment must be lost for good",
	"stream_lane_duplicate_count":       "a packet must be repeated needlessly",
	"stream_heartbeat_distribution":     "sessions at rest send heartbeats",
	"stream_heartbeat_queue_share":      "sessions at rest send heartbeats",
	"stream_log_sampling_gap":           "the log is the program's own under nyx node",
	"stream_priority_conflict":          "two sides must change a lane at once",
	"stream_rekey_latency":              "a session must last ten minutes",
	"stream_sdk_version_mismatch":       "two versions must meet",
	"stream_session_close_lag":          "a session must end",
	"stream_state_lookup_latency":       "session records are shared by fleets of several processes",
	"stream_state_replication_lag":      "session records are shared by fleets of several processes",
	"telemetry_fallback_used_total":     "a region must fall silent",
	"telemetry_sampling_error_rate":     "a window of five minutes must end",
	"transport_multipath_delay_gap":     "paths of one machine are equally long",
	"transport_packet_loss":             "loopback loses nothing",
	"transport_reordering_buffer_usage": "loopback keeps order",
	"transport_retransmission_ratio":    "loopback loses nothing",
	"control_duplicate_event_detected":  "an event must be told twice",
	"compliance_export_latency":         "analytics run where governance is configured; TestGovernance",
	"dashboard_refresh_latency":         "analytics run where governance is configured; TestGovernance",
	"api_handshake_errors_total":        "a session must be refused",
	"log_volume_bytes":                  "nyx up keeps no log files; TestFilesKeepTheirBudget",
}

// outside are series of the catalogue that no process can tell, and why.
var outside = map[string]string{
	"transport_jitter_feedback_latency": "when a path became jittery is known to who made it so: the lab",
	"cover_drift_percent":               "what was asked for is known to the control loop's owner, what was emitted to each machine: the lab compares them",
	"slo_burn_rate":                     "recorded by the rules of deploy/prometheus",
	"cli_telemetry_backlog":             "of a user's commands, not of a network: nyx telemetry show prints it, and each report has it",
	"sli_completeness":                  "recorded by the rules of deploy/prometheus",
}

// live is a network as nyx up runs it, whose metrics tell everything.
func live(t *testing.T) (socks, metrics string) {
	t.Helper()
	f := upFlags{data: t.TempDir(), socks: "127.0.0.1:0", level: "standard", profile: "full", congestion: "bbr", carrier: "websocket", streams: 3, mixes: 6, witnesses: 3, control: 1, regions: 2}
	cfg, err := f.local()
	if err != nil {
		t.Fatal(err)
	}
	var beside *governed
	if err := f.audited(&cfg, &beside, t.Logf); err != nil {
		t.Fatal(err)
	}
	cfg.Traffic = true
	l, err := daemon.StartLocal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	status, err := daemon.ServeStatus("127.0.0.1:0", l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(status.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Client.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return l.Socks(), status.URL() + "metrics"
}

// browse asks a server through the network, again and again until the test ends.
func browse(t *testing.T, socks string) (asked func()) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 20_000)) }))
	t.Cleanup(web.Close)
	proxy := http.ProxyURL(&url.URL{Scheme: "socks5", Host: socks})
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan struct{})
	var browsing sync.WaitGroup
	var answered atomic.Int64
	for range 8 {
		browsing.Go(func() {
			client := &http.Client{Transport: &http.Transport{Proxy: proxy, DisableKeepAlives: true}}
			for ctx.Err() == nil {
				r, _ := http.NewRequestWithContext(ctx, http.MethodGet, web.URL, nil)
				if answer, err := client.Do(r); err == nil {
					io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
					if answered.Add(1) == 100 {
						close(first)
					}
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); browsing.Wait() })
	return func() {
		select {
		case <-first:
		case <-time.After(patience):
			t.Fatal("a hundred requests are not answered")
		}
	}
}

// read is a page of metrics: by name, all its samples as they stand.
func read(t *testing.T, at string) map[string]string {
	t.Helper()
	r, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %s, %v: %s", r.Status, err, b)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name := line[:strings.IndexAny(line, "{ ")]
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if metric.Find(name) == nil {
			name = base
		}
		if metric.Find(name) == nil {
			t.Errorf("%s is told and is not in the table", name)
		}
		all[name] += line
	}
	return all
}

// zero reports whether nothing has moved: there is no sample but those of 0.
func zero(samples string) bool {
	for line := range strings.Lines(samples) {
		if value := strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]); value != "0" {
			return false
		}
	}
	return true
}

// Every series of the catalogue that is Nyx's own is in the table under its seed name,
// and moves in a run with traffic, except for those that say why they cannot. What
// Prometheus makes of them fills every panel, and the objectives' series are complete.
func TestSeriesMoveInALiveNetwork(t *testing.T) {
	catalogue, err := lab.Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	socks, metrics := live(t)
	browse(t, socks)()
	t.Run("panels", func(t *testing.T) { panelsHaveData(t, metrics) })
	after := read(t, metrics)
	missing, constant, moved := 0, 0, 0
	for _, s := range catalogue.Scenarios {
		for _, m := range s.Metric {
			name := lab.SeriesName(m.Name)
			if m.Owner != lab.OwnerNyx || outside[name] != "" {
				continue
			}
			switch {
			case metric.Find(name) == nil:
				missing++
				t.Errorf("%s: %s is in no table", s.ID, name)
			case zero(after[name]): // whatever a process tells begins with nothing, or with 0
				if constant++; still[name] == "" {
					t.Errorf("%s: %s did not move: %q", s.ID, name, after[name])
				}
			default:
				moved++
				if still[name] != "" {
					t.Logf("%s moved, though %s", name, still[name])
				}
			}
		}
	}
	t.Logf("%d series told; of the catalogue's %d moved, %d could not, %d are missing", len(after), moved, constant, missing)
	if moved < 15 {
		t.Errorf("only %d series moved", moved)
	}
	for name := range outside {
		if metric.Find(name) != nil {
			t.Errorf("%s is told, and listed as what nobody can tell", name)
		}
	}
}

// panelsHaveData has Debian's Prometheus read the network, and asks for every panel.
func panelsHaveData(t *testing.T, metrics string) {
	if err := monitor.There(); err != nil {
		t.Skip(err)
	}
	at, err := url.Parse(metrics)
	if err != nil {
		t.Fatal(err)
	}
	p, err := monitor.Prometheus(t.TempDir(), slo.Prometheus([]string{at.Host}, "nyx.rules.yml", "127.0.0.1:1"), slo.Rules(slo.Objectives), "nyx.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	panels, empty := 0, []string{}
	for _, d := range slo.Dashboards {
		for _, panel := range d.Panels {
			if panel.Waits != "" {
				continue
			}
			for _, q := range panel.Queries {
				panels++
				ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
				if _, err := p.Await(ctx, q.Expr, func(v []monitor.Value) bool { return len(v) > 0 }); err != nil {
					empty = append(empty, d.UID+": "+panel.Title+": "+q.Expr)
				}
				cancel()
			}
		}
	}
	t.Logf("%d queries of panels, %d without data", panels, len(empty))
	if len(empty) > 0 {
		t.Errorf("no data for\n%s", strings.Join(empty, "\n"))
	}
	complete, err := p.Query(t.Context(), "sli_present")
	if err != nil || len(complete) != len(slo.Series(slo.Objectives))-1 { // nobody probes here, and nobody misses end_to_end_latency
		t.Fatalf("%v, %v", complete, err)
	}
	for _, v := range complete {
		if v.Value != 1 && !slices.Contains([]string{"obf_cover_windows_total", "obf_cover_windows_complied_total"}, v.Labels["sli"]) {
			t.Errorf("%s is missing", v.Labels["sli"])
		}
	}
	if v, err := p.Query(t.Context(), "nyx_no_such_thing"); err != nil || len(v) != 0 {
		t.Errorf("control: a series that there is not has data: %v, %v", v, err)
	}
}

// nyx slo writes what is in deploy.
func TestSLOWrites(t *testing.T) {
	dir := t.TempDir()
	cmd := root()
	cmd.SetArgs([]string{"slo", "write", "--out", dir})
	cmd.SetOut(io.Discard)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, f := range slo.Files() {
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil || string(b) != string(f.Content) {
			t.Errorf("%s: %v", f.Path, err)
		}
	}
	cmd = root()
	cmd.SetArgs([]string{"slo", "list", "nothing"})
	cmd.SetErr(io.Discard)
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "nyx slo list") {
		t.Errorf("an objective that there is not: %v", err)
	}
}
