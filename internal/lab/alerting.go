package lab

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	exporter "github.com/nyxnet/nyx/internal/engine/meter"
	"github.com/nyxnet/nyx/internal/lab/monitor"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/slo"
	"github.com/nyxnet/nyx/internal/trace"
)

// admissions are the figures of a Stream node at which sessions come, some of which are
// refused, as Prometheus reads them: through the page, its blur and the exporter that a
// node has.
type admissions struct {
	mu       sync.Mutex
	admitted trace.Values
	refused  uint64
	blur     metric.Blur
}

func (a *admissions) come(admitted, refused int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range admitted {
		a.admitted.Observe(40_000)
	}
	a.refused += uint64(refused)
}

// page tells them, and a value of each other series on which objectives rest.
func (a *admissions) page() *metric.Page {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, errors := &metric.Page{Traffic: true}, metric.OfCounter(trace.AdmissionShed)
	for _, name := range slo.Series(slo.Objectives) {
		switch m := metric.Find(name); {
		case name == errors:
			p.Add(name, float64(a.refused), "part", "stream-1")
		case m.Kind == metric.Histogram:
			p.Distribute(name, metric.Times(&a.admitted), "part", "stream-1")
		case name == "node_overloaded":
			p.Add(name, 0, "part", "stream-1")
		default:
			p.Add(name, 1, "part", "authority")
		}
	}
	a.blur.Over(p, time.Now())
	return p
}

// serve has Prometheus read them, judge them by the rules of some objectives, and tell an
// Alertmanager.
func (a *admissions) serve(dir string, objectives []slo.Objective, alertmanager string) (*monitor.Server, func(), error) {
	m, err := exporter.Start(a.page)
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m)
	node := httptest.NewServer(mux)
	p, err := monitor.Prometheus(filepath.Join(dir, "prometheus"), slo.Prometheus([]string{strings.TrimPrefix(node.URL, "http://")}, "nyx.rules.yml", alertmanager), slo.Rules(objectives), "nyx.rules.yml")
	if err != nil {
		node.Close()
		return nil, nil, errors.Join(err, m.Close())
	}
	return p, func() { p.Close(); node.Close(); m.Close() }, nil
}

// pager stands in for PagerDuty: it takes events and counts them by their key.
type pager struct {
	*httptest.Server
	mu    sync.Mutex
	paged map[string]int // triggers
	alert chan string    // summaries, as they come
}

func newPager() *pager {
	p := &pager{paged: map[string]int{}, alert: make(chan string, 1<<12)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e struct {
			Action  string `json:"event_action"`
			Key     string `json:"dedup_key"`
			Payload struct {
				Summary string `json:"summary"`
			} `json:"payload"`
		}
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if e.Action == "trigger" {
			p.mu.Lock()
			p.paged[e.Key]++
			p.mu.Unlock()
			select {
			case p.alert <- e.Payload.Summary:
			default:
			}
		}
		w.WriteHeader(http.StatusAccepted)
		w.Write([]byte(`{"status":"success"}`))
	}))
	return p
}

// counts are the keys that came, and how often one came again.
func (p *pager) counts() (keys, again int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.paged {
		keys, again = keys+1, again+n-1
	}
	return keys, again
}

// receivers has pages go to the pager.
func (p *pager) receivers(dir string) (slo.Receivers, error) {
	key := filepath.Join(dir, "pagerduty.key")
	if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		return slo.Receivers{}, fmt.Errorf("alerting: %w", err)
	}
	return slo.Receivers{PagerDutyKeyFile: key, PagerDutyURL: p.URL, TicketURL: p.URL}, nil
}

// summed adds up the samples of a series in a page of metrics.
func summed(page []byte, series string) (sum float64) {
	lines := bufio.NewScanner(strings.NewReader(string(page)))
	for lines.Scan() {
		if line := lines.Text(); strings.HasPrefix(line, series) {
			var v float64
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v); err == nil {
				sum += v
			}
		}
	}
	return sum
}
