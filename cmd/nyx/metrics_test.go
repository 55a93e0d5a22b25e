//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/monitor"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/slo"
	"github.com/nyxnet/nyx/scenarios"
)

// upped is a network that nyx up runs as a process of its own, of which the test reads
// what anybody reads.
type upped struct {
	*program
	data, socks, metrics string
}

// startUp runs nyx up as it ships: with probes, and with metrics that tell everything.
func startUp(t *testing.T) *upped {
	t.Helper()
	u := &upped{data: t.TempDir()}
	u.program = startProgram(t, "up", "--data", u.data, "--socks", "127.0.0.1:0", "--level", "standard", "--regions", "2", "--carrier", "websocket", "--probe", "2s", "--metrics-traffic")
	t.Cleanup(func() {
		u.Process.Signal(syscall.SIGTERM)
		u.awaitEnd(t)
	})
	u.socks, _, _ = strings.Cut(strings.TrimSpace(u.await(t, "proxy ")), " ")
	u.metrics = u.await(t, "metrics ")
	return u
}

// cause has happen in the network what does not come about by traffic: changes of the
// configuration, one of which cannot be had, an incident therefore; refused sessions; a
// fresh key; an auditor who searches and has a copy made.
func (u *upped) cause(t *testing.T, w *looking) {
	t.Helper()
	config := func(args ...string) error {
		_, err := nyx(t, append(append([]string{"config"}, args...), "--operator", filepath.Join(u.data, daemon.OperatorFileName))...)
		return err
	}
	if err := config("set", "--keep", "admission.per_minute=many"); err == nil || !strings.Contains(err.Error(), "dead letter") {
		t.Errorf("a change that cannot be had: %v", err)
	}
	if err := config("set", "admission.records_max=1"); err != nil { // probes are refused for want of room
		t.Error(err)
	}
	v := visit(t, u.data, "operator")
	if status, page := v.order("/relays/rotate", url.Values{}); status != http.StatusOK {
		t.Errorf("a fresh key for the fleet: %d\n%s", status, page)
	}
	v.as("auditor")
	v.finds("/audit?search=1&action=set&kind=config.change", "admission.records_max")
	if status, page := v.order("/audit/exports", url.Values{"format": {"csv"}}); status != http.StatusOK {
		t.Errorf("a copy for an auditor: %d\n%s", status, page)
	}
	for _, name := range []string{"api_handshake_errors_total", "audit_export_duration_count", "audit_incident_capture_latency_count", "config_applied_version"} {
		w.await(t, fmt.Sprintf("sum(%s) > 0", name))
	}
	if err := config("rollback", "0"); err != nil {
		t.Error(err)
	}
}

// browse asks a server through the network, again and again until the test ends.
func browse(t *testing.T, socks string) (asked func()) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 20_000)) }))
	t.Cleanup(web.Close)
	proxy := http.ProxyURL(&url.URL{Scheme: "socks5", Host: socks})
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan struct{})
	var browsing sync.WaitGroup
	var answered atomic.Int64
	for range 8 {
		browsing.Go(func() {
			client := &http.Client{Transport: &http.Transport{Proxy: proxy, DisableKeepAlives: true}}
			for ctx.Err() == nil {
				r, _ := http.NewRequestWithContext(ctx, http.MethodGet, web.URL, nil)
				if answer, err := client.Do(r); err == nil {
					io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
					if answered.Add(1) == 100 {
						close(first)
					}
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); browsing.Wait() })
	return func() {
		select {
		case <-first:
		case <-time.After(patience):
			t.Fatal("a hundred requests are not answered")
		}
	}
}

// read is a page of metrics: by name, all its samples as they stand.
func read(t *testing.T, at string) map[string]string {
	t.Helper()
	r, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %s, %v: %s", r.Status, err, b)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name := line[:strings.IndexAny(line, "{ ")]
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if metric.Find(name) == nil {
			name = base
		}
		if metric.Find(name) == nil {
			t.Errorf("%s is told and is not in the table", name)
		}
		all[name] += line
	}
	return all
}

// zero reports whether nothing has moved: there is no sample but those of 0.
func zero(samples string) bool {
	for line := range strings.Lines(samples) {
		if value := strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]); value != "0" {
			return false
		}
	}
	return true
}

// Every series of the catalogue that is Nyx's own is in the table under its seed name,
// and moves in nyx up with traffic, except for those that say why they need not. What
// Prometheus makes of them fills every panel, the objectives' series are complete, and an
// alert comes by Alertmanager to who is called.
func TestSeriesMoveInALiveNetwork(t *testing.T) {
	if err := monitor.There(); err != nil {
		t.Skip(err)
	}
	catalogue, err := lab.Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	ended := coverClock()
	u := startUp(t)
	asked := browse(t, u.socks)
	w := newLooking(t, u.metrics)
	asked()
	u.cause(t, w)
	t.Run("panels", func(t *testing.T) { w.panelsHaveData(t, ended) })
	t.Run("alert", w.calls)
	after := read(t, u.metrics)
	missing, excused, moved := 0, 0, 0
	for _, s := range catalogue.Scenarios {
		for _, m := range s.Metric {
			name := lab.SeriesName(m.Name)
			if m.Owner != lab.OwnerNyx || outside[name].why != "" {
				continue
			}
			e, may := still[name]
			switch {
			case metric.Find(name) == nil:
				missing++
				t.Errorf("%s: %s is in no table", s.ID, name)
			case !zero(after[name]): // whatever a process tells begins with nothing, or with 0
				moved++
				if may && (e.sure == never || e.sure == turned && !ended()) {
					t.Errorf("%s: %s moved, though %s", s.ID, name, e.why)
				}
			case may:
				excused++
			case w.await(t, fmt.Sprintf(`max({__name__=~"%s(_count)?"}) != 0`, name)):
				moved++
			default:
				t.Errorf("%s: %s did not move: %q", s.ID, name, after[name])
			}
		}
	}
	t.Logf("%d series told; of the catalogue's %d moved, %d need not and did not, %d are missing", len(after), moved, excused, missing)
	for name := range outside {
		if metric.Find(name) != nil {
			t.Errorf("%s is told, and listed as what nobody can tell", name)
		}
	}
}

// coverClock tells whether a window of cover has ended since it was called, or an epoch is
// summed up.
func coverClock() (ended func() bool) {
	begun := time.Now().Unix()
	return func() bool {
		now := time.Now()
		return obfs.WindowAt(now.Unix()) != obfs.WindowAt(begun) || obfs.EpochAt(now.Add(obfs.ProposalLead).Unix()) != obfs.EpochAt(begun)
	}
}

// looking are Debian's Prometheus and Alertmanager with the files of deploy, at a network
// and at a process that there is not; who is called is a double.
type looking struct {
	*monitor.Server
	pages chan string // what comes to who is called
}

// newLooking has them look every 2 s, not every 5: what is counted is the same.
func newLooking(t *testing.T, metrics string) *looking {
	t.Helper()
	w := &looking{pages: make(chan string, 100)}
	pager := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.pages <- string(b)
		rw.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(pager.Close)
	dir := t.TempDir()
	key := filepath.Join(dir, "pagerduty.key")
	if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := slo.Receivers{PagerDutyKeyFile: key, PagerDutyURL: pager.URL, TicketURL: pager.URL}
	alerts, err := monitor.Alertmanager(filepath.Join(dir, "alertmanager"), slo.Alertmanager(to), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { alerts.Close() })
	at, err := url.Parse(metrics)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := monitor.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	often := func(b []byte) []byte {
		return regexp.MustCompile(`(interval: |timeout: )[45]s`).ReplaceAll(b, []byte("${1}2s"))
	}
	w.Server, err = monitor.Prometheus(filepath.Join(dir, "prometheus"), often(slo.Prometheus([]string{at.Host, gone}, "nyx.rules.yml", alerts.Addr)), often(slo.Rules(slo.Objectives)), "nyx.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Server.Close() })
	w.await(t, "nyx_up") // what counts from here on counts in an increase
	return w
}

// await waits until an expression has a value, which is a number, and reports whether it
// came to that.
func (w *looking) await(t *testing.T, expr string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := w.Await(ctx, expr, data)
	if err != nil {
		t.Errorf("no data: %v", err)
	}
	return err == nil
}

// data reports whether there is a value that can be drawn.
func data(all []monitor.Value) bool {
	return slices.ContainsFunc(all, func(v monitor.Value) bool { return !math.IsNaN(v.Value) })
}

// panelsHaveData asks for every panel. What waits for an epoch, or for the end of a day,
// must not have data before.
func (w *looking) panelsHaveData(t *testing.T, ended func() bool) {
	queries := 0
	for _, d := range slo.Dashboards {
		for _, panel := range d.Panels {
			for _, q := range panel.Queries {
				if panel.Waits == "" {
					if queries++; !w.await(t, q.Expr) {
						t.Errorf("%s: %s is empty", d.UID, panel.Title)
					}
					continue
				}
				v, err := w.Query(t.Context(), q.Expr)
				if err != nil || data(v) && !ended() {
					t.Errorf("%s: %s: it has data, though it waits: %v, %v", d.UID, panel.Title, v, err)
				}
				t.Logf("not asked for: %s: %s: %s", d.UID, panel.Title, panel.Waits)
			}
		}
	}
	t.Logf("%d queries of panels", queries)
	complete, err := w.Query(t.Context(), "sli_present")
	if err != nil || len(complete) != len(slo.Series(slo.Objectives)) {
		t.Fatalf("%v, %v", complete, err)
	}
	for _, v := range complete {
		if v.Value != 1 {
			t.Errorf("%s is missing", v.Labels["sli"])
		}
	}
	if v, err := w.Query(t.Context(), "nyx_no_such_thing"); err != nil || data(v) {
		t.Errorf("control: a series that there is not has data: %v, %v", v, err)
	}
}

// calls waits until who is called hears of the process that does not answer.
func (w *looking) calls(t *testing.T) {
	limit := time.After(patience)
	for {
		select {
		case page := <-w.pages:
			if strings.Contains(page, "uptime: the budget is spent") {
				return
			}
		case <-limit:
			t.Fatal("nobody is called, though a process does not answer")
		}
	}
}

// Metrics tell content from cover if nyx up is asked for that, and not otherwise.
func TestUpTellsTrafficIfAsked(t *testing.T) {
	f := upFlags{level: "fast", profile: "full", congestion: "bbr", carrier: "udp", streams: 2, mixes: 3}
	if cfg, err := f.local(); err != nil || cfg.Traffic {
		t.Errorf("unasked: %v, %v", cfg.Traffic, err)
	}
	f.metricsTraffic = true
	if cfg, err := f.local(); err != nil || !cfg.Traffic {
		t.Errorf("asked: %v, %v", cfg.Traffic, err)
	}
	f.processes = true
	if _, err := f.local(); err == nil || !strings.Contains(err.Error(), "--processes") {
		t.Errorf("of processes that serve none: %v", err)
	}
	if flag := upCommand().Flags().Lookup("metrics-traffic"); flag == nil || flag.DefValue != "false" {
		t.Errorf("the flag: %+v", flag)
	}
}

// nyx slo writes what is in deploy.
func TestSLOWrites(t *testing.T) {
	dir := t.TempDir()
	cmd := root()
	cmd.SetArgs([]string{"slo", "write", "--out", dir})
	cmd.SetOut(io.Discard)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, f := range slo.Files() {
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil || string(b) != string(f.Content) {
			t.Errorf("%s: %v", f.Path, err)
		}
	}
	cmd = root()
	cmd.SetArgs([]string{"slo", "list", "nothing"})
	cmd.SetErr(io.Discard)
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "nyx slo list") {
		t.Errorf("an objective that there is not: %v", err)
	}
}
