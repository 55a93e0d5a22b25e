package metric

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/trace"
)

// Every series has a name that Prometheus takes, a kind, a unit, a description that is a
// sentence, and stands in the table once; and rules and counters agree.
func TestTableIsWhole(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	seen := map[string]bool{}
	for _, m := range Table {
		if !name.MatchString(m.Name) || seen[m.Name] {
			t.Errorf("%s is no name, or stands twice", m.Name)
		}
		seen[m.Name] = true
		if m.Unit == "" || !strings.HasSuffix(m.Help, ".") || strings.ContainsAny(m.Help, "\n\\") || len(m.Help) < 12 {
			t.Errorf("%s: unit %q, description %q", m.Name, m.Unit, m.Help)
		}
		if strings.HasSuffix(m.Name, "_total") && m.Kind != Counter {
			t.Errorf("%s is a %v", m.Name, m.Kind)
		}
	}
	for c := trace.Counter(0); c < trace.NumCounters; c++ {
		m := Find(OfCounter(c))
		if m == nil || c.TellsContent() != (m.Rule == Content) {
			t.Errorf("%v is not in the table, or under another rule than the counter's", c)
		}
	}
}

func text(p *Page) string { return p.String() }

// A page holds what is in the table, in one shape, and what tells content only if that is
// wanted.
func TestPage(t *testing.T) {
	var v trace.Values
	for _, us := range []uint64{100, 300_000, 400_000, 1 << 40} {
		v.Observe(us)
	}
	fill := func(p *Page) {
		p.Add("nyx_up", 1, "part", `a"b`)
		p.Add("cpu_user_pct", 12.5)
		p.Distribute("stream_latency_seconds", Times(&v), "part", "a")
		p.Distribute("stream_metadata_size", Sizes(new(trace.Values)), "part", "a")
		p.Distribute("telemetry_pipeline_lag_seconds", Summed([]float64{0.5, 1}, func(q float64) float64 { return 2 * q }, 7, 3))
		p.Add("nyx_no_such_thing", 1)
		p.Add("stream_latency_seconds", 1) // is a histogram
	}
	all := &Page{Traffic: true}
	fill(all)
	out := text(all)
	for _, want := range []string{
		"# HELP nyx_up Whether a part works fully.\n# TYPE nyx_up gauge\nnyx_up{part=\"a\\\"b\"} 1\n", "\ncpu_user_pct 12.5\n", "# TYPE stream_latency_seconds histogram\n",
		`stream_latency_seconds_bucket{part="a",le="0.000128"} 1`, `stream_latency_seconds_bucket{part="a",le="0.32768"} 2`, `stream_latency_seconds_bucket{part="a",le="0.458752"} 3`,
		`stream_latency_seconds_bucket{part="a",le="67.108864"} 3`, `stream_latency_seconds_bucket{part="a",le="+Inf"} 4`, `stream_latency_seconds_count{part="a"} 4`,
		`telemetry_pipeline_lag_seconds{quantile="0.5"} 1`, "telemetry_pipeline_lag_seconds_sum 7", "telemetry_pipeline_lag_seconds_count 3",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Join(all.Strange, " ") != "nyx_no_such_thing stream_latency_seconds" || strings.Contains(out, "stream_metadata_size") {
		t.Errorf("strange: %v", all.Strange)
	}
	quiet := &Page{}
	fill(quiet)
	if out := text(quiet); strings.Contains(out, "stream_latency") || strings.Contains(out, "cpu_user") || !strings.Contains(out, "nyx_up") {
		t.Errorf("content is told:\n%s", out)
	}
}

// One session more or less does not show in what everybody may read: neither at once nor
// later, as long as it does not fill a step. Series of machines show at once.
func TestBlurHidesOneUser(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	page := func(sessions uint64, datagrams float64) *Page {
		var v trace.Values
		for range sessions {
			v.Observe(1000)
		}
		p := &Page{}
		p.Add(OfCounter(trace.PQHandshakes), float64(sessions))
		p.Add(OfCounter(trace.LinkIn), datagrams)
		p.Distribute("telemetry_session_handshake_latency", Times(&v))
		return p
	}
	told := func(b *Blur, after time.Duration, sessions uint64) string {
		p := page(sessions, 5)
		b.Over(p, at.Add(after))
		return text(p)
	}
	var with, without Blur
	for s := range 40 {
		n := uint64(16)
		if s >= 7 {
			n++ // somebody came
		}
		if a, b := told(&with, time.Duration(s)*time.Second, n), told(&without, time.Duration(s)*time.Second, 16); a != b {
			t.Fatalf("second %d: one session shows:\n%s\n%s", s, a, b)
		}
	}
	if out := told(&with, time.Minute, 24); !strings.Contains(out, "nyx_pq_handshakes_total 24\n") || !strings.Contains(out, "telemetry_session_handshake_latency_count 24\n") {
		t.Errorf("eight sessions do not show:\n%s", out)
	}
	if out := told(&with, time.Minute+time.Second, 32); strings.Contains(out, " 32\n") {
		t.Error("a step shows at the moment at which it is made")
	}
	if out := told(&with, 2*time.Minute, 32); !strings.Contains(out, "nyx_pq_handshakes_total 32\n") {
		t.Error("a step does not show later")
	}
	a, b := page(16, 5), page(16, 6)
	with.Over(a, at.Add(2*time.Minute))
	with.Over(b, at.Add(2*time.Minute))
	if text(a) == text(b) {
		t.Error("control: what speaks of machines is held back")
	}
	if text(page(16, 5)) == text(page(17, 5)) {
		t.Error("control: without the blur one session does not show either")
	}
}

// What lies below the bounds of a blurred histogram grows with them, and adds up.
func TestBlurredHistogramIsOne(t *testing.T) {
	var v trace.Values
	for i := range uint64(1000) {
		v.Observe(i * i)
	}
	d := Times(&v)
	f := Family{Find("telemetry_session_handshake_latency"), []Sample{{Histogram: &d}}}
	o := f.coarse(nil).Samples[0].Histogram
	n := uint64(0)
	for i, in := range o.In {
		if n += in; n%blurStep != 0 {
			t.Errorf("%d values below bound %d", n, i)
		}
	}
	if n != o.Count || o.Count != 1000 {
		t.Errorf("%d values of %d", n, o.Count)
	}
	if mean, was := o.Sum/float64(o.Count), d.Sum/float64(d.Count); strconv.FormatFloat(mean, 'g', 6, 64) != strconv.FormatFloat(was, 'g', 6, 64) {
		t.Errorf("mean %v, was %v", mean, was)
	}
}
