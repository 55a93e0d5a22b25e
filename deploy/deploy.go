// Package deploy has the files by which Nyx is run beside other programs, for what tests
// and measures them.
package deploy

import _ "embed"

// Collector is the configuration of the OpenTelemetry Collector.
//
//go:embed otel/collector.yaml
var Collector []byte

// Tempo is the configuration of Grafana Tempo, which keeps traces.
//
//go:embed tempo/tempo.yaml
var Tempo []byte

// Loki is the configuration of Grafana Loki, which keeps logs.
//
//go:embed loki/loki.yaml
var Loki []byte
