// Package deploy has the files by which Nyx is run beside other programs, for what tests
// and measures them.
package deploy

import _ "embed"

// Collector is the configuration of the OpenTelemetry Collector.
//
//go:embed otel/collector.yaml
var Collector []byte
