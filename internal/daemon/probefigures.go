package daemon

import "github.com/nyxnet/nyx/internal/metric"

// known is what a prober has found so far; nil: there is none.
func (p *prober) known() *probeFigures {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.figures
	return &f
}

// probesPart is what the probes of a part are called, beside it.
func probesPart(name string) string { return name + "/probes" }

// writeProbes says how much of what probes asked for arrived, and when.
func writeProbes(to *metric.Page, parts []part) {
	for i := range parts {
		p := parts[i].probes
		if p == nil {
			continue
		}
		name := probesPart(parts[i].Name)
		if p.asked > 0 {
			to.Add("end_to_end_success_ratio", float64(p.answered)/float64(p.asked), "part", name)
		}
		to.Add("nyx_probes_total", float64(p.asked), "part", name)
		if p.latency.Count > 0 {
			to.Add("end_to_end_latency_p95", seconds(p.latency.Quantile(0.95)), "part", name)
		}
		to.Distribute("end_to_end_latency", metric.Times(&p.latency), "part", name)
	}
}
