package daemon

import (
	"net/http"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/trace"
)

// Meter serves the metrics of a process: engine/meter in the full program, and a text in
// one that links no engine.
type Meter interface {
	http.Handler
	Close() error
}

// StartMeter starts a Meter on who fills pages: read is called when somebody asks, by
// any goroutine.
type StartMeter func(read func() *metric.Page) (Meter, error)

// source is where a Status has its metrics from.
type source struct {
	parts func() []part
	// traffic has metrics tell content from cover, and count the proxy's streams.
	traffic bool
	usage   *usage           // nil: not told
	proxy   *proxy.Counts    // nil: no proxy here
	lines   *telemetry.Lines // nil: the log is not this process's
	meter   StartMeter       // nil: text
	blur    metric.Blur

	adding sync.Mutex // of more, as pages are read meanwhile
	more   []func(*metric.Page)
}

// add has pages filled by one more.
func (s *source) add(write func(*metric.Page)) {
	s.adding.Lock()
	defer s.adding.Unlock()
	s.more = append(s.more, write)
}

func (s *source) added() []func(*metric.Page) {
	s.adding.Lock()
	defer s.adding.Unlock()
	return s.more
}

func (l *Local) source() *source {
	return &source{parts: l.parts, proxy: &l.Proxy, traffic: l.traffic, usage: newUsage(), meter: l.meter}
}

func (s *source) start() (Meter, error) {
	if s.meter == nil {
		return textMeter{s}, nil
	}
	return s.meter(s.page)
}

// textMeter is the Meter of programs that have no other.
type textMeter struct{ *source }

func (m textMeter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", metric.ContentType)
	m.page().Text(w)
}

func (textMeter) Close() error { return nil }

// page reads everything. Where metrics are for everybody who may ask, they are blurred.
func (s *source) page() *metric.Page {
	to, parts := &metric.Page{Traffic: s.traffic}, s.parts()
	for i := range parts {
		writeMachine(to, &parts[i])
	}
	writeHandshakes(to, parts)
	writeReloads(to, parts)
	writeDirectory(to, parts)
	writeDelays(to, parts)
	writeLogs(to, parts)
	writeCover(to, parts)
	writeGuards(to, parts)
	writeLines(to, s.lines)
	writeAudit(to, parts)
	writeSettings(to, parts)
	writeRecords(to, parts)
	writeAdmission(to, parts)
	writeProbes(to, parts)
	for _, write := range s.added() {
		write(to)
	}
	if !s.traffic {
		s.blur.Over(to, time.Now())
		return to
	}
	writeContent(to, parts)
	writePaths(to, parts)
	if s.usage != nil {
		s.usage.write(to)
	}
	if s.proxy != nil {
		to.Add("nyx_proxy_active", float64(s.proxy.Active.Load()))
		to.Add("nyx_proxy_streams_total", float64(s.proxy.Streams.Load()))
		to.Add("nyx_proxy_failed_total", float64(s.proxy.Failed.Load()))
	}
	return to
}

// writeMachine writes the counters of a part, and what follows from them.
func writeMachine(to *metric.Page, p *part) {
	up := 0.0
	if p.State == working {
		up = 1
	}
	to.Add("nyx_up", up, "part", p.Name)
	for c := trace.Counter(0); c < trace.NumCounters; c++ {
		to.Add(metric.OfCounter(c), float64(p.counts[c]), "part", p.Name)
	}
	to.Add(metric.CellsOut, float64(p.counts.CellsOut()), "part", p.Name)
	lost, sent := p.counts.PacketLoss()
	ratio(to, "transport_packet_loss", p, lost, sent)
	dropped, came := p.counts.MixDrop()
	ratio(to, "mix_packet_drop", p, dropped, came)
}
