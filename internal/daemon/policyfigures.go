package daemon

import "github.com/nyxnet/nyx/internal/metric"

// write writes what a control process has decided.
func (d *policyDesk) write(to *metric.Page, part string) {
	d.mu.Lock()
	latency, counts := d.latency, d.counts
	d.mu.Unlock()
	to.Distribute("opa_decision_latency", metric.Times(&latency), "part", part)
	to.Add("opa_decisions_failed_total", float64(counts.failed), "part", part)
	to.Add("policy_bundles_taken_total", float64(counts.taken), "part", part)
	to.Add("policy_bundles_refused_total", float64(counts.refused), "part", part)
}

// writeAdmission writes what entries and clients have seen of admission, by the names of
// the specification.
func writeAdmission(to *metric.Page, parts []part) {
	for i := range parts {
		if n := parts[i].perMinute; n > 0 {
			to.Add("admission_per_minute", float64(n), "part", parts[i].Name)
		} else if !parts[i].own {
			continue // it admits nobody and asks nobody
		}
		to.Distribute("telemetry_session_handshake_latency", metric.Times(&parts[i].admitted), "part", parts[i].Name)
	}
}
