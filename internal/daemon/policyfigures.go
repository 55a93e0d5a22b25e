package daemon

import (
	"io"

	"github.com/nyxnet/nyx/internal/trace"
)

// write writes what a control process has decided.
func (d *policyDesk) write(w io.Writer, part string) {
	d.mu.Lock()
	latency, counts := d.latency, d.counts
	d.mu.Unlock()
	times(family(w, "opa_decision_latency", "histogram", "Seconds in which the policy decided."), part, "", &latency)
	count := func(name, help string, n uint64) { family(w, name, "counter", help)("{part=%q} %d", part, n) }
	count("opa_decisions_failed_total", "Questions that the policy did not decide.", counts.failed)
	count("policy_bundles_taken_total", "Policy bundles that were taken.", counts.taken)
	count("policy_bundles_refused_total", "Policy bundles that were not taken, and tries to have one that failed.", counts.refused)
}

// writeAdmission writes what entries and clients have seen of admission, by the names of
// the specification.
func writeAdmission(w io.Writer, parts []part) {
	missed := family(w, "policy_cache_miss", "counter", "Decisions that an entry asked for, because none was there or it was due.")
	for i := range parts {
		if parts[i].settled != nil {
			missed("{part=%q} %d", parts[i].Name, parts[i].counts[trace.PolicyCacheMiss])
		}
	}
	refused := family(w, "api_handshake_errors_total", "counter", "SESSION_INITs that an entry refused, challenges apart.")
	for i := range parts {
		if parts[i].sessions != nil && !parts[i].own {
			refused("{part=%q} %d", parts[i].Name, parts[i].counts[trace.HandshakeErrors])
		}
	}
	limit := family(w, "admission_per_minute", "gauge", "Sessions that one client may open at an entry in a minute, by the node's limits.")
	for i := range parts {
		if n := parts[i].perMinute; n > 0 {
			limit("{part=%q} %d", parts[i].Name, n)
		}
	}
	h := family(w, "telemetry_session_handshake_latency", "histogram", "Seconds from a SESSION_INIT until the session was admitted: at an entry since it came, at a client since it was first sent.")
	for i := range parts {
		times(h, parts[i].Name, "", &parts[i].admitted)
	}
}
