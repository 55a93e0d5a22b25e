package meter

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/lab/cpu"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/trace"
)

func page() *metric.Page {
	var v trace.Values
	for _, us := range []uint64{100, 300_000, 1 << 40} {
		v.Observe(us)
	}
	p := &metric.Page{Traffic: true}
	p.Add("nyx_up", 1, "part", "a")
	p.Add("nyx_up", 0, "part", `b"c`)
	p.Add("nyx_link_in_total", 123456789, "part", "a")
	p.Add("cpu_user_pct", 12.5)
	p.Distribute("stream_latency_seconds", metric.Times(&v), "part", "a", "lane", "high")
	p.Distribute("telemetry_pipeline_lag_seconds", metric.Summed([]float64{0.5, 1}, func(q float64) float64 { return 2 * q }, 7, 3), "part", "c")
	return p
}

// samples are the lines of a text with their labels in order, without headers.
func samples(text string) (all []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		name, value := line[:strings.LastIndexByte(line, ' ')], line[strings.LastIndexByte(line, ' ')+1:]
		if open := strings.IndexByte(name, '{'); open > 0 {
			labels := strings.Split(strings.Trim(name[open:], "{}"), ",")
			slices.Sort(labels)
			name = name[:open] + "{" + strings.Join(labels, ",") + "}"
		}
		all = append(all, name+" "+strings.Replace(value, "1.23456789e+08", "123456789", 1))
	}
	slices.Sort(all)
	return all
}

// What OpenTelemetry's exporter tells Prometheus is what the text of a small program
// tells it, series by series.
func TestBothTellTheSame(t *testing.T) {
	m, err := Start(page)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var text strings.Builder
	page().Text(&text)
	if got, want := samples(w.Body.String()), samples(text.String()); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, want := range []string{"# HELP nyx_up Whether a part works fully.", "# TYPE nyx_link_in_total counter", "# TYPE stream_latency_seconds histogram"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q in\n%s", want, w.Body.String())
		}
	}
}

// BenchmarkScrape is what one reading by Prometheus costs, of ten parts with every series
// of the table.
func BenchmarkScrape(b *testing.B) {
	var v trace.Values
	for i := range uint64(100_000) {
		v.Observe(i * 7)
	}
	read := func() *metric.Page {
		p := &metric.Page{Traffic: true}
		for part := range 10 {
			for _, m := range metric.Table {
				switch m.Kind {
				case metric.Histogram:
					p.Distribute(m.Name, metric.Times(&v), "part", string(rune('a'+part)))
				case metric.Summary:
					p.Distribute(m.Name, metric.Summed([]float64{0.5, 0.95, 1}, func(q float64) float64 { return float64(v.Quantile(q)) }, 1, 1), "part", string(rune('a'+part)))
				default:
					p.Add(m.Name, 12345.5, "part", string(rune('a'+part)))
				}
			}
		}
		return p
	}
	m, err := Start(read)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	begun := cpu.Time()
	for b.Loop() {
		m.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
	b.ReportMetric(float64((cpu.Time()-begun).Microseconds())/float64(b.N)/1000, "cpu-ms/scrape")
}
