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
			f.line(&b, s)
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

func (f *Family) line(b *strings.Builder, s Sample) {
	one := func(suffix string, labels []string, value string) {
		b.WriteString(f.Name + suffix)
		for i := 0; i < len(labels); i += 2 {
			b.WriteByte("{,"[min(i, 1)])
			b.WriteString(labels[i] + "=" + strconv.Quote(labels[i+1]))
		}
		if len(labels) > 0 {
			b.WriteByte('}')
		}
		b.WriteString(" " + value + "\n")
	}
	with := func(name string, v float64) []string {
		return append(append([]string(nil), s.Labels...), name, number(v))
	}
	d := s.Histogram
	if d == nil {
		one("", s.Labels, number(s.Value))
		return
	}
	for i, v := range d.Values {
		one("", with("quantile", d.Bounds[i]), number(v))
	}
	if f.Kind == Histogram {
		n := uint64(0)
		for i, bound := range d.Bounds {
			n += d.In[i]
			one("_bucket", with("le", bound), strconv.FormatUint(n, 10))
		}
		one("_bucket", append(append([]string(nil), s.Labels...), "le", "+Inf"), strconv.FormatUint(d.Count, 10))
	}
	one("_sum", s.Labels, number(d.Sum))
	one("_count", s.Labels, strconv.FormatUint(d.Count, 10))
}

// number writes whole numbers in full: counts are read by people too.
func number(v float64) string {
	if v == float64(int64(v)) && v < 1e15 && v > -1e15 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func compare(a, b string) int { return strings.Compare(a, b) }
