package daemon

import (
	"bytes"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/pack"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// served is what a Status writes.
func served(s source) string {
	w := httptest.NewRecorder()
	writeMetrics(w, s)
	return w.Body.String()
}

// contentNames are the families that tell of content.
var contentNames = []string{
	"transport_retransmission_ratio", "stream_heartbeat_queue_share", "stream_latency_p95", "stream_latency_seconds",
	"stream_queue_latency", "mix_frame_drop_detect_latency", "fec_encode_latency", "stream_metadata_size",
	"mix_route_plan_latency", "route_update_latency", "stream_compressed_frame_size", "stream_session_close_lag", "cpu_user_pct",
}

// What a client and an exit measure of their sessions is served where metrics may
// tell of content, and nowhere else.
func TestMetricsOfContent(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	c := dial(t, l, "", echoServer(t))
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	got := make([]byte, 10_000)
	if _, err := c.Write(got); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	s := l.source()
	if out := served(s); strings.Contains(out, "stream_latency") || strings.Contains(out, "stream_metadata") {
		t.Errorf("metrics that do not tell of content do:\n%s", out)
	}
	s.traffic, s.usage = true, newUsage()
	out := served(s)
	for _, want := range []string{
		`transport_retransmission_ratio{part="client"}`, `stream_heartbeat_queue_share{part="client"}`, `stream_latency_p95{part="client",lane="normal"}`,
		`stream_latency_seconds_count{part="client",lane="normal"}`, `stream_queue_latency_bucket{part="client",queue="out",le="+Inf"}`,
		`stream_queue_latency_sum{part="client",queue="in"}`, `stream_metadata_size_bucket{part="client",le="15"}`, `stream_metadata_size_count{part="stream-`, "cpu_user_pct ",
		"stream_heartbeat_distribution ",
	} {
		if !strings.Contains(out, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(out, `stream_latency_p95{part="stream-`) || strings.Contains(out, `stream_metadata_size_count{part="mix-`) {
		t.Error("who opens no streams measured their latency, or a mix its sessions")
	}
}

// Every family stands in the text with its header, and two parts that differ in
// what they measured are served alike where metrics do not tell of content.
func TestFamiliesOfContent(t *testing.T) {
	var codec pack.Codec
	codec.AppendChunk(nil, bytes.Repeat([]byte("a"), 100))
	var p part
	p.Name, p.content.chunks = "node", codec.Sizes()
	for d := range trace.NumDistributions {
		p.content.measured.Observe(d, 1000)
	}
	p.counts[trace.SessionPacketOut], p.counts[trace.ContentOut] = 2, 1
	parts := func() []part { return []part{p} }
	out := served(source{traffic: true, usage: newUsage(), parts: parts})
	for _, name := range contentNames {
		if strings.Count(out, "# TYPE "+name+" ") != 1 {
			t.Errorf("%s has no header, or two", name)
		}
	}
	for _, want := range []string{
		`stream_latency_p95{part="node",lane="low"} 0.001023`, `stream_latency_seconds_bucket{part="node",lane="high",le="0.001024"} 1`,
		`stream_queue_latency_bucket{part="node",queue="in",le="0.000512"} 0`, `fec_encode_latency_sum{part="node"} 0.001`, `stream_session_close_lag_sum{part="node"} 0.001`,
		`stream_metadata_size_bucket{part="node",le="1023"} 1`, `stream_compressed_frame_size_sum{part="node"} 102`, `transport_retransmission_ratio{part="node"} 0`,
	} {
		if !strings.Contains(out, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	quiet := served(source{usage: newUsage(), parts: parts})
	for _, name := range contentNames {
		if strings.Contains(quiet, name) {
			t.Errorf("%s is told", name)
		}
	}
	p.content, p.counts = content{}, trace.Counts{}
	if served(source{usage: newUsage(), parts: parts}) != quiet {
		t.Error("parts that measured other things are served otherwise")
	}
}
