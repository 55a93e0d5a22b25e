// Package slo declares what the service promises (objective.go) and makes of it what
// Prometheus, Alertmanager and Grafana read: rules that say how fast each budget is spent
// and when somebody must know (rules.go), how alerts are brought together and to whom
// (alertmanager.go), and dashboards (dashboard.go, panels.go). The files in deploy are what
// this package writes, which a test holds; nobody edits them.
package slo

import (
	"fmt"
	"strings"
)

// Objective is one promise: of all that happens in 30 days, Target is good.
type Objective struct {
	// Name is the label slo of what is recorded, Title for people, and Bound what the
	// specification asks for.
	Name, Title, Bound string
	// Target is the share of good, and 1 − Target the budget.
	Target float64
	// Ratio is the share of bad in a window, which stands in it as $w: PromQL over
	// series of the metric table, which Series names.
	Ratio  string
	Series []string
	// Where is a series that is told where the objective can be judged; "": everywhere.
	// Nobody misses the others elsewhere.
	Where string
	// Few is PromQL for how much happened in a window, of uptime how much of it was bad,
	// and Least how much of it there must be before an alert says anything: one failure
	// among three is no trend.
	Few   string
	Least int
}

// Budget is the share that may be bad.
func (o *Objective) Budget() float64 { return 1 - o.Target }

// over puts a window into PromQL.
func over(expr, window string) string { return strings.ReplaceAll(expr, "$w", window) }

// Bounds of end_to_end_latency that are the greatest below what is promised: a
// histogram tells nothing between its bounds, so that the stricter holds.
const (
	within350ms = "0.32768"
	within500ms = "0.458752"
)

// slowerThan is the share of the probes without an answer within a bound: those without
// any are late too. Probes speak of the network and not of its users, so that everybody may
// read them.
func slowerThan(bound string) string {
	return fmt.Sprintf(`1 - (sum(increase(end_to_end_latency_bucket{le="%s"}[$w])) or vector(0)) / %s`, bound, probes)
}

const (
	probes   = `sum(increase(nyx_probes_total[$w]))`
	refused  = `sum(increase(nyx_admission_shed_total{part!="client"}[$w]))`
	admitted = `sum(increase(telemetry_session_handshake_latency_count{part!="client"}[$w]))`
)

// Objectives are the promises of the specification.
var Objectives = []Objective{
	{
		Name: "latency_p95", Title: "Answers within 350 ms", Bound: "P95 ≤ 350 ms", Target: 0.95,
		Ratio: slowerThan(within350ms), Series: []string{"end_to_end_latency"}, Where: "nyx_probes_total", Few: probes, Least: 30,
	},
	{
		Name: "latency_p99", Title: "Answers within 500 ms", Bound: "P99 ≤ 500 ms", Target: 0.99,
		Ratio: slowerThan(within500ms), Series: []string{"end_to_end_latency"}, Where: "nyx_probes_total", Few: probes, Least: 30,
	},
	{
		// Refusals that the entry owes to itself: who has a wrong key, or asks too often, is
		// refused as the service is meant to, and must not be able to wake anybody.
		Name: "errors", Title: "Sessions that are not refused for want of room, turn or decision", Bound: "error rate < 0.1 %", Target: 0.999,
		Ratio: fmt.Sprintf(`%s / (%[1]s + %[2]s)`, refused, admitted), Series: []string{"nyx_admission_shed_total", "telemetry_session_handshake_latency"},
		Few: fmt.Sprintf(`%s + %s`, refused, admitted), Least: 100,
	},
	{
		Name: "uptime", Title: "Parts that work", Bound: "uptime 99.95 %", Target: 0.9995,
		// Where no process answers there is no nyx_up, and up alone speaks. One reading that
		// fails is no outage: of a process or part there must be Least.
		Ratio: `1 - avg(avg_over_time(up{job="nyx"}[$w])) * (avg(avg_over_time(nyx_up[$w])) or vector(1))`, Series: []string{"nyx_up"},
		Few: `max((count_over_time(up{job="nyx"}[$w]) - sum_over_time(up{job="nyx"}[$w])) or (count_over_time(nyx_up[$w]) - sum_over_time(nyx_up[$w])))`, Least: 3,
	},
	{
		Name: "cover", Title: "Windows in which cover is as planned", Bound: "cover compliance ≥ 95 %", Target: 0.95,
		Ratio:  `1 - sum(increase(obf_cover_windows_complied_total{part="authority"}[$w])) / sum(increase(obf_cover_windows_total{part="authority"}[$w]))`,
		Series: []string{"obf_cover_windows_complied_total", "obf_cover_windows_total"}, Few: `sum(increase(obf_cover_windows_total{part="authority"}[$w]))`, Least: 3,
	},
	{
		// A node's limits are set so that it is not overloaded below 2,000 requests a
		// second, which SCL-001 measures: time in which it holds sessions back is time
		// in which it does not carry what it is to carry.
		Name: "capacity", Title: "Time in which nodes take what comes", Bound: "2,000 requests per second and node", Target: 0.999,
		Ratio: `avg(avg_over_time(node_overloaded[$w]))`, Series: []string{"node_overloaded"},
	},
}

// Find returns the objective of a name.
func Find(name string) (*Objective, error) {
	for i := range Objectives {
		if Objectives[i].Name == name {
			return &Objectives[i], nil
		}
	}
	return nil, fmt.Errorf("no objective %q: `nyx slo list` shows what there is", name)
}

// Burn is a pair of windows: a budget that is spent at Factor times the even rate in Long,
// and still is in Short, is told.
type Burn struct {
	Name, Severity string
	Long, Short    string
	Factor         float64
	Why            string
}

// Severities: a page wakes somebody, a ticket waits for the morning.
const (
	Page   = "page"
	Ticket = "ticket"
)

// Burns are those of the SRE workbook, chapter 5, and one of a minute before them, for
// an outage that must be told within one (SCL-026).
var Burns = []Burn{
	{"NyxBudgetBurnsNow", Page, "1m", "20s", 14.4, "more is bad in this minute than the objective allows in two days of such minutes"},
	{"NyxBudgetBurnsFast", Page, "1h", "5m", 14.4, "2 % of the month's budget went in an hour"},
	{"NyxBudgetBurns", Page, "6h", "30m", 6, "5 % of the month's budget went in six hours"},
	{"NyxBudgetBurnsSlowly", Ticket, "1d", "2h", 3, "10 % of the month's budget went in a day"},
	{"NyxBudgetRunsOut", Ticket, "3d", "6h", 1, "10 % of the month's budget went in three days"},
}

// Windows are those of all burns, short ones first.
var Windows = []string{"20s", "1m", "5m", "30m", "1h", "2h", "6h", "1d", "3d"}

// quick are those that are looked at with every sample.
const quick = 3
