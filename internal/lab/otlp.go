package lab

import (
	"encoding/binary"
	"fmt"
	"math"
)

// What of OTLP a generator of load and its end need: gauges, in the Protobuf encoding of
// opentelemetry/proto/metrics/v1, and how many spans or lines a request has. Numbers are
// those of its fields.
const (
	otlpResources  = 1 // of a request
	otlpScopes     = 2 // of a resource
	otlpMetrics    = 2 // of a scope; of another kind of request spans, or lines
	otlpName       = 1 // of a metric
	otlpGauge      = 5
	otlpPoints     = 1 // of a gauge
	otlpTime       = 3 // of a point
	otlpDouble     = 4
	otlpAttributes = 7
)

const protoFixed64, protoBytes = 1, 2

func protoField(b []byte, field int, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(field<<3|protoBytes))
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

func protoNumber(b []byte, field int, value uint64) []byte {
	b = binary.AppendUvarint(b, uint64(field<<3|protoFixed64))
	return binary.LittleEndian.AppendUint64(b, value)
}

// otlpRequest is one of gauges with so many points each, as a process with so many parts
// has them.
func otlpRequest(gauges, points int, nanos int64) []byte {
	var scope []byte
	for g := range gauges {
		var gauge []byte
		for p := range points {
			attribute := protoField(nil, 1, []byte("part"))
			attribute = protoField(attribute, 2, protoField(nil, 1, fmt.Appendf(nil, "mix-%d", p)))
			point := protoNumber(nil, otlpTime, uint64(nanos))
			point = protoNumber(point, otlpDouble, math.Float64bits(float64(g*p)))
			gauge = protoField(gauge, otlpPoints, protoField(point, otlpAttributes, attribute))
		}
		metric := protoField(nil, otlpName, fmt.Appendf(nil, "nyx_series_%d_total", g))
		scope = protoField(scope, otlpMetrics, protoField(metric, otlpGauge, gauge))
	}
	return protoField(nil, otlpResources, protoField(nil, otlpScopes, scope))
}

// otlpCount counts the points of a request.
func otlpCount(b []byte) (n uint64, err error) {
	return protoCount(b, []uint64{otlpResources, otlpScopes, otlpMetrics, otlpGauge, otlpPoints})
}

// otlpItems counts the spans, or the lines, of a request.
func otlpItems(b []byte) (n uint64, err error) {
	return protoCount(b, []uint64{otlpResources, otlpScopes, otlpMetrics})
}

// protoCount counts the fields at the end of a path of fields.
func protoCount(b []byte, path []uint64) (n uint64, err error) {
	for len(b) > 0 {
		tag, size := binary.Uvarint(b)
		if size <= 0 {
			return n, errProto
		}
		b = b[size:]
		length, width := uint64(8), 0
		switch tag & 7 {
		case 0:
			if _, width = binary.Uvarint(b); width <= 0 {
				return n, errProto
			}
			length = 0
		case protoBytes:
			if length, width = binary.Uvarint(b); width <= 0 {
				return n, errProto
			}
		case 5:
			length = 4
		case protoFixed64:
		default:
			return n, errProto
		}
		if b = b[width:]; length > uint64(len(b)) {
			return n, errProto
		}
		if tag>>3 == path[0] && tag&7 == protoBytes {
			below := uint64(1)
			if len(path) > 1 {
				if below, err = protoCount(b[:length], path[1:]); err != nil {
					return n, err
				}
			}
			n += below
		}
		b = b[length:]
	}
	return n, nil
}

var errProto = fmt.Errorf("not Protobuf")
