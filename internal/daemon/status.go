package daemon

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/trace"
)

// Status serves counters over HTTP: in the Prometheus text format at /metrics
// and, for a network on this machine, a page for people at / and JSON at
// /status. It names nodes and counts; it knows no destination and no client.
type Status struct {
	server   *http.Server
	listener net.Listener
	running  sync.WaitGroup
}

// part is one machine's counters as served. Those that tell content from cover
// are left out, and cells are counted together: the wire shows no more.
type part struct {
	Name    string            `json:"name"`
	State   string            `json:"state"`
	Counts  map[string]uint64 `json:"counts"`           // that are not 0
	Avoids  []string          `json:"avoids,omitempty"` // nodes that a client leaves out, and why
	counts  trace.Counts
	content content
	// handshakes are those of an entry with carriers beside UDP, else nil.
	handshakes *front.HandshakeCounts
	reloads    *reloads // of a node, else nil
	// sessions returns the figures of the sessions that end here; nil: none do.
	sessions func() []stream.Stats
	asker    *mirror.Asker // of a client, replica, or node with replicas, else nil
	shelf    *mirror.Shelf // of a server of the directory, else nil
	rebuilt  time.Duration // of a replica that had a snapshot
	own      bool          // they are of a client, whose endpoint this is
	fellBack bool          // whose datagrams go otherwise than by UDP, though they might
	logs     *logFigures   // of who keeps or watches logs, else nil
	delays   []directory.Delay
	cover    *cover        // of a client, Stream node or authority, else nil
	guard    *guardFigures // of a node, else nil
	control  *Control
	outbox   *pipeline.OutboxFigures // of who tells events, else nil
	settled  *settled                // of a node with a control plane, else nil
	desk     *deskFigures            // of the control plane, else nil
	records  *recordFigures          // of a Stream node that shares session records, else nil
	probes   *probeFigures           // of a Stream node that probes the network, else nil
	// perMinute is how many sessions an entry admits of one client a minute, else 0.
	perMinute int
	admitted  trace.Values // how long admissions took, µs: of sessions, not of what is in them
}

// source is where a Status has its counters from.
type source struct {
	parts func() []part
	// traffic has metrics tell content from cover, and count the proxy's streams.
	traffic bool
	usage   *usage           // nil: not told
	proxy   *proxy.Counts    // nil: no proxy here
	lines   *telemetry.Lines // nil: the log is not this process's
}

func (l *Local) source() source { return source{parts: l.parts, proxy: &l.Proxy} }

// cellsOut is the name of trace.Counts.CellsOut.
const cellsOut = "cells_out"

// ServeStatus starts the server of a network on this machine, on a loopback
// address.
func ServeStatus(addr string, l *Local) (*Status, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(l.parts())
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		statusPage().Execute(w, l.parts())
	})
	return serveStatus(addr, mux, l.source())
}

// serveMetrics starts the server of what nyx node runs.
func serveMetrics(addr string, s source) (*Status, error) {
	return serveStatus(addr, http.NewServeMux(), s)
}

func serveStatus(addr string, mux *http.ServeMux, src source) (*Status, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s for status and metrics: %w; stop what uses it or choose another address", addr, err)
	}
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { writeMetrics(w, src) })
	handler := http.Handler(mux)
	if ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
		handler = onlyLoopbackHost(mux, func() {})
	}
	s := &Status{listener: ln, server: newServer(handler)}
	s.running.Go(func() { s.server.Serve(ln) })
	return s, nil
}

// onlyLoopbackHost refuses requests that a foreign page made a browser send
// (DNS rebinding): their Host is a name. turned is called for each.
func onlyLoopbackHost(next http.Handler, turned func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			turned()
			http.Error(w, "use the loopback address itself, not a name for it", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// URL is the address of the page.
func (s *Status) URL() string { return "http://" + s.listener.Addr().String() + "/" }

// Close stops the server.
func (s *Status) Close() {
	s.server.Close()
	s.running.Wait()
}

func (l *Local) parts() []part {
	out := []part{l.Client.part(), l.Authority.part()}
	if l.Control != nil {
		out = append(out, l.Control.part())
	}
	for i, w := range l.Witnesses {
		p := w.part()
		p.Name = "witness-" + strconv.Itoa(i+1)
		out = append(out, p)
	}
	for _, n := range l.Nodes {
		out = append(out, n.part())
	}
	return out
}

func newPart(name string, c trace.Counts, err error) part {
	p := part{Name: name, State: "working", Counts: map[string]uint64{}, counts: c}
	if err != nil {
		p.State = err.Error()
	}
	for i := trace.Counter(0); i < trace.NumCounters; i++ {
		if c[i] != 0 && !i.TellsContent() {
			p.Counts[i.String()] = c[i]
		}
	}
	if n := c.CellsOut(); n != 0 {
		p.Counts[cellsOut] = n
	}
	return p
}

func (c *Client) part() part {
	p := newPart("client", c.Stats(), c.Err())
	p.content.measured, p.Avoids = c.Distributions(), avoided(c.Avoids())
	p.admitted = p.content.measured[trace.SessionHandshake]
	p.content.answered, p.content.asked = c.answered.Load(), c.asked.Load()
	p.sessions, p.own, p.asker, p.delays, p.cover = c.Sessions, true, c.asker, c.delays.get(), c.cover()
	p.fellBack = c.fellBack != nil && c.fellBack()
	return p
}

func (n *Node) part() part {
	p := newPart(n.cfg.Name, n.Stats(), n.Err())
	p.content.measured = n.Distributions()
	p.admitted = p.content.measured[trace.SessionHandshake]
	if n.cfg.Compress != nil {
		p.content.chunks = n.cfg.Compress.Sizes()
	}
	p.reloads, p.sessions, p.asker, p.delays, p.cover = &n.reloads, n.Sessions, n.asker, n.delays.get(), n.cover()
	p.guard = n.guardFigures()
	p.outbox, p.records, p.probes = n.teller.figures(), n.register.known(), n.prober.known()
	if n.gateway != nil {
		n.host.Do(func(machine.Time) { p.perMinute = n.gateway.Limits().PerMinute })
	}
	if n.settler != nil {
		f := n.settler.figures()
		p.settled = &f
	}
	if n.carriers.face != nil {
		c := n.carriers.face.Handshakes.Counts()
		p.handshakes = &c
	}
	return p
}

func writeMetrics(w http.ResponseWriter, s source) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	parts := s.parts()
	fmt.Fprint(w, "# HELP nyx_up Whether a part works fully.\n# TYPE nyx_up gauge\n")
	for _, p := range parts {
		up := 0
		if p.State == "working" {
			up = 1
		}
		fmt.Fprintf(w, "nyx_up{part=%q} %d\n", p.Name, up)
	}
	counter := func(name string, of func(*trace.Counts) uint64) {
		fmt.Fprintf(w, "# TYPE nyx_%s_total counter\n", name)
		for i := range parts {
			fmt.Fprintf(w, "nyx_%s_total{part=%q} %d\n", name, parts[i].Name, of(&parts[i].counts))
		}
	}
	for c := trace.Counter(0); c < trace.NumCounters; c++ {
		if s.traffic || !c.TellsContent() {
			counter(c.String(), func(n *trace.Counts) uint64 { return n[c] })
		}
	}
	counter(cellsOut, (*trace.Counts).CellsOut)
	share := func(name, help string, of func(*trace.Counts) (part, whole uint64)) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for i := range parts {
			if some, all := of(&parts[i].counts); all > 0 {
				fmt.Fprintf(w, "%s{part=%q} %g\n", name, parts[i].Name, float64(some)/float64(all))
			}
		}
	}
	share("transport_packet_loss", "Share of the neighbours' datagrams that did not arrive.", (*trace.Counts).PacketLoss)
	share("mix_packet_drop", "Share of the cells that came and were dropped for want of a route or of room.", (*trace.Counts).MixDrop)
	writeHandshakes(w, parts)
	writeReloads(w, parts)
	writeDirectory(w, parts)
	writeDelays(w, parts)
	writeLogs(w, parts)
	writeCover(w, parts, s.traffic)
	writeGuards(w, parts)
	writeLines(w, s.lines)
	writeAudit(w, parts)
	writeSettings(w, parts)
	writeRecords(w, parts)
	writeAdmission(w, parts)
	writeArrivals(w, parts, s.traffic)
	if s.traffic {
		writeContent(w, parts)
		if s.usage != nil {
			s.usage.write(w)
		}
		var stops debug.GCStats
		debug.ReadGCStats(&stops)
		fmt.Fprintf(w, "# TYPE nyx_stream_gc_pause_duration_seconds_total counter\nnyx_stream_gc_pause_duration_seconds_total %g\n", stops.PauseTotal.Seconds())
		ratio := func(name string, of, and trace.Counter) {
			fmt.Fprintf(w, "# TYPE %s gauge\n", name)
			for i := range parts {
				if n := &parts[i].counts; n[of]+n[and] > 0 {
					fmt.Fprintf(w, "%s{part=%q} %.6f\n", name, parts[i].Name, float64(n[of])/float64(n[of]+n[and]))
				}
			}
		}
		ratio("fec_recovery_ratio", trace.RepairGood, trace.RepairShort)
		writePaths(w, parts)
	}
	if s.proxy == nil || !s.traffic {
		return
	}
	fmt.Fprintf(w, "# TYPE nyx_proxy_active gauge\nnyx_proxy_active %d\n", s.proxy.Active.Load())
	fmt.Fprintf(w, "# TYPE nyx_proxy_streams_total counter\nnyx_proxy_streams_total %d\n", s.proxy.Streams.Load())
	fmt.Fprintf(w, "# TYPE nyx_proxy_failed_total counter\nnyx_proxy_failed_total %d\n", s.proxy.Failed.Load())
}

// statusPage is a function so that programs without the page do not link templates,
// whose use of reflection would keep every method of every type.
func statusPage() *template.Template {
	return template.Must(template.New("status").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Nyx</title>
<meta name="viewport" content="width=device-width">
<style>
body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
table{border-collapse:collapse;width:100%;margin:0 0 1.5rem}
caption{text-align:left;font-weight:600;padding:.25rem 0}
td{border-top:1px solid #8886;padding:.1rem .5rem}td+td{text-align:right;font-variant-numeric:tabular-nums}
</style></head><body>
<h1>Nyx on this machine</h1>
{{range .}}<table><caption>{{.Name}}: {{.State}}</caption>
{{range $name, $n := .Counts}}<tr><td>{{$name}}</td><td>{{$n}}</td></tr>
{{end}}{{range .Avoids}}<tr><td>avoids</td><td>{{.}}</td></tr>
{{end}}</table>
{{end}}</body></html>
`))
}
