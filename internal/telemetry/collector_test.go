package telemetry

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// plane is a collector behind its paths; nodes prove who they are by a header.
type plane struct {
	*Collector
	mux *http.ServeMux
}

func newPlane(now time.Time) *plane {
	p := &plane{mux: http.NewServeMux()}
	p.Collector = NewCollector(now, func(id wire.NodeID) (string, uint32, bool) { return "eu", 100_000, id != wire.NodeID{} })
	p.Follow(now, nil, []string{"eu"})
	for pattern, serve := range p.Routes() {
		p.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			serve(w, r, wire.NodeID{byte(len(r.Header.Get("Node")))})
		})
	}
	return p
}

func (p *plane) post(node string, body []byte) (int, string) {
	r := httptest.NewRequest(http.MethodPost, ReportPath, bytes.NewReader(body))
	r.Header.Set("Node", node)
	w := httptest.NewRecorder()
	p.mux.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func (p *plane) metrics() string {
	var to metric.Page
	p.WriteMetrics(&to, "c")
	return to.String()
}

func someReport(at time.Time) wire.Telemetry {
	return wire.Telemetry{StandsFor: 10, Millis: at.UnixMilli(), Span: 1000, Capacity: 1000, Sent: 300,
		Classes: []wire.TelemetryClass{{Place: 6, Routes: 64, Use: 50}}}
}

// A node's reports move the rates of its region, the figures, and the hours.
func TestReportsMoveRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Minute) // the bubble begins with a day
		p := newPlane(time.Now())
		for range 90 {
			time.Sleep(time.Second)
			m := someReport(time.Now().Add(-2 * time.Second))
			if code, said := p.post("a", m.Append(nil)); code != http.StatusOK {
				t.Fatalf("%d: %s", code, said)
			}
			p.Turn(time.Now())
		}
		w := httptest.NewRecorder()
		p.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, RatesPath, nil))
		a, n, err := wire.ParseAdjustRate(w.Body.Bytes())
		if err != nil || n != w.Body.Len() || a.Region != "eu" || a.Class != 500 || a.Rate != 400 {
			t.Errorf("asks for %+v, %v", a, err)
		}
		for _, line := range []string{"telemetry_pipeline_lag_seconds{part=\"c\",quantile=\"0.5\"} 2\n", "telemetry_pipeline_lag_seconds_count{part=\"c\"} 90",
			"telemetry_fallback_used_total{part=\"c\"} 0", "control_nodes_overloaded{part=\"c\"} 0", "control_feedback_oscillation{part=\"c\"} 0.", "telemetry_reports_refused_total{part=\"c\"} 0"} {
			if !strings.Contains(p.metrics(), "\n"+line) {
				t.Errorf("no %q in\n%s", line, p.metrics())
			}
		}
		time.Sleep(30 * time.Second)
		if p.Turn(time.Now()); !strings.Contains(p.metrics(), "\ntelemetry_fallback_used_total{part=\"c\"} 1") || len(p.Adjust(time.Now())) != 0 {
			t.Error("half a minute of silence changes nothing")
		}
		all, days := 0, 0
		for range 30 {
			time.Sleep(time.Hour)
			for _, a := range p.Turn(time.Now()) {
				if all++; a.Seconds > 3600 {
					days++
				}
			}
		}
		if all != 2 || days != 1 || !strings.Contains(p.metrics(), "\nanalytics_batch_duration{part=\"c\"} ") {
			t.Errorf("%d aggregates, %d of days", all, days)
		}
	})
}

// A body that was late, and posted again meanwhile, is known when it comes, though the node
// was silent since for longer than the scheduler remembers; what is known stays as fresh as
// it was, and rates do not go by what was.
func TestLateBodyIsKnown(t *testing.T) {
	begun := time.Unix(1_800_000_000, 0)
	c := NewCollector(begun, func(wire.NodeID) (string, uint32, bool) { return "eu", 100_000, true })
	c.Follow(begun, nil, []string{"eu"})
	node := wire.NodeID{1}
	take := func(now, made time.Duration) {
		t.Helper()
		m := someReport(begun.Add(made))
		if err := c.Take(begun.Add(now), node, m.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	take(5*time.Second, 4*time.Second)
	take(60*time.Second, 59*time.Second)
	c.Turn(begun.Add(3 * time.Minute)) // the scheduler has forgotten the node
	take(3*time.Minute, 30*time.Second)
	if got := c.Freshness(begun.Add(3 * time.Minute)); got != 121*time.Second {
		t.Errorf("what is known is %v old", got)
	}
	if p := c.stale; p != 1 {
		t.Errorf("%d late reports were told", p)
	}
	take(4*time.Minute, 4*time.Minute)
	if got := c.Freshness(begun.Add(4 * time.Minute)); got != 0 {
		t.Errorf("after a fresh report: %v", got)
	}
	c.Turn(begun.Add(4*time.Minute + RetryWindow + time.Second))
	if got := c.Freshness(begun.Add(time.Hour)); got != 0 {
		t.Errorf("of a node that is gone: %v", got)
	}
	take(time.Hour, time.Hour-time.Second)
}

// What is not a report, is too much of it, or comes from nobody known changes nothing.
func TestCollectorRefuses(t *testing.T) {
	now := time.Now()
	p := newPlane(now)
	m := someReport(now)
	good := m.Append(nil)
	tomorrow := someReport(now.Add(24 * time.Hour))
	for name, c := range map[string]struct {
		node string
		body []byte
		code int
	}{
		"a stranger":      {"", good, http.StatusBadRequest},
		"half a report":   {"a", good[:len(good)-1], http.StatusBadRequest},
		"another version": {"a", append([]byte{1}, good[1:]...), http.StatusBadRequest},
		"of the future":   {"a", tomorrow.Append(nil), http.StatusBadRequest},
		"too many":        {"a", bytes.Repeat(good, reportsMax+1), http.StatusBadRequest},
		"too large":       {"a", make([]byte, reportsMax*wire.TelemetryMax+1), http.StatusBadRequest},
	} {
		if code, said := p.post(c.node, c.body); code != c.code || strings.Count(said, "\n") != 1 {
			t.Errorf("%s: %d %q", name, code, said)
		}
	}
	if strings.Contains(p.metrics(), "telemetry_pipeline_lag_seconds_count{part=\"c\"} 1") {
		t.Error("something was taken")
	}
	if code, _ := p.post("a", good); code != http.StatusOK { // control
		t.Error("a good report is refused")
	}
	if p.post("a", good); !strings.Contains(p.metrics(), "telemetry_reports_refused_total{part=\"c\"} 5") {
		t.Errorf("the same again is not refused:\n%s", p.metrics())
	}
}

// A reporter sends what matters at once, keeps a little while nobody answers, and knows
// that nobody does.
func TestReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(time.Now())
		down := false
		r := NewReporter(time.Now(), prng.FromUint64(1).Stream("r"), func(_ context.Context, body []byte) error {
			if down {
				return errors.New("nobody answers")
			}
			if code, said := p.post("a", body); code != http.StatusOK {
				return errors.Join(ErrRefused, errors.New(said))
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		periods := func(n int, refused uint32) {
			for range n {
				time.Sleep(control.SchedulePeriod)
				m := someReport(time.Now())
				m.Refused = refused
				r.Offer(m)
				synctest.Wait()
			}
		}
		taken := func() uint64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.scheduler.Lag.Count
		}
		if periods(40, 0); taken() != 4 {
			t.Errorf("%d of 40 ordinary reports came", taken())
		}
		if periods(5, 1); taken() != 9 || r.Alone(time.Now()) {
			t.Errorf("%d came, alone %v", taken(), r.Alone(time.Now()))
		}
		down = true
		if periods(200, 1); !r.Alone(time.Now()) || r.Dropped() != 200-waitingMax {
			t.Errorf("alone %v, %d dropped", r.Alone(time.Now()), r.Dropped())
		}
		down = false
		if periods(1, 1); r.Alone(time.Now()) || taken() != 9+waitingMax {
			t.Errorf("back: alone %v, %d came", r.Alone(time.Now()), taken())
		}
		m := someReport(time.Now())
		m.Span, m.Refused = 0, 1 // the other end will not take it
		r.Offer(m)
		synctest.Wait()
		if periods(1, 1); taken() != 10+waitingMax {
			t.Error("what is refused stands in the way of the rest")
		}
		cancel()
		<-done
	})
}
