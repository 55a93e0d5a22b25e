package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
)

// Status serves counters over HTTP: in the Prometheus text format at /metrics
// and, for a network on this machine, a page for people at / and JSON at
// /status. It names nodes and counts; it knows no destination and no client, and what
// single users move it tells as metrics do, or not at all.
type Status struct {
	server   *http.Server
	listener net.Listener
	running  sync.WaitGroup
	meter    Meter
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
	door     *door         // of one, or of a witness, else nil
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

// ServeStatus starts the server of a network on this machine, on a loopback
// address.
func ServeStatus(addr string, l *Local) (*Status, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(shown(l.parts(), l.traffic))
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		statusPage().Execute(w, shown(l.parts(), l.traffic))
	})
	return serveStatus(addr, mux, l.source())
}

// serveMetrics starts the server of what nyx node runs.
func serveMetrics(addr string, s *source) (*Status, error) {
	return serveStatus(addr, http.NewServeMux(), s)
}

func serveStatus(addr string, mux *http.ServeMux, src *source) (*Status, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s for status and metrics: %w; stop what uses it or choose another address", addr, err)
	}
	meter, err := src.start()
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	mux.Handle("GET /metrics", meter)
	handler := http.Handler(mux)
	if ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
		handler = onlyLoopbackHost(mux, func() {})
	}
	s := &Status{listener: ln, server: newServer(handler), meter: meter}
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
	s.meter.Close()
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

// shown are parts without the counters that single users move, unless metrics are to tell
// traffic: who asks twice would see the moment at which somebody came.
func shown(parts []part, traffic bool) []part {
	if traffic {
		return parts
	}
	for c := trace.Counter(0); c < trace.NumCounters; c++ {
		if metric.Find(metric.OfCounter(c)).Rule != metric.Coarse {
			continue
		}
		for i := range parts {
			delete(parts[i].Counts, c.String())
		}
	}
	return parts
}

func newPart(name string, c trace.Counts, err error) part {
	p := part{Name: name, State: working, Counts: map[string]uint64{}, counts: c}
	if err != nil {
		p.State = err.Error()
	}
	for i := trace.Counter(0); i < trace.NumCounters; i++ {
		if c[i] != 0 && !i.TellsContent() {
			p.Counts[i.String()] = c[i]
		}
	}
	if n := c.CellsOut(); n != 0 {
		p.Counts[CellsOut] = n
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
