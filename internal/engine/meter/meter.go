// Package meter serves the metrics of a process to Prometheus, which reads them, by
// OpenTelemetry. A page (package metric) is read at the moment at which somebody wants it;
// between two readings nothing is counted, kept or locked here.
package meter

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/nyxnet/nyx/internal/metric"
)

// Meter answers Prometheus.
type Meter struct {
	http.Handler
	provider *sdk.MeterProvider
}

// Start returns a Meter on who fills pages.
func Start(read func() *metric.Page) (*Meter, error) {
	registry := prometheus.NewRegistry()
	pulled, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithProducer(&producer{read: read, begun: time.Now()}), otelprom.WithTranslationStrategy(otlptranslator.NoTranslation),
		otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics for Prometheus: %w", err)
	}
	return &Meter{Handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), provider: sdk.NewMeterProvider(sdk.WithReader(pulled))}, nil
}

// Close ends it.
func (m *Meter) Close() error { return m.provider.Shutdown(context.Background()) }
