// Package meter serves the metrics of a process by OpenTelemetry: to Prometheus, which
// reads them, and to a collector, to which they are pushed by OTLP. Both read one page
// (package metric) at the moment at which somebody wants it; between two readings nothing
// is counted, kept or locked here.
package meter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/nyxnet/nyx/internal/metric"
)

const (
	// pushEvery is how often metrics are pushed: an objective of a minute sees four.
	pushEvery = 15 * time.Second
	// closeMost bounds the last push when a process ends.
	closeMost = time.Second
)

// metricsPath is where a collector takes metrics.
const metricsPath = "/v1/metrics"

// Meter answers Prometheus, and pushes.
type Meter struct {
	http.Handler
	provider *sdk.MeterProvider
}

// Start returns a Meter on who fills pages. push is the URL of a collector's OTLP
// receiver over HTTP, or "".
func Start(read func() *metric.Page, push string) (*Meter, error) {
	from := &producer{read: read, begun: time.Now()}
	registry := prometheus.NewRegistry()
	pulled, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithProducer(from), otelprom.WithTranslationStrategy(otlptranslator.NoTranslation),
		otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics for Prometheus: %w", err)
	}
	options := []sdk.Option{sdk.WithReader(pulled)}
	if push != "" {
		to, err := otlpmetrichttp.New(context.Background(), otlpmetrichttp.WithEndpointURL(push+metricsPath))
		if err != nil {
			return nil, fmt.Errorf("metrics for %s: %w; telemetry.otlp is a URL like http://127.0.0.1:4318", push, err)
		}
		options = append(options, sdk.WithReader(sdk.NewPeriodicReader(to, sdk.WithInterval(pushEvery), sdk.WithProducer(from))))
	}
	return &Meter{Handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), provider: sdk.NewMeterProvider(options...)}, nil
}

// Close pushes once more, and ends.
func (m *Meter) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeMost)
	defer cancel()
	if err := m.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the last metrics were not pushed: %w", err)
	}
	return nil
}
