package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A page is a report for people, before it is written in one of their formats.
type page struct {
	title    string
	lead     []string
	sections []section
}

type section struct {
	title string
	text  []string
	head  []string
	rows  [][]string
	align int // columns from this one on are numbers
}

const none = "None."

// page puts a report into words and tables.
func (r *Report) page() *page {
	v := &r.Verified
	p := &page{
		title: fmt.Sprintf("Compliance report of %s, %s to %s", r.Origin, r.From, lastDay(r.To)),
		lead: []string{
			fmt.Sprintf("Of the days %s to %s (UTC), each with all that the audit log took on it; of events up to sensitivity %d.", r.From, lastDay(r.To), r.Sensitivity),
			fmt.Sprintf("%d events, %d of them more sensitive than that.", r.Events, r.Above),
		},
	}
	p.add(section{title: "Verification", text: []string{
		fmt.Sprintf("Entries %d to %d were verified: each carries the hash of the one before it, in %d segments, and the roots of %d checkpoints that the log signed are those of the entries.", v.First, v.Before-1, v.Segments, v.Checkpoints),
		fmt.Sprintf("The root over all entries up to the last of them is %s.", v.Root),
		fmt.Sprintf("They are covered by the checkpoint of %d entries of %s, whose root is %s.", v.Size, moment(v.Signed), v.SizeRoot),
	}})
	p.add(section{title: "What is missing", text: list(r.Gaps)})
	for _, t := range r.Tables {
		p.add(tableOf(t))
	}
	p.add(r.incidents())
	p.add(r.removed())
	p.add(r.measured())
	s := section{title: "Days", head: []string{"day", "events", "first entry", "last entry", "root over all up to the last"}, align: 1}
	for _, d := range r.Days {
		s.rows = append(s.rows, []string{d.Day, number(d.Events), strconv.FormatInt(d.First, 10), strconv.FormatInt(d.Before-1, 10), d.Root})
	}
	p.add(s)
	return p
}

func (p *page) add(s section) {
	if len(s.text) == 0 && len(s.rows) == 0 {
		s.text = []string{none}
	}
	p.sections = append(p.sections, s)
}

// list is text of one line for each thing.
func list(texts []string) []string {
	if len(texts) == 0 {
		return []string{"Nothing that is known of."}
	}
	return texts
}

func tableOf(t Section) section {
	s := section{title: t.Title, head: append(append([]string{}, t.Head...), "events", "count"), align: len(t.Head)}
	events, count := uint64(0), uint64(0)
	for _, r := range t.Rows {
		s.rows = append(s.rows, append(append([]string{}, r.Key...), number(r.Events), number(r.Count)))
		events, count = events+r.Events, count+r.Count
	}
	if len(t.Rows) > 1 {
		s.rows = append(s.rows, []string{"all", "", "", number(events), number(count)})
	}
	return s
}

func (r *Report) incidents() section {
	s := section{title: "Incidents, one by one", head: []string{"entry", "time", "severity", "node", "incident", "about", "recorded within", "summary"}, align: 8}
	for _, i := range r.Incidents {
		s.rows = append(s.rows, []string{strconv.FormatInt(i.Seq, 10), moment(i.Time), i.Severity, i.Actor, i.Action, i.Subject, strconv.FormatInt(i.WithinSeconds, 10) + " s", i.Summary})
	}
	if len(s.rows) > 0 {
		s.text = []string{"An incident stood in the log when a checkpoint had covered it, or sooner; a checkpoint is made once a minute at most."}
	}
	return s
}

func (r *Report) removed() section {
	s := section{title: "Retention", head: []string{"entry", "time", "by", "removed up to", "entries", "root over them", "hashes"}, align: 7}
	for _, x := range r.Removals {
		fits := "not compared here"
		if x.Fits {
			fits = "fit"
		}
		s.rows = append(s.rows, []string{strconv.FormatInt(x.Seq, 10), moment(x.Time), x.Actor, x.Day, strconv.FormatInt(x.Count, 10), x.Root, fits})
	}
	if len(s.rows) > 0 {
		s.text = []string{"The hash of each entry that was removed is kept. They fit where the root of them is the one under which the entries were verified before."}
	}
	return s
}

func (r *Report) measured() section {
	s := section{title: "Figures", head: []string{"quantity", "region", "class", "count", "P50", "P95", "P99", "greatest"}, align: 2}
	for _, f := range r.Figures {
		class := ""
		if f.Class > 0 {
			class = strconv.Itoa(int(f.Class))
		}
		s.rows = append(s.rows, []string{f.Name, f.Region, class, number(f.Count), number(f.P50), number(f.P95), number(f.P99), number(f.Max)})
	}
	if len(s.rows) > 0 {
		s.text = []string{"Quantiles are of sketches, and within 0.8 %."}
	}
	return s
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// lastDay is the day before one.
func lastDay(s string) string {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return s
	}
	return t.AddDate(0, 0, -1).Format(time.DateOnly)
}

// Markdown writes the report as CommonMark with tables.
func (r *Report) Markdown() []byte {
	p, b := r.page(), &strings.Builder{}
	fmt.Fprintf(b, "# %s\n", markdown(p.title))
	for _, t := range p.lead {
		fmt.Fprintf(b, "\n%s\n", markdown(t))
	}
	for _, s := range p.sections {
		fmt.Fprintf(b, "\n## %s\n\n", markdown(s.title))
		for _, t := range s.text {
			fmt.Fprintf(b, "- %s\n", markdown(t))
		}
		if len(s.rows) == 0 {
			continue
		}
		if len(s.text) > 0 {
			b.WriteByte('\n')
		}
		writeRow(b, s.head)
		b.WriteByte('|')
		for i := range s.head {
			if i >= s.align {
				b.WriteString("---:|")
			} else {
				b.WriteString("---|")
			}
		}
		b.WriteByte('\n')
		for _, row := range s.rows {
			writeRow(b, row)
		}
	}
	return []byte(b.String())
}

func writeRow(b *strings.Builder, cells []string) {
	b.WriteByte('|')
	for _, c := range cells {
		fmt.Fprintf(b, " %s |", markdown(c))
	}
	b.WriteByte('\n')
}

// escapes are the characters that CommonMark takes for more than text. Texts of events
// have no line breaks.
var escapes = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "|", `\|`, "#", `\#`, "!", `\!`, "~", `\~`)

func markdown(s string) string { return escapes.Replace(s) }
