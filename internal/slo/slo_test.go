package slo

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/metric"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the files of deploy")

const deploy = "../../deploy"

// What is in deploy is what the program writes.
func TestFilesAreAsGenerated(t *testing.T) {
	for _, f := range Files() {
		path := filepath.Join(deploy, filepath.FromSlash(f.Path))
		if *rewrite {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f.Content, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, f.Content) {
			t.Errorf("%s is not what `nyx slo write --out deploy` writes (%v): go test ./internal/slo -run AsGenerated -rewrite", f.Path, err)
		}
	}
}

// recorded are the series that rules make.
var recorded = []string{"slo_error_ratio", "slo_enough", "slo_burn_rate", "sli_present", "sli_completeness"}

// Expressions of the rules and of every panel name nothing but what there is: series of
// the metric table, of the rules, and up.
func TestExpressionsNameSeries(t *testing.T) {
	check := func(where, expr string) {
		for _, name := range seriesOf(expr) {
			if unknown(name) {
				t.Errorf("%s: %s is no series, in %s", where, name, expr)
			}
		}
	}
	for _, o := range Objectives {
		check(o.Name, o.Ratio)
		check(o.Name, o.Few)
		for _, name := range o.Series {
			if metric.Find(name) == nil {
				t.Errorf("%s rests on %s, which nobody tells", o.Name, name)
			}
		}
		if len(o.Series) == 0 || o.Target <= 0 || o.Target >= 1 {
			t.Errorf("%s promises nothing: %+v", o.Name, o)
		}
	}
	for _, d := range Dashboards {
		for _, p := range d.Panels {
			if len(p.Queries) == 0 {
				t.Errorf("%s: %s shows nothing", d.UID, p.Title)
			}
			for _, q := range p.Queries {
				check(d.UID+": "+p.Title, q.Expr)
			}
		}
	}
	if !unknown("stream_latency_p96") || unknown("up") { // control
		t.Error("control: anything is a series")
	}
}

func unknown(name string) bool {
	if name == "up" || slices.Contains(recorded, name) || metric.Find(name) != nil {
		return false
	}
	base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_count"), "_sum"), "_bucket")
	m := metric.Find(base)
	return m == nil || m.Kind != metric.Histogram && m.Kind != metric.Summary
}

var (
	selectors = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]|"[^"]*"|\b(by|on|ignoring|without)\s*\([^)]*\)`)
	names     = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*\s*\(?`)
)

// seriesOf are the series that an expression reads.
func seriesOf(expr string) (all []string) {
	for _, n := range names.FindAllString(selectors.ReplaceAllString(expr, " "), -1) {
		if n = strings.TrimSpace(n); !strings.HasSuffix(n, "(") && !slices.Contains([]string{"and", "or", "unless", "bool", "e"}, n) {
			all = append(all, n)
		}
	}
	return all
}

// Dashboards are such as Grafana reads: the fields of its schema that it needs, panels
// that do not overlap, and identifiers that stand once.
func TestDashboardsFitTheSchema(t *testing.T) {
	uids := map[string]bool{}
	for i := range Dashboards {
		var d struct {
			UID, Title    string
			SchemaVersion int
			Panels        []struct {
				ID          int
				Title, Type string
				GridPos     struct{ X, Y, W, H int }
				Datasource  struct{ Type, UID string }
				Targets     []struct{ RefID, Expr string }
			}
		}
		if err := json.Unmarshal(Dashboards[i].JSON(), &d); err != nil {
			t.Fatal(err)
		}
		if d.UID == "" || len(d.UID) > 40 || uids[d.UID] || d.Title == "" || d.SchemaVersion < 36 {
			t.Errorf("dashboard %q", d.UID)
		}
		uids[d.UID] = true
		taken := map[[2]int]bool{}
		for k, p := range d.Panels {
			at := [2]int{p.GridPos.X, p.GridPos.Y}
			if p.ID != k+1 || p.Title == "" || taken[at] || p.GridPos.X+p.GridPos.W > 24 || p.Datasource.UID != Source || (p.Type != "timeseries" && p.Type != "stat") {
				t.Errorf("%s: panel %d %q", d.UID, k, p.Title)
			}
			taken[at] = true
			for _, q := range p.Targets {
				if q.RefID == "" || q.Expr == "" {
					t.Errorf("%s: %s: an empty query", d.UID, p.Title)
				}
			}
		}
	}
}

// tool is a program of Debian's packages prometheus and prometheus-alertmanager.
func tool(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: apt-get install prometheus prometheus-alertmanager", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

func written(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// promtool and amtool take the files.
func TestToolsTakeTheFiles(t *testing.T) {
	rules := written(t, "nyx.rules.yml", Rules(Objectives))
	if out, err := tool(t, "promtool", "check", "rules", rules); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	config := written(t, "prometheus.yml", Prometheus([]string{"127.0.0.1:9464"}, rules, "127.0.0.1:9093"))
	if out, err := tool(t, "promtool", "check", "config", config); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := tool(t, "amtool", "check-config", written(t, "alertmanager.yml", Alertmanager(Shipped))); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	broken := bytes.Replace(Rules(Objectives), []byte("expr: 'avg("), []byte("expr: 'avg(("), 1)
	if _, err := tool(t, "promtool", "check", "rules", written(t, "broken.yml", broken)); err == nil {
		t.Error("control: promtool takes anything")
	}
}

// Routes of alerts are such as they are meant: pages go to PagerDuty, all else to tickets.
func TestRoutes(t *testing.T) {
	config := written(t, "alertmanager.yml", Alertmanager(Shipped))
	for severity, want := range map[string]string{Page: "pagerduty", Ticket: "tickets", "": "tickets"} {
		out, err := tool(t, "amtool", "config", "routes", "test", "--config.file="+config, "severity="+severity, "alertname=NyxBudgetBurns")
		if err != nil || !strings.HasSuffix(out, "\n"+want+"\n") && out != want+"\n" {
			t.Errorf("severity %q goes to %q (%v), want %s", severity, out, err, want)
		}
	}
}

// promtool plays series through the rules.
func promtest(t *testing.T, objectives []Objective, every, tests string) (string, error) {
	t.Helper()
	return promplay(t, Rules(objectives), every, tests)
}

func promplay(t *testing.T, rules []byte, every, tests string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{"nyx.rules.yml": rules, "test.yml": []byte("rule_files: [nyx.rules.yml]\nevaluation_interval: " + every + "\ntests:\n" + tests)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tool(t, "promtool", "test", "rules", filepath.Join(dir, "test.yml"))
}

// spike is five minutes without an error, and then 5 % of them, at 100 sessions a second.
const spike = `  - interval: 5s
    input_series:
      - series: 'nyx_admission_shed_total{part="stream-1"}'
        values: '0+0x60 25+25x60'
      - series: 'telemetry_session_handshake_latency_count{part="stream-1"}'
        values: '0+500x60 30475+475x60'
    alert_rule_test:
      - eval_time: 5m
        alertname: NyxBudgetBurnsNow
        exp_alerts: []
      - eval_time: 6m
        alertname: NyxBudgetBurnsNow
        exp_alerts:
          - exp_labels: {severity: page, layer: slo, slo: errors, window: 1m}
            exp_annotations:
              summary: 'errors: the budget is spent at 50 times the even rate over 1m'
              description: 'The rate is above 14.4 over 1m and over 20s: more is bad in this minute than the objective allows in two days of such minutes.'
              runbook: 'docs/telemetry.md#alerts'
`

// A twentieth of sessions that fail is told within a minute (SCL-026); without the
// objective nobody hears of it.
func TestErrorSpikeAlertsWithinAMinute(t *testing.T) {
	if out, err := promtest(t, Objectives, every, spike); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	without := slices.DeleteFunc(slices.Clone(Objectives), func(o Objective) bool { return o.Name == "errors" })
	if _, err := promtest(t, without, every, spike); err == nil {
		t.Error("control: the spike is told without the objective")
	}
}

// outage is an hour in which no process answers; miss is one reading that fails, and a part
// that is down in one reading.
const (
	outage = `  - interval: 5s
    input_series:
      - series: 'up{job="nyx",instance="a"}'
        values: '1x120 0x720'
      - series: 'nyx_up{job="nyx",instance="a",part="stream-1"}'
        values: '1x120 stale'
    alert_rule_test:
      - eval_time: 10m
        alertname: NyxBudgetBurnsNow
        exp_alerts: []
      - eval_time: 69m
        alertname: NyxBudgetBurnsNow
        exp_alerts:
          - exp_labels: {severity: page, layer: slo, slo: uptime, window: 1m}
            exp_annotations:
              summary: 'uptime: the budget is spent at 2k times the even rate over 1m'
              description: 'The rate is above 14.4 over 1m and over 20s: more is bad in this minute than the objective allows in two days of such minutes.'
              runbook: 'docs/telemetry.md#alerts'
`
	miss = `  - interval: 5s
    input_series:
      - series: 'up{job="nyx",instance="a"}'
        values: '1x120 0 1x120'
      - series: 'up{job="nyx",instance="b"}'
        values: '1x241'
      - series: 'nyx_up{job="nyx",instance="a",part="stream-1"}'
        values: '1x120 stale 1x120'
      - series: 'nyx_up{job="nyx",instance="b",part="mix-1"}'
        values: '1x119 0 1x120'
    alert_rule_test:
`
)

// An outage of all is told for as long as it lasts, though nyx_up is gone with it; one
// reading that fails wakes nobody.
func TestUptimeOutlivesItsSeries(t *testing.T) {
	uptime, err := Find("uptime")
	if err != nil {
		t.Fatal(err)
	}
	short := miss
	for at := range 12 {
		short += fmt.Sprintf("      - eval_time: %ds\n        alertname: NyxBudgetBurnsNow\n        exp_alerts: []\n", 600+5*at)
	}
	for name, tests := range map[string]string{"an hour's outage": outage, "one reading": short} {
		if out, err := promtest(t, []Objective{*uptime}, every, tests); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	mute, jumpy := *uptime, *uptime
	mute.Ratio = strings.Replace(mute.Ratio, " or vector(1)", "", 1)
	if _, err := promtest(t, []Objective{mute}, every, outage); err == nil {
		t.Error("control: without a value in place of nyx_up the outage is told for an hour too")
	}
	jumpy.Few = ""
	if _, err := promtest(t, []Objective{jumpy}, every, short); err == nil {
		t.Error("control: without a least count one reading wakes nobody either")
	}
}

// sustained is an hour of 0.08 % of errors.
const sustained = `  - interval: 1m
    input_series:
      - series: 'nyx_admission_shed_total{part="stream-1"}'
        values: '0+8x90'
      - series: 'telemetry_session_handshake_latency_count{part="stream-1"}'
        values: '0+9992x90'
    promql_expr_test:
      - expr: round(slo_burn_rate{slo="errors",window="1h"}, 0.01)
        eval_time: 80m
        exp_samples:
          - labels: '{slo="errors",window="1h"}'
            value: 0.8
      - expr: slo_burn_rate{slo="errors",window="1h"} >= 2
        eval_time: 80m
        exp_samples: []
    alert_rule_test:
      - eval_time: 80m
        alertname: NyxBudgetBurnsFast
        exp_alerts: []
`

// Errors below the objective burn less than twice the even rate (SCL-027), and wake
// nobody; an objective that is ten times as strict is burnt eight times as fast.
func TestSustainedErrorsBurnSlowly(t *testing.T) {
	if out, err := promtest(t, Objectives, "5m", sustained); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	strict := slices.Clone(Objectives)
	strict[slices.IndexFunc(strict, func(o Objective) bool { return o.Name == "errors" })].Target = 0.9999
	if _, err := promtest(t, strict, "5m", sustained); err == nil {
		t.Error("control: a stricter objective burns as slowly")
	}
}

// A series that is gone is told, for its objectives are silent without it; that of probes
// only where there are probes.
func TestMissingSeriesAreTold(t *testing.T) {
	const presence = `    promql_expr_test:
      - expr: sli_completeness
        eval_time: 2m
        exp_samples: [{labels: 'sli_completeness', value: 1}]
    alert_rule_test:
      - eval_time: 9m
        alertname: NyxSLIMissing
        exp_alerts: []
`
	told := func(more ...string) string {
		all := "  - interval: 5s\n    input_series:\n"
		for _, name := range append(Series(Objectives), more...) {
			all += "      - series: '" + name + "'\n        values: '1x120'\n"
		}
		return all + presence
	}
	without := func(tests, name string) string {
		return strings.Replace(tests, "'"+name+"'", "'nyx_gone'", 1)
	}
	for what, c := range map[string]struct {
		tests string
		miss  bool
	}{
		"all are there":             {told("nyx_probes_total"), false},
		"a series is gone":          {without(told(), "nyx_up"), true},
		"nobody probes":             {without(told(), "end_to_end_latency"), false},
		"probes tell of no latency": {without(told("nyx_probes_total"), "end_to_end_latency"), true},
	} {
		if out, err := promtest(t, Objectives, "30s", c.tests); (err != nil) != c.miss {
			t.Errorf("%s: %v: %s", what, err, out)
		}
	}
}

// late is an hour of 60 probes a minute, of which a fifth has its answer too late and a
// tenth has none.
const late = `  - interval: 1m
    input_series:
      - series: 'nyx_probes_total{part="stream-1/probes"}'
        values: '0+60x90'
      - series: 'end_to_end_latency_bucket{part="stream-1/probes",le="0.32768"}'
        values: '0+42x90'
    promql_expr_test:
      - expr: round(slo_error_ratio{slo="latency_p95",window="1h"}, 0.01)
        eval_time: 80m
        exp_samples:
          - labels: 'slo_error_ratio{slo="latency_p95",window="1h"}'
            value: 0.3
      - expr: slo_enough{slo="latency_p95",window="1h"}
        eval_time: 80m
        exp_samples:
          - labels: 'slo_enough{slo="latency_p95",window="1h"}'
            value: 1
`

// Latency is judged by probes, and one that has no answer is late.
func TestLatencyIsThatOfProbes(t *testing.T) {
	tests := strings.Replace(late, "labels: 'slo_error_ratio{", "labels: '{", 1) // round drops the name
	if out, err := promtest(t, Objectives, "5m", tests); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// month is ten days that spend thrice the even rate, and twelve that spend nothing.
const month = `  - interval: 6h
    input_series:
      - series: 'slo_burn_rate{slo="errors",window="1d"}'
        values: '_x3 3x39 0x47'
    promql_expr_test:
      - expr: round(%s, 0.01)
        eval_time: %dh
        exp_samples:
          - labels: '{slo="errors",window="1d"}'
            value: %s
`

// What is left of the budget knows what was spent weeks ago.
func TestBudgetLeftIsOfAMonth(t *testing.T) {
	rules := []byte("groups: []\n")
	for hours, left := range map[int]string{5*24 + 12: "0.5", 10*24 + 18: "0", 20 * 24: "0"} {
		if out, err := promplay(t, rules, "6h", fmt.Sprintf(month, budgetLeft, hours, left)); err != nil {
			t.Errorf("after %d h: %v: %s", hours, err, out)
		}
	}
	was := `1 - slo_burn_rate{window="3d"} * 3 / 30`
	was = strings.Replace(was, "3d", "1d", 1)
	if _, err := promplay(t, rules, "6h", fmt.Sprintf(month, was, 20*24, "0")); err == nil {
		t.Error("control: the last days know of the month")
	}
}

// A panel of what tells content from cover says in its description what it needs, for it is
// empty elsewhere; no other panel says so.
func TestPanelsOfTrafficSaySo(t *testing.T) {
	for i := range Dashboards {
		d := &Dashboards[i]
		for _, p := range d.Panels {
			content := false
			for _, q := range p.Queries {
				for _, name := range seriesOf(q.Expr) {
					m := metric.Find(name)
					if m == nil {
						m = metric.Find(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"))
					}
					content = content || m != nil && m.Rule == metric.Content
				}
			}
			if content != (p.Needs == needsTraffic) {
				t.Errorf("%s: %s: of content is %v, and it needs %q", d.UID, p.Title, content, p.Needs)
			}
			if p.Needs != "" && !strings.Contains(string(d.JSON()), p.Needs) {
				t.Errorf("%s: %s does not say what it needs", d.UID, p.Title)
			}
		}
	}
}
