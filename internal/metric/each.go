package metric

// Each calls f with every sample of a page as Prometheus has it: a histogram is its buckets,
// of which each counts those below too, its sum and count; a summary its quantiles, sum and
// count. Names of labels are not in order.
func (p *Page) Each(f func(name string, labels []string, value float64)) {
	for _, family := range p.Families() {
		for _, s := range family.Samples {
			family.each(s, f)
		}
	}
}

func (f *Family) each(s Sample, one func(name string, labels []string, value float64)) {
	with := func(name, value string) []string {
		return append(append([]string(nil), s.Labels...), name, value)
	}
	d := s.Histogram
	if d == nil {
		one(f.Name, s.Labels, s.Value)
		return
	}
	for i, v := range d.Values {
		one(f.Name, with("quantile", number(d.Bounds[i])), v)
	}
	if f.Kind == Histogram {
		n := uint64(0)
		for i, bound := range d.Bounds {
			n += d.In[i]
			one(f.Name+"_bucket", with("le", number(bound)), float64(n))
		}
		one(f.Name+"_bucket", with("le", "+Inf"), float64(d.Count))
	}
	one(f.Name+"_sum", s.Labels, d.Sum)
	one(f.Name+"_count", s.Labels, float64(d.Count))
}
