package main

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/governance"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/trace"
)

// WriteMetrics implements daemon.Service, by the names of the specification where it
// has some.
func (g *governed) WriteMetrics(to *metric.Page, part string) {
	m := figures{to, part}
	f := g.index.Figures()
	m.one("audit_index_lag_events", float64(f.Behind))
	m.one("audit_index_lag_seconds", f.Lag.Seconds())
	m.one("nyx_audit_index_faults_total", float64(f.Faults))
	m.one("nyx_audit_index_rebuilt_total", float64(f.Rebuilt))
	if f.Replay > 0 {
		m.one("audit_replay_throughput", f.Replay)
	}
	m.times("db_query_latency", &f.Asked)
	if f.Asked.Count > 0 {
		m.one("db_query_latency_p95", seconds(f.Asked.Quantile(0.95)))
	}
	m.times("audit_query_latency", &f.Waited)
	if g.copies != nil {
		g.copies.write(m)
	}
	if g.retention != nil {
		writeRetention(m, g.retention.Figures())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.exports != nil {
		m.exports(g.exports.Stats())
	}
	if g.analyses != nil {
		g.analyses.WriteMetrics(to, part)
	}
	if g.rego != nil {
		latency, failed := g.rego.Figures()
		m.times("governance_decision_latency", &latency)
		m.one("nyx_governance_decision_failures_total", float64(failed))
	}
}

// figures writes metrics of a part.
type figures struct {
	to   *metric.Page
	part string
}

func (m figures) one(name string, v float64) { m.to.Add(name, v, "part", m.part) }

func seconds(micros uint64) float64 { return (time.Duration(micros) * time.Microsecond).Seconds() }

// times writes a summary of values in µs.
func (m figures) times(name string, v *trace.Values) {
	m.summary(name, func(q float64) float64 { return seconds(v.Quantile(q)) }, seconds(v.Sum), v.Count)
}

func (m figures) summary(name string, quantile func(float64) float64, sum float64, count uint64) {
	if count > 0 {
		m.to.Distribute(name, metric.Summed([]float64{0.5, 0.95, 1}, quantile, sum, count), "part", m.part)
	}
}

func (m figures) exports(s governance.ExportStats) {
	slices.Sort(s.Durations)
	var sum time.Duration
	for _, d := range s.Durations {
		sum += d
	}
	m.summary("audit_export_duration", func(q float64) float64 {
		return s.Durations[int(q*float64(len(s.Durations)-1))].Seconds()
	}, sum.Seconds(), uint64(len(s.Durations)))
	m.one("nyx_audit_export_faults_total", float64(s.Faults))
	m.one("nyx_audit_exports_failed_total", float64(s.Failed))
	if settled := s.Done + s.Failed; settled > 0 {
		m.one("analytics_partial_export_rate", float64(s.Failed)/float64(settled))
	}
}
