package slo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Intervals of evaluation: a sample comes every five seconds; windows of hours do not
// change so fast.
const (
	every     = "5s"
	everySlow = "1m"
)

// document is YAML that is written line by line.
type document struct{ strings.Builder }

func (d *document) line(indent int, format string, args ...any) {
	d.WriteString(strings.Repeat("  ", indent))
	fmt.Fprintf(d, format, args...)
	d.WriteByte('\n')
}

// quoted is a string of YAML.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

const generated = "# Written by `nyx slo write` from internal/slo; edits are overwritten."

// Rules are the recording and alerting rules of objectives, a file of Prometheus.
func Rules(objectives []Objective) []byte {
	d := &document{}
	d.line(0, generated)
	d.line(0, "groups:")
	d.ratios("nyx_slo_long", everySlow, objectives, Windows[quick:])
	// Rules of a group are evaluated in order, groups beside each other: what alerts rest
	// on stands in theirs, before them.
	d.ratios("nyx_slo_now", every, objectives, Windows[:quick])
	for _, o := range objectives {
		d.record("slo_burn_rate", fmt.Sprintf(`slo_error_ratio{slo="%s"} / %s`, o.Name, number(o.Budget())), nil)
	}
	for _, b := range Burns {
		d.burn(b)
	}
	d.presence(objectives)
	return []byte(d.String())
}

// ratios records the shares of bad, and how much there was.
func (d *document) ratios(group, interval string, objectives []Objective, windows []string) {
	d.line(1, "- name: %s", group)
	d.line(2, "interval: %s", interval)
	d.line(2, "rules:")
	for _, o := range objectives {
		for _, w := range windows {
			labels := []string{"slo", o.Name, "window", w}
			d.record("slo_error_ratio", over(o.Ratio, w), labels)
			enough := "vector(1)"
			if o.Few != "" {
				enough = fmt.Sprintf("(%s) >= bool %d", over(o.Few, w), o.Least)
			}
			d.record("slo_enough", enough, labels)
		}
	}
}

func (d *document) record(name, expr string, labels []string) {
	d.line(3, "- record: %s", name)
	d.line(4, "expr: %s", quoted(expr))
	d.labels(labels)
}

func (d *document) labels(labels []string) {
	if len(labels) == 0 {
		return
	}
	d.line(4, "labels:")
	for i := 0; i < len(labels); i += 2 {
		d.line(5, "%s: %s", labels[i], quoted(labels[i+1]))
	}
}

func (d *document) burn(b Burn) {
	at := func(name, window string) string { return fmt.Sprintf(`%s{window="%s"}`, name, window) }
	d.line(3, "- alert: %s", b.Name)
	d.line(4, "expr: %s", quoted(fmt.Sprintf("%s > %s and ignoring(window) %s > %[2]s and ignoring(window) %[4]s == 1",
		at("slo_burn_rate", b.Long), number(b.Factor), at("slo_burn_rate", b.Short), at("slo_enough", b.Long))))
	d.labels([]string{"severity", b.Severity, "layer", "slo"})
	d.line(4, "annotations:")
	d.line(5, "summary: %s", quoted(fmt.Sprintf("{{ $labels.slo }}: the budget is spent at {{ $value | humanize }} times the even rate over %s", b.Long)))
	d.line(5, "description: %s", quoted(fmt.Sprintf("The rate is above %s over %s and over %s: %s.", number(b.Factor), b.Long, b.Short, b.Why)))
	d.line(5, "runbook: 'docs/telemetry.md#alerts'")
}

// presence records which of the series that objectives rest on there are, of those that
// are to be there: an objective without its series is silent, and silence must not look
// like health.
func (d *document) presence(objectives []Objective) {
	d.line(1, "- name: nyx_sli")
	d.line(2, "interval: %s", every)
	d.line(2, "rules:")
	for _, name := range Series(objectives) {
		none := "vector(0)"
		if where := where(objectives, name); where != "" {
			none = fmt.Sprintf("0 * count(%s)", where)
		}
		d.record("sli_present", fmt.Sprintf(`clamp_max(count({__name__=~"%s(_count)?"}), 1) or %s`, name, none), []string{"sli", name})
	}
	d.record("sli_completeness", "avg(sli_present)", nil)
	d.line(3, "- alert: NyxSLIMissing")
	d.line(4, "expr: %s", quoted("sli_present == 0"))
	d.line(4, "for: 5m")
	d.labels([]string{"severity", Ticket, "layer", "telemetry"})
	d.line(4, "annotations:")
	d.line(5, "summary: 'No process tells {{ $labels.sli }}'")
	d.line(5, "description: 'The objectives that rest on it cannot be judged.'")
	d.line(5, "runbook: 'docs/telemetry.md#alerts'")
}

// where is what is told where a series is to be there; "": everywhere.
func where(objectives []Objective, name string) string {
	for _, o := range objectives {
		if slices.Contains(o.Series, name) {
			return o.Where
		}
	}
	return ""
}

// Series are those on which objectives rest, by name.
func Series(objectives []Objective) []string {
	var all []string
	for _, o := range objectives {
		all = append(all, o.Series...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
