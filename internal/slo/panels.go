package slo

// What panels need.
const (
	needsFault   = "Has data after the first incident."
	needsAuditor = "Has data after an auditor asked."
	needsGoverns = "Has data where governance is configured, and on one machine after somebody looked at the audit log."
	needsRegions = "Has data where nodes are in several regions."
	needsProbes  = "Has data where Stream nodes probe the network."
	needsTraffic = "Has data where metrics.traffic is set, or nyx up runs with --metrics-traffic."
	needsAnswers = "Has data of probes where Stream nodes probe the network, and of a client's own streams where metrics.traffic is set, or nyx up runs with --metrics-traffic."
)

// What panels wait for.
const (
	waitsEpoch = "Has data when authorities have summed up the first epoch of cover: two minutes before the end of a quarter of an hour."
	waitsDay   = "Has data after the first midnight (UTC). Prometheus must keep 30 days: --storage.tsdb.retention.time=35d."
)

// budgetLeft is what the last 30 days have left of the budget: each day spends its burn rate
// times a thirtieth. A day without figures has spent nothing.
const budgetLeft = `1 - sum_over_time(slo_burn_rate{window="1d"}[30d:1d]) / 30`

// Dashboards are those that ship.
var Dashboards = []Dashboard{
	{"nyx-overview", "Nyx: overview", "What is promised, and what is kept.", []Panel{
		{Title: "Budget spent, times the even rate, 5 min", Unit: "short", Queries: []Query{{`slo_burn_rate{window="5m"}`, "{{slo}}"}}},
		{Title: "Budget left of 30 days", Unit: "percentunit", Queries: []Query{{budgetLeft, "{{slo}}"}}, Waits: waitsDay},
		{Title: "Series of the objectives that are there", Unit: "percentunit", Stat: true, Queries: []Query{{`sli_completeness`, "there"}}},
		{Title: "Parts that work", Unit: "percentunit", Queries: []Query{{`avg by (instance) (nyx_up)`, "{{instance}}"}}},
		{Title: "Sessions admitted a second", Unit: "ops", Queries: []Query{{`sum by (part) (rate(telemetry_session_handshake_latency_count[1m]))`, "{{part}}"}}},
		{Title: "Sessions refused a second", Unit: "ops", Queries: []Query{{`sum by (part) (rate(api_handshake_errors_total[1m]))`, "{{part}}, all"}, {`sum by (part) (rate(nyx_admission_shed_total[1m]))`, "{{part}}, for want of room, turn or decision"}}},
		{Title: "Admission, P95", Unit: "s", Queries: []Query{{`histogram_quantile(0.95, sum by (le) (rate(telemetry_session_handshake_latency_bucket[5m])))`, "P95"}}},
		{Title: "Answers to probes, P95 and P99", Unit: "s", Queries: []Query{{`histogram_quantile(0.95, sum by (le) (increase(end_to_end_latency_bucket[1h])))`, "P95"}, {`histogram_quantile(0.99, sum by (le) (increase(end_to_end_latency_bucket[1h])))`, "P99"}}, Needs: needsProbes},
		{Title: "Strain of nodes", Unit: "short", Queries: []Query{{`node_strain`, "{{part}}"}}},
		{Title: "Overloaded nodes", Unit: "short", Queries: []Query{{`sum(node_overloaded)`, "by themselves"}, {`sum(control_nodes_overloaded)`, "by the control plane"}}},
	}},
	{"nyx-network", "Nyx: network", "Links, relays and the directory.", []Panel{
		{Title: "Datagrams a second", Unit: "ops", Queries: []Query{{`sum(rate(nyx_link_in_total[1m]))`, "in"}, {`sum(rate(nyx_link_out_total[1m]))`, "out"}}},
		{Title: "Cells forwarded a second", Unit: "ops", Queries: []Query{{`sum by (part) (rate(nyx_cell_forwarded_total[1m]))`, "{{part}}"}}},
		{Title: "Loss on links", Unit: "percentunit", Queries: []Query{{`transport_packet_loss`, "{{part}}"}}},
		{Title: "Cells dropped at mixes", Unit: "percentunit", Queries: []Query{{`mix_packet_drop`, "{{part}}"}}},
		{Title: "Datagrams dropped a second, by reason", Unit: "ops", Queries: []Query{{`sum(rate(nyx_drop_link_auth_total[1m]))`, "not authentic"}, {`sum(rate(nyx_drop_link_replay_total[1m]))`, "replayed"}, {`sum(rate(nyx_drop_link_unknown_total[1m]))`, "unknown"}, {`sum(rate(nyx_drop_link_queue_total[1m]))`, "no room"}}},
		{Title: "Routes set up a second", Unit: "ops", Queries: []Query{{`sum by (part) (rate(nyx_setup_done_total[1m]))`, "{{part}}"}}},
		{Title: "Round trips between regions", Unit: "s", Queries: []Query{{`max by (from, to) (latency_cross_region)`, "{{from}} to {{to}}"}}, Needs: needsRegions},
		{Title: "Directory: answers", Unit: "percentunit", Queries: []Query{{`directory_query_success_ratio`, "{{part}}"}}},
		{Title: "Onion keys turned", Unit: "short", Queries: []Query{{`sum by (part) (mix_key_rotation_events)`, "{{part}}"}}},
	}},
	{"nyx-cover", "Nyx: cover", "How much is emitted, and whether that is as planned.", []Panel{
		{Title: "Cells emitted a second", Unit: "ops", Queries: []Query{{`sum(rate(nyx_cells_out_total[1m]))`, "all parts"}}},
		{Title: "Cover to content", Unit: "short", Queries: []Query{{`obf_cover_ratio{part="authority"}`, "ratio"}}, Waits: waitsEpoch},
		{Title: "Windows in which cover is as planned", Unit: "percentunit", Queries: []Query{{`cover_traffic_compliance{part="authority"}`, "since the start"}, {`increase(obf_cover_windows_complied_total{part="authority"}[1h]) / increase(obf_cover_windows_total{part="authority"}[1h])`, "of the last hour"}}, Waits: waitsEpoch},
		{Title: "Spread of cover over regions", Unit: "short", Queries: []Query{{`obf_cover_geo_distribution{part="authority"}`, "Gini–Simpson"}}, Waits: waitsEpoch},
		{Title: "Plans that were not followed", Unit: "short", Queries: []Query{{`sum by (reason) (obf_plans_refused_reason_total)`, "{{reason}}"}}},
		{Title: "Slots held back", Unit: "short", Queries: []Query{{`sum(nyx_obf_cover_stopped_total)`, "slots"}}},
	}},
	{"nyx-control", "Nyx: control plane and audit", "Configuration, policy, and the way of events to the compliance store.", []Panel{
		{Title: "Events on the bus", Unit: "short", Queries: []Query{{`sum by (lane) (audit_queue_depth)`, "{{lane}}"}}},
		{Title: "Events recorded a second", Unit: "ops", Queries: []Query{{`sum by (lane) (rate(nyx_audit_recorded_total[1m]))`, "{{lane}}"}}},
		{Title: "From the bus to the store, P95", Unit: "s", Queries: []Query{{`histogram_quantile(0.95, sum by (le) (rate(audit_delay_seconds_bucket[5m])))`, "P95"}}},
		{Title: "Dead letters", Unit: "short", Queries: []Query{{`sum(audit_dead_letters)`, "audit"}, {`sum(config_dead_letter_count)`, "configuration"}}},
		{Title: "Configuration in force", Unit: "short", Queries: []Query{{`config_applied_version`, "{{part}}"}}},
		{Title: "Policy decisions, P95", Unit: "s", Queries: []Query{{`histogram_quantile(0.95, sum by (le) (increase(opa_decision_latency_bucket[1h])))`, "P95"}}},
		{Title: "Commits of the store, P95", Unit: "s", Queries: []Query{{`histogram_quantile(0.95, sum by (le) (increase(etcd_server_commit_duration_bucket[1h])))`, "P95"}}},
		{Title: "Age of telemetry", Unit: "s", Queries: []Query{{`telemetry_pipeline_lag_seconds{quantile="0.95"}`, "P95"}}},
		{Title: "Age of dashboards' updates", Unit: "s", Queries: []Query{{`dashboard_refresh_latency{quantile="0.95"}`, "P95"}}, Needs: needsGoverns},
		{Title: "Queries of auditors, P95", Unit: "s", Queries: []Query{{`db_query_latency_p95`, "database"}}, Needs: needsAuditor},
		{Title: "Incidents captured, P95 since the start", Unit: "s", Queries: []Query{{`histogram_quantile(0.95, sum by (le) (audit_incident_capture_latency_bucket))`, "P95"}}, Needs: needsFault},
		{Title: "Index behind the log", Unit: "short", Queries: []Query{{`audit_index_lag_events`, "entries"}}},
	}},
	{"nyx-sessions", "Nyx: sessions", "What sessions measure of themselves. Only where metrics.traffic is set, or nyx up runs with --metrics-traffic.", []Panel{
		{Title: "Answers, P95 and P99", Unit: "s", Queries: []Query{{`histogram_quantile(0.95, sum by (le) (increase(stream_latency_seconds_bucket[5m])))`, "P95"}, {`histogram_quantile(0.99, sum by (le) (increase(stream_latency_seconds_bucket[5m])))`, "P99"}}, Needs: needsTraffic},
		{Title: "Requests a second", Unit: "ops", Queries: []Query{{`sum(rate(stream_latency_seconds_count[1m]))`, "answered"}}, Needs: needsTraffic},
		{Title: "Repeated packets", Unit: "percentunit", Queries: []Query{{`transport_retransmission_ratio`, "{{part}}"}}, Needs: needsTraffic},
		{Title: "Streams that were answered", Unit: "percentunit", Queries: []Query{{`end_to_end_success_ratio`, "{{part}}"}}, Needs: needsAnswers},
		{Title: "Wait in queues, P95", Unit: "s", Queries: []Query{{`histogram_quantile(0.95, sum by (le, queue) (increase(stream_queue_latency_bucket[5m])))`, "{{queue}}"}}, Needs: needsTraffic},
		{Title: "Paths of which all is measured", Unit: "percentunit", Queries: []Query{{`transport_path_metric_coverage`, "{{part}}"}}, Needs: needsTraffic},
		{Title: "Connections of the proxy", Unit: "short", Queries: []Query{{`nyx_proxy_active`, "open"}}, Needs: needsTraffic},
		{Title: "Processor", Unit: "percent", Queries: []Query{{`cpu_user_pct`, "own code"}}, Needs: needsTraffic},
		{Title: "Pauses of the collector", Unit: "s", Queries: []Query{{`stream_gc_pause_duration`, "{{quantile}}"}}, Needs: needsTraffic},
	}},
}
