package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Ledger links every scenario to its indicator, its metric, its evidence and
// its definition of done. It is computed from the catalogue and the evidence,
// and holds nothing that stands in neither.
type Ledger struct {
	Rows []Row `json:"rows"`
	// Done counts the scenarios whose checks are all ticked, of Total that the
	// specification has.
	Done  int `json:"done"`
	Total int `json:"total"`
	// Gaps are what is not there, by kind.
	Gaps []Gap `json:"gaps"`
}

// Gap is scenarios of which the same is missing.
type Gap struct {
	What      string   `json:"what"`
	Scenarios []string `json:"scenarios"`
}

// Row is one scenario of the ledger.
type Row struct {
	Scenario   string   `json:"scenario"`
	Title      string   `json:"title"`
	Mode       Mode     `json:"mode"`
	SLI        string   `json:"sli"`
	Objectives []string `json:"objectives"`
	Metrics    []string `json:"metrics"`         // with the owner, where it is not nyx
	Moved      []string `json:"moved,omitempty"` // what the run saw of those that are nyx's
	Verdict    string   `json:"verdict"`         // VerdictNone without evidence
	Reason     string   `json:"reason,omitempty"`
	Measured   []string `json:"measured,omitempty"`
	Control    []string `json:"control,omitempty"` // what the negative control measured
	Scale      float64  `json:"scale,omitempty"`
	Seed       uint64   `json:"seed,omitempty"`
	Ran        string   `json:"ran,omitempty"`      // when, how long, of which version
	Evidence   string   `json:"evidence,omitempty"` // file name
	Replay     string   `json:"replay,omitempty"`
	Checks     []Check  `json:"checks"`
}

// VerdictNone stands for a scenario without evidence.
const VerdictNone = "not run"

// Check is one line of a scenario's definition of done.
type Check struct {
	Text string `json:"text"`
	Done bool   `json:"done"`
}

// NewLedger joins the catalogue with evidence as ReadEvidence returns it; the
// latest of each scenario counts.
func (l *Lab) NewLedger(all []*Evidence) *Ledger {
	latest := map[string]*Evidence{}
	for _, e := range all {
		latest[e.Scenario] = e
	}
	g := &Ledger{}
	for _, s := range l.Catalogue.Scenarios {
		row := l.row(s, latest[s.ID])
		if row.done() {
			g.Done++
		} else {
			g.miss(row.gap(), s.ID)
		}
		g.Rows = append(g.Rows, row)
	}
	for _, id := range specified() {
		g.Total++
		if _, ok := l.Catalogue.Find(id); !ok {
			g.miss("not in the catalogue", id)
		}
	}
	return g
}

// specified are the ids of all scenarios that the specification has.
func specified() (ids []string) {
	for _, family := range []string{"DF", "SCL"} {
		for n := range 50 {
			ids = append(ids, fmt.Sprintf("%s-%03d", family, n+1))
		}
	}
	return ids
}

func (g *Ledger) miss(what, id string) {
	i := slices.IndexFunc(g.Gaps, func(gap Gap) bool { return gap.What == what })
	if i < 0 {
		i, g.Gaps = len(g.Gaps), append(g.Gaps, Gap{What: what})
	}
	g.Gaps[i].Scenarios = append(g.Gaps[i].Scenarios, id)
}

func (r *Row) done() bool {
	return !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.Done })
}

// gap is what a scenario lacks that is not done.
func (r *Row) gap() string {
	if r.Verdict == VerdictMet {
		return "met, but the catalogue has changed since"
	}
	return r.Verdict
}

func (l *Lab) row(s *Scenario, e *Evidence) Row {
	row := Row{Scenario: s.ID, Title: s.Title, Mode: s.Mode, SLI: s.SLI, Verdict: VerdictNone}
	for _, o := range s.SLO {
		row.Objectives = append(row.Objectives, o.String())
	}
	for _, m := range s.Metric {
		if m.Owner != OwnerNyx {
			m.Name += " (" + m.Owner + ")"
		}
		row.Metrics = append(row.Metrics, m.Name)
	}
	if e != nil {
		row.Mode = e.Mode
		row.Verdict, row.Reason, row.Scale, row.Seed = e.Verdict, e.Reason, e.Scale, e.Seed
		row.Ran, row.Evidence, row.Replay = e.ran(), e.FileName(), e.Replay
		row.Moved = moved(s, e.Run.Series)
		for _, r := range e.Run.Results {
			row.Measured = append(row.Measured, r.String())
		}
		if e.Control != nil {
			for _, r := range e.Control.Results {
				row.Control = append(row.Control, r.String())
			}
		}
	}
	proven := e != nil && (e.Verdict == VerdictMet || e.Verdict == VerdictSmall)
	row.Checks = []Check{
		{"a program executes it", l.Funcs[s.ID] != nil},
		{"evidence is kept", e != nil},
		{"the evidence is of this catalogue entry", e != nil && e.Digest == s.Digest},
		{"every objective is met", e != nil && (proven || e.Verdict == VerdictUnproven)},
		{"the samples bear the bounds", e != nil && !slices.ContainsFunc(e.Run.Results, Result.small) && (proven || e.Verdict == VerdictUnproven)},
		{"without its protection it misses them", proven},
	}
	return row
}

// Write stores the ledger in a directory, which it makes, in all three forms.
// Links to evidence lead to files of the same directory.
func (g *Ledger) Write(dir string) (paths []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write ledger: %w", err)
	}
	for _, form := range []struct {
		name  string
		write func(io.Writer) error
	}{{"ledger.md", g.WriteMarkdown}, {"ledger.json", g.WriteJSON}, {"ledger.html", g.WriteHTML}} {
		var b bytes.Buffer
		if err := form.write(&b); err != nil {
			return nil, fmt.Errorf("write ledger: %w", err)
		}
		path := filepath.Join(dir, form.name)
		if err := writeWhole(path, b.Bytes()); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// WriteJSON writes the ledger for programs.
func (g *Ledger) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(g)
}

// WriteMarkdown writes the ledger for readers of the repository.
func (g *Ledger) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Scenario ledger\n\n%d of %d scenarios are done. Computed by `nyx scenario report`.\n\n", g.Done, g.Total)
	for _, gap := range g.Gaps {
		fmt.Fprintf(&b, "- %s (%d): %s\n", gap.What, len(gap.Scenarios), strings.Join(gap.Scenarios, ", "))
	}
	b.WriteString("\n| scenario | mode | indicator | metric | objective | measured | control | verdict | scale | evidence |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range g.Rows {
		fmt.Fprintf(&b, "| %s %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", r.Scenario, cell(r.Title), r.Mode,
			cell(r.SLI), code(r.Metrics)+" "+cell(r.Moved...), cell(r.Objectives...), cell(r.Measured...), cell(r.Control...), r.Verdict,
			scaleText(r.Scale), r.link())
	}
	b.WriteString("\n## Definition of done\n")
	for _, r := range g.Rows {
		fmt.Fprintf(&b, "\n### %s %s\n\n", r.Scenario, r.Title)
		for _, c := range r.Checks {
			mark := " "
			if c.Done {
				mark = "x"
			}
			fmt.Fprintf(&b, "- [%s] %s\n", mark, c.Text)
		}
		if r.Replay != "" {
			fmt.Fprintf(&b, "\nRepeat: `%s`\n", r.Replay)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell makes text safe inside a table.
func cell(lines ...string) string {
	text := strings.Join(lines, "; ")
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;", ">", "&gt;").Replace(text)
}

func code(names []string) string {
	var out []string
	for _, n := range names {
		if n != "" {
			out = append(out, "`"+n+"`")
		}
	}
	return strings.Join(out, ", ")
}

// link leads to the evidence, and says when it was made.
func (r *Row) link() string {
	if r.Evidence == "" {
		return ""
	}
	return fmt.Sprintf("[%s](%s), %s", r.Evidence, r.Evidence, r.Ran)
}

// moved says what a run saw of the metrics that are this system's own.
func moved(s *Scenario, all []Summary) (out []string) {
	for _, m := range s.Metric {
		for i := range all {
			if m.Owner == OwnerNyx && all[i].Name == SeriesName(m.Name) {
				out = append(out, all[i].String())
			}
		}
	}
	return out
}

func scaleText(scale float64) string {
	if scale == 0 {
		return ""
	}
	return fmt.Sprintf("%g", scale)
}

// WriteHTML writes the ledger as one page without scripts.
func (g *Ledger) WriteHTML(w io.Writer) error { return ledgerPage.Execute(w, g) }

var ledgerPage = template.Must(template.New("ledger").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Scenario ledger</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#1c2333;background:#fff}
table{border-collapse:collapse;width:100%}th,td{border-bottom:1px solid #d5d9e2;padding:.4rem .6rem;text-align:left;vertical-align:top}
th{position:sticky;top:0;background:#f3f5f9}code{font-size:.9em}small{color:#5b6478}
.met{color:#116329;font-weight:600}.missed{color:#a40e26;font-weight:600}.none{color:#5b6478}
ul{list-style:none;margin:.3rem 0 0;padding:0}
@media (prefers-color-scheme:dark){body{color:#e4e8f1;background:#11151f}th{background:#1b2130}th,td{border-color:#2d3548}
.met{color:#5bd17a}.missed{color:#ff7b84}small,.none{color:#96a0b5}}
</style></head><body>
<h1>Scenario ledger</h1>
<p>{{.Done}} of {{.Total}} scenarios are done. Computed by <code>nyx scenario report</code>.</p>
<ul>{{range .Gaps}}<li>{{.What}} ({{len .Scenarios}}):{{range .Scenarios}} {{.}}{{end}}</li>{{end}}</ul>
<table><thead><tr><th>Scenario</th><th>Indicator and metric</th><th>Objective and result</th><th>Control</th><th>Verdict</th><th>Done</th></tr></thead><tbody>
{{range .Rows}}<tr id="{{.Scenario}}">
<td><strong>{{.Scenario}}</strong> <small>{{.Mode}}{{if .Scale}}, scale {{.Scale}}{{end}}</small><br>{{.Title}}</td>
<td>{{.SLI}}<br>{{range .Metrics}}<code>{{.}}</code> {{end}}<small>{{range .Moved}}<br>{{.}}{{end}}</small></td>
<td>{{range .Objectives}}{{.}}<br>{{end}}<small>{{range .Measured}}{{.}}<br>{{end}}</small></td>
<td><small>{{range .Control}}{{.}}<br>{{end}}</small></td>
<td class="{{if eq .Verdict "met"}}met{{else if eq .Verdict "not run"}}none{{else}}missed{{end}}">{{.Verdict}}{{if .Evidence}}<br><a href="{{.Evidence}}"><small>evidence</small></a> <small>{{.Ran}}</small>{{end}}</td>
<td><ul>{{range .Checks}}<li>{{if .Done}}☑{{else}}☐{{end}} {{.Text}}</li>{{end}}</ul></td>
</tr>
{{end}}</tbody></table></body></html>
`))
