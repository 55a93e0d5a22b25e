package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/governance"
	"github.com/nyxnet/nyx/internal/trace"
)

// WriteMetrics implements daemon.Service, by the names of the specification where it
// has some.
func (g *governed) WriteMetrics(w io.Writer, part string) {
	m := figures{w, part}
	f := g.index.Figures()
	m.one("audit_index_lag_events", "gauge", "Entries of the audit log that are not in its index.", float64(f.Behind))
	m.one("audit_index_lag_seconds", "gauge", "For how long the index has not been where the log is; 0: it is.", f.Lag.Seconds())
	m.one("nyx_audit_index_faults_total", "counter", "Tries to bring the index on that failed; they are made again.", float64(f.Faults))
	m.one("nyx_audit_index_rebuilt_total", "counter", "Times that the index was built anew because it was not what the log holds.", float64(f.Rebuilt))
	if f.Replay > 0 {
		m.one("audit_replay_throughput", "gauge", "Entries a second of the last projection of a thousand and more into the index.", f.Replay)
	}
	m.times("db_query_latency", "Seconds that queries of the audit log took in the index's database.", &f.Asked)
	if f.Asked.Count > 0 {
		m.one("db_query_latency_p95", "gauge", "The same, P95 since the start.", seconds(f.Asked.Quantile(0.95)))
	}
	m.times("audit_query_latency", "Seconds that they took in all, with waiting until the index has what the log has.", &f.Waited)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.exports != nil {
		m.exports(g.exports.Stats())
	}
	if g.analyses != nil {
		g.analyses.WriteMetrics(w, part)
	}
	if g.rego != nil {
		latency, failed := g.rego.Figures()
		m.times("governance_decision_latency", "Seconds that decisions of the policy of governance took.", &latency)
		m.one("nyx_governance_decision_failures_total", "counter", "Decisions that the policy did not give: nothing was allowed.", float64(failed))
	}
}

// figures writes metrics of a part.
type figures struct {
	io.Writer
	part string
}

func (m figures) one(name, kind, help string, v float64) {
	fmt.Fprintf(m, "# HELP %s %s\n# TYPE %s %s\n%s{part=%q} %g\n", name, help, name, kind, name, m.part, v)
}

func seconds(micros uint64) float64 { return (time.Duration(micros) * time.Microsecond).Seconds() }

// times writes a summary of values in µs.
func (m figures) times(name, help string, v *trace.Values) {
	m.summary(name, help, func(q float64) float64 { return seconds(v.Quantile(q)) }, seconds(v.Sum), v.Count)
}

func (m figures) summary(name, help string, quantile func(float64) float64, sum float64, count uint64) {
	fmt.Fprintf(m, "# HELP %s %s\n# TYPE %s summary\n", name, help, name)
	for _, q := range []float64{0.5, 0.95, 1} {
		if count > 0 {
			fmt.Fprintf(m, "%s{part=%q,quantile=\"%g\"} %g\n", name, m.part, q, quantile(q))
		}
	}
	fmt.Fprintf(m, "%s_sum{part=%q} %g\n%s_count{part=%q} %d\n", name, m.part, sum, name, m.part, count)
}

func (m figures) exports(s governance.ExportStats) {
	slices.Sort(s.Durations)
	var sum time.Duration
	for _, d := range s.Durations {
		sum += d
	}
	m.summary("audit_export_duration", "Seconds from when a copy of the audit log was asked for until it was signed, of the last thousand.", func(q float64) float64 {
		return s.Durations[int(q*float64(len(s.Durations)-1))].Seconds()
	}, sum.Seconds(), uint64(len(s.Durations)))
	m.one("nyx_audit_export_faults_total", "counter", "Tries at a copy that failed; it goes on after its last part.", float64(s.Faults))
	m.one("nyx_audit_exports_failed_total", "counter", "Copies that were given up with a part of their rows, until they are asked to go on.", float64(s.Failed))
	if settled := s.Done + s.Failed; settled > 0 {
		m.one("analytics_partial_export_rate", "gauge", "Share of the copies that ended with a part of their rows.", float64(s.Failed)/float64(settled))
	}
}
