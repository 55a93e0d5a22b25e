package daemon

import "io"

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

// writeArrivals says how much arrives: of probes always, and of a client's own streams
// where metrics may tell content from cover.
func writeArrivals(w io.Writer, parts []part, traffic bool) {
	arrived := family(w, "end_to_end_success_ratio", "gauge", "Share of the streams opened to another end from which it answered.")
	for i := range parts {
		if c := &parts[i].content; traffic && c.asked > 0 {
			arrived("{part=%q} %g", parts[i].Name, float64(c.answered)/float64(c.asked))
		}
		if p := parts[i].probes; p != nil && p.asked > 0 {
			arrived("{part=%q} %g", probesPart(parts[i].Name), float64(p.answered)/float64(p.asked))
		}
	}
	made := family(w, "nyx_probes_total", "counter", "Probes that Stream nodes made of the network.")
	p95 := family(w, "end_to_end_latency_p95", "gauge", "Seconds from a probe's question over its session until the answer, P95 since the start.")
	took := family(w, "end_to_end_latency", "histogram", "The same, of all.")
	each := func(write func(p *probeFigures, part string)) {
		for i := range parts {
			if p := parts[i].probes; p != nil {
				write(p, probesPart(parts[i].Name))
			}
		}
	}
	each(func(p *probeFigures, part string) { made("{part=%q} %d", part, p.asked) })
	each(func(p *probeFigures, part string) {
		if p.latency.Count > 0 {
			p95("{part=%q} %g", part, seconds(p.latency.Quantile(0.95)))
		}
	})
	each(func(p *probeFigures, part string) { times(took, part, "", &p.latency) })
}
