package push

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/nyxnet/nyx/internal/metric"
)

// What Prometheus' remote write has, version 1 (prometheus.io/docs/specs/prw): a WriteRequest
// of time series, each with labels in order of their names and a sample. Numbers are those of
// the fields.
const (
	writeSeries = 1 // of a request

	seriesLabels  = 1
	seriesSamples = 2

	labelName  = 1
	labelValue = 2

	sampleValue = 1
	sampleTime  = 2 // milliseconds
)

// StartRemoteWrite starts to tell the server at cfg.URL the pages that read fills, for which it
// does not wait. Of cfg it sets what and how is sent.
func StartRemoteWrite(cfg Config, instance string, read func() *metric.Page) *Pusher {
	cfg.Name = "remote-write"
	cfg.Header = http.Header{
		"Content-Type": {"application/x-protobuf"}, "Content-Encoding": {"snappy"},
		"X-Prometheus-Remote-Write-Version": {"0.1.0"}, "User-Agent": {"nyx"},
	}
	cfg.Gather = func(now time.Time) []byte { return remoteWrite(read(), instance, now) }
	return Start(cfg)
}

// remoteWrite is a page as a body of remote write: the samples that a reader of the page's
// text would have, under the labels job and instance, which a reader adds.
func remoteWrite(page *metric.Page, instance string, at time.Time) []byte {
	var out []byte
	page.Each(func(name string, labels []string, value float64) {
		all := []label{{"__name__", name}, {"instance", instance}, {"job", "nyx"}}
		for i := 0; i < len(labels); i += 2 {
			all = append(all, label{labels[i], labels[i+1]})
		}
		slices.SortFunc(all, func(a, b label) int { return cmp.Compare(a.name, b.name) })
		var series []byte
		for _, l := range all {
			series = field(series, seriesLabels, field(field(nil, labelName, []byte(l.name)), labelValue, []byte(l.value)))
		}
		sample := protowire.AppendTag(nil, sampleValue, protowire.Fixed64Type)
		sample = protowire.AppendFixed64(sample, math.Float64bits(value))
		sample = protowire.AppendTag(sample, sampleTime, protowire.VarintType)
		sample = protowire.AppendVarint(sample, uint64(at.UnixMilli()))
		out = field(out, writeSeries, field(series, seriesSamples, sample))
	})
	return snappy.Encode(nil, out)
}

type label struct{ name, value string }

func field(b []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), value)
}
