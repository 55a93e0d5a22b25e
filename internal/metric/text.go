package metric

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ContentType is that of Text.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Text writes a page in Prometheus' text format, for programs that link no more than
// that.
func (p *Page) Text(w io.Writer) error {
	var b strings.Builder
	for _, f := range p.Families() {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %[1]s %[3]s\n", f.Name, f.Help, f.Kind)
		for _, s := range f.Samples {
			f.each(s, func(name string, labels []string, value float64) { line(&b, name, labels, value) })
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// String is the text of a page.
func (p *Page) String() string {
	var b strings.Builder
	p.Text(&b)
	return b.String()
}

func line(b *strings.Builder, name string, labels []string, value float64) {
	b.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(labels[i] + "=" + strconv.Quote(labels[i+1]))
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	b.WriteString(" " + number(value) + "\n")
}

// number writes whole numbers in full: counts are read by people too.
func number(v float64) string {
	if v == float64(int64(v)) && v < 1e15 && v > -1e15 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func compare(a, b string) int { return strings.Compare(a, b) }
