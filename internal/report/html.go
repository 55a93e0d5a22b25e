package report

import (
	"fmt"
	"html"
	"strings"
)

// style is all that a page needs: on paper it fits A4, tables repeat their heads, and
// rows are not cut.
const style = `body{font:14px/1.45 system-ui,sans-serif;color:#111;max-width:72em;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin:1.8em 0 .5em;border-bottom:1px solid #bbb}
table{border-collapse:collapse;width:100%;font-size:.9em}
th,td{border:1px solid #ccc;padding:.25em .5em;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#f2f2f2}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
@page{size:A4;margin:16mm}
@media print{body{font-size:10pt;margin:0;max-width:none;padding:0}h2{break-after:avoid}thead{display:table-header-group}tr{break-inside:avoid}th{background:none}}
`

// HTML writes the report as one page that needs nothing else: it asks for nothing, runs
// nothing, and is ready for paper or PDF.
func (r *Report) HTML() []byte {
	p, b := r.page(), &strings.Builder{}
	fmt.Fprintf(b, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>%s</title>\n<style>\n%s</style>\n<h1>%[1]s</h1>\n", html.EscapeString(p.title), style)
	for _, t := range p.lead {
		fmt.Fprintf(b, "<p>%s</p>\n", html.EscapeString(t))
	}
	for _, s := range p.sections {
		fmt.Fprintf(b, "<h2>%s</h2>\n", html.EscapeString(s.title))
		if len(s.text) > 0 {
			b.WriteString("<ul>\n")
			for _, t := range s.text {
				fmt.Fprintf(b, "<li>%s</li>\n", html.EscapeString(t))
			}
			b.WriteString("</ul>\n")
		}
		if len(s.rows) == 0 {
			continue
		}
		b.WriteString("<table>\n<thead>")
		s.htmlRow(b, "th", s.head)
		b.WriteString("</thead>\n<tbody>\n")
		for _, row := range s.rows {
			s.htmlRow(b, "td", row)
			b.WriteByte('\n')
		}
		b.WriteString("</tbody>\n</table>\n")
	}
	b.WriteString("</html>\n")
	return []byte(b.String())
}

func (s *section) htmlRow(b *strings.Builder, tag string, cells []string) {
	b.WriteString("<tr>")
	for i, c := range cells {
		class := ""
		if i >= s.align {
			class = ` class="n"`
		}
		fmt.Fprintf(b, "<%s%s>%s</%[1]s>", tag, class, html.EscapeString(c))
	}
	b.WriteString("</tr>")
}
