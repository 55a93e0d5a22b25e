package meter

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/nyxnet/nyx/internal/metric"
)

// producer turns pages into what the SDK's readers export.
type producer struct {
	read  func() *metric.Page
	begun time.Time
}

// Produce implements the SDK's Producer.
func (p *producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	out := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: "github.com/nyxnet/nyx"}}
	now := time.Now()
	for _, f := range p.read().Families() {
		out.Metrics = append(out.Metrics, p.family(f, now)...)
	}
	return []metricdata.ScopeMetrics{out}, nil
}

func (p *producer) family(f *metric.Family, now time.Time) []metricdata.Metrics {
	named := func(suffix string, data metricdata.Aggregation) metricdata.Metrics {
		return metricdata.Metrics{Name: f.Name + suffix, Description: f.Help, Unit: f.Unit, Data: data}
	}
	switch f.Kind {
	case metric.Histogram:
		h := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
		for _, s := range f.Samples {
			d := s.Histogram
			h.DataPoints = append(h.DataPoints, metricdata.HistogramDataPoint[float64]{
				Attributes: attributes(s.Labels), StartTime: p.begun, Time: now,
				Count: d.Count, Bounds: d.Bounds, BucketCounts: d.In, Sum: d.Sum})
		}
		return []metricdata.Metrics{named("", h)}
	case metric.Summary:
		return p.summary(f, now, named)
	}
	points := make([]metricdata.DataPoint[float64], len(f.Samples))
	for i, s := range f.Samples {
		points[i] = p.point(s.Labels, s.Value, now)
	}
	if f.Kind == metric.Counter {
		return []metricdata.Metrics{named("", sum(points))}
	}
	return []metricdata.Metrics{named("", metricdata.Gauge[float64]{DataPoints: points})}
}

// summary is three series, as Prometheus has them: the exporter for it knows no
// summaries of OpenTelemetry.
func (p *producer) summary(f *metric.Family, now time.Time, named func(string, metricdata.Aggregation) metricdata.Metrics) []metricdata.Metrics {
	var at, sums, counts []metricdata.DataPoint[float64]
	for _, s := range f.Samples {
		d := s.Histogram
		for i, q := range d.Bounds {
			labels := append(append([]string(nil), s.Labels...), "quantile", strconv.FormatFloat(q, 'g', -1, 64))
			at = append(at, p.point(labels, d.Values[i], now))
		}
		sums, counts = append(sums, p.point(s.Labels, d.Sum, now)), append(counts, p.point(s.Labels, float64(d.Count), now))
	}
	return []metricdata.Metrics{named("", metricdata.Gauge[float64]{DataPoints: at}), named("_sum", sum(sums)), named("_count", sum(counts))}
}

func sum(points []metricdata.DataPoint[float64]) metricdata.Sum[float64] {
	return metricdata.Sum[float64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
}

func (p *producer) point(labels []string, v float64, now time.Time) metricdata.DataPoint[float64] {
	return metricdata.DataPoint[float64]{Attributes: attributes(labels), StartTime: p.begun, Time: now, Value: v}
}

func attributes(labels []string) attribute.Set {
	var all []attribute.KeyValue
	for i := 0; i < len(labels); i += 2 {
		all = append(all, attribute.String(labels[i], labels[i+1]))
	}
	return attribute.NewSet(all...)
}
