// Package metric is what a process of Nyx tells in figures: a table of every series with
// its kind, unit, description and rule of privacy (table.go, counters.go), the page that
// holds one reading of them (this file), the rule that keeps one user from showing in
// figures that everybody may read (blur.go), and the text that Prometheus reads (text.go).
//
// Nothing is registered and nothing counts here: a page is filled when somebody reads, by
// who has the figures, so that a data path pays nothing for being watched.
package metric

import (
	"slices"

	"github.com/nyxnet/nyx/internal/trace"
)

// Page is one reading of a process. It has one owner. Who fills it names series of the
// Table only: what is not there is left out of the page and kept in Strange, which a test
// of the whole product finds empty.
type Page struct {
	// Traffic has the page take what tells content from cover.
	Traffic bool
	Strange []string

	families map[string]*Family
}

// Family is a series of the table, with its samples in the order in which they came.
type Family struct {
	*Metric
	Samples []Sample
}

// Sample is one value of a family: Value of a counter and a gauge, Histogram of a
// histogram, and of a summary Value at a quantile, or Sum and Count without one.
type Sample struct {
	Labels    []string // name, value, name, value, …
	Value     float64
	Histogram *Distribution
}

// Distribution is a histogram: In[i] values lie at or below Bounds[i] and above the bound
// before, the last of In above all of them. Of a summary Bounds are quantiles, and Values
// what they are; In is nil.
type Distribution struct {
	Bounds []float64
	In     []uint64
	Values []float64
	Sum    float64
	Count  uint64
}

// Add adds a value of a counter or a gauge.
func (p *Page) Add(name string, value float64, labels ...string) {
	p.add(name, Sample{Labels: labels, Value: value})
}

// Distribute adds a histogram or a summary, unless it has counted nothing and may say so:
// of a Coarse one not even that the first came shows.
func (p *Page) Distribute(name string, d Distribution, labels ...string) {
	if m := Find(name); d.Count > 0 || m != nil && m.Rule == Coarse {
		p.add(name, Sample{Labels: labels, Histogram: &d})
	}
}

func (p *Page) add(name string, s Sample) {
	m := Find(name)
	if m == nil || (s.Histogram != nil) != (m.Kind == Histogram || m.Kind == Summary) {
		p.Strange = append(p.Strange, name)
		return
	}
	if m.Rule == Content && !p.Traffic {
		return
	}
	f := p.families[name]
	if f == nil {
		if p.families == nil {
			p.families = map[string]*Family{}
		}
		f = &Family{Metric: m}
		p.families[name] = f
	}
	f.Samples = append(f.Samples, s)
}

// Families are those of which the page has samples, by name.
func (p *Page) Families() []*Family {
	all := make([]*Family, 0, len(p.families))
	for _, f := range p.families {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *Family) int { return compare(a.Name, b.Name) })
	return all
}

// Times is the distribution of values in µs, in seconds: bounds are powers of two from
// 128 µs to 67 s, and those below the objectives of 350 and 500 ms.
func Times(v *trace.Values) Distribution { return of(v, timeEnds, 1e6, 0) }

// Millis is the same in ms.
func Millis(v *trace.Values) Distribution { return of(v, timeEnds, 1e3, 0) }

// Sizes is the distribution of values in bytes: bounds are a byte less than powers of two,
// so that they are what a value may be.
func Sizes(v *trace.Values) Distribution { return of(v, sizeEnds, 1, 1) }

// Ends of the classes of trace.Values at which histograms are cut.
var (
	timeEnds = ends(7, 26, 327_680, 458_752)
	sizeEnds = ends(3, 16)
)

func ends(least, most int, more ...uint64) []uint64 {
	for power := least; power <= most; power++ {
		more = append(more, 1<<power)
	}
	slices.Sort(more)
	return more
}

func of(v *trace.Values, ends []uint64, per float64, less uint64) Distribution {
	d := Distribution{Bounds: make([]float64, len(ends)), In: make([]uint64, len(ends)+1), Sum: float64(v.Sum) / per, Count: v.Count}
	below := uint64(0)
	for i, end := range ends {
		n := v.Under(end)
		d.Bounds[i], d.In[i], below = float64(end-less)/per, n-below, n
	}
	d.In[len(ends)] = v.Count - below
	return d
}

// Summed is a summary: the values at some quantiles, and how many values there were.
func Summed(quantiles []float64, at func(q float64) float64, sum float64, count uint64) Distribution {
	d := Distribution{Bounds: quantiles, Values: make([]float64, len(quantiles)), Sum: sum, Count: count}
	for i, q := range quantiles {
		d.Values[i] = at(q)
	}
	return d
}
