package otlp

import (
	"strconv"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/nyxnet/nyx/internal/engine/push"
	"github.com/nyxnet/nyx/internal/metric"
)

// StartMetrics starts to tell the collector at cfg.URL the pages that read fills, for which
// it does not wait. Of cfg it sets what and how is sent.
func StartMetrics(cfg push.Config, instance string, read func() *metric.Page) *push.Pusher {
	begun := time.Now()
	cfg.Name, cfg.Header = "otlp-metrics", header()
	cfg.URL += metricsPath
	cfg.Gather = func(now time.Time) []byte { return page(read(), instance, begun, now) }
	return push.Start(cfg)
}

// page is a page as a body: points since begun, as they are now.
func page(p *metric.Page, instance string, begun, now time.Time) []byte {
	w := writer{uint64(begun.UnixNano()), uint64(now.UnixNano())}
	scope := &metrics.ScopeMetrics{Scope: &common.InstrumentationScope{Name: "github.com/nyxnet/nyx"}}
	for _, f := range p.Families() {
		scope.Metrics = append(scope.Metrics, w.family(f)...)
	}
	return body(&collector.ExportMetricsServiceRequest{ResourceMetrics: []*metrics.ResourceMetrics{
		{Resource: service(instance), ScopeMetrics: []*metrics.ScopeMetrics{scope}}}})
}

// writer has the times of all points of a page, in nanoseconds.
type writer struct{ begun, now uint64 }

func (w writer) family(f *metric.Family) []*metrics.Metric {
	named := func(suffix string) *metrics.Metric {
		return &metrics.Metric{Name: f.Name + suffix, Description: f.Help, Unit: f.Unit}
	}
	switch f.Kind {
	case metric.Histogram:
		m := named("")
		m.Data = &metrics.Metric_Histogram{Histogram: w.histogram(f.Samples)}
		return []*metrics.Metric{m}
	case metric.Summary:
		at, sums, counts := named(""), named("_sum"), named("_count")
		w.summary(f.Samples, at, sums, counts)
		return []*metrics.Metric{at, sums, counts}
	}
	var points []*metrics.NumberDataPoint
	for _, s := range f.Samples {
		points = append(points, w.point(s.Labels, s.Value))
	}
	m := named("")
	if f.Kind == metric.Counter {
		sum(m, points)
	} else {
		m.Data = &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: points}}
	}
	return []*metrics.Metric{m}
}

func (w writer) histogram(samples []metric.Sample) *metrics.Histogram {
	h := &metrics.Histogram{AggregationTemporality: metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE}
	for _, s := range samples {
		d := s.Histogram
		h.DataPoints = append(h.DataPoints, &metrics.HistogramDataPoint{Attributes: attributes(s.Labels), StartTimeUnixNano: w.begun, TimeUnixNano: w.now,
			Count: d.Count, Sum: &d.Sum, ExplicitBounds: d.Bounds, BucketCounts: d.In})
	}
	return h
}

// summary is three series, as those who read pages have them: its quantiles as a gauge.
func (w writer) summary(samples []metric.Sample, at, sums, counts *metrics.Metric) {
	var values, total, number []*metrics.NumberDataPoint
	for _, s := range samples {
		d := s.Histogram
		for i, q := range d.Bounds {
			labels := append(append([]string(nil), s.Labels...), "quantile", strconv.FormatFloat(q, 'g', -1, 64))
			values = append(values, w.point(labels, d.Values[i]))
		}
		total, number = append(total, w.point(s.Labels, d.Sum)), append(number, w.point(s.Labels, float64(d.Count)))
	}
	at.Data = &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: values}}
	sum(sums, total)
	sum(counts, number)
}

func sum(m *metrics.Metric, points []*metrics.NumberDataPoint) {
	m.Data = &metrics.Metric_Sum{Sum: &metrics.Sum{DataPoints: points, IsMonotonic: true, AggregationTemporality: metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE}}
}

func (w writer) point(labels []string, v float64) *metrics.NumberDataPoint {
	return &metrics.NumberDataPoint{Attributes: attributes(labels), StartTimeUnixNano: w.begun, TimeUnixNano: w.now, Value: &metrics.NumberDataPoint_AsDouble{AsDouble: v}}
}

func attributes(labels []string) (all []*common.KeyValue) {
	for i := 0; i < len(labels); i += 2 {
		all = append(all, text(labels[i], labels[i+1]))
	}
	return all
}
