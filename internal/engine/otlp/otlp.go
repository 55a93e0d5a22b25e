// Package otlp tells a collector by the OpenTelemetry protocol over HTTP: spans, and pages of
// metrics.
//
// Spans come with their ids and times, which machines and probes choose, and pages are filled
// by who has the figures: so both are written as the protocol has them, and OpenTelemetry's
// SDK, which makes ids, keeps counts and reads clocks by itself, is left out. Package push
// sends, and keeps what is not taken.
package otlp

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"
)

// Paths at which a collector takes what, below its URL.
const (
	tracesPath  = "/v1/traces"
	metricsPath = "/v1/metrics"
)

// Each process is a service of this name, told apart by its instance.
const serviceName = "nyx"

func header() http.Header {
	return http.Header{"Content-Type": {"application/x-protobuf"}, "Content-Encoding": {"gzip"}, "User-Agent": {serviceName}}
}

// body is a message as it is sent.
func body(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("otlp: a message of its own does not encode: %v", err))
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b) // a buffer takes everything
	w.Close()
	return out.Bytes()
}

func service(instance string) *resource.Resource {
	return &resource.Resource{Attributes: []*common.KeyValue{text("service.name", serviceName), text("service.instance.id", instance)}}
}

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}
