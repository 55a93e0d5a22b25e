package metric

import (
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// blurEvery is how often a Coarse series moves, and blurStep by how much: who reads
	// them learns neither the moment at which somebody came nor whether one did. Eight
	// sessions are what two or three people open, and a node of any use admits hundreds;
	// ten seconds leave an alert of a minute (SCL-026) most of its time.
	blurEvery = 10 * time.Second
	blurStep  = 8
)

// Blur holds Coarse series back: they show the state at the beginning of the present ten seconds,
// and counts in whole steps. It is safe for concurrent use; the zero Blur is ready.
type Blur struct {
	mu    sync.Mutex
	epoch int64
	held  map[string]*Family
}

// Over replaces the Coarse series of a page read at a time.
func (b *Blur) Over(p *Page, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if epoch := now.UnixNano() / int64(blurEvery); epoch != b.epoch || b.held == nil {
		before := b.held
		b.epoch, b.held = epoch, map[string]*Family{}
		for name, f := range p.families {
			if f.Rule == Coarse {
				b.held[name] = f.coarse(before[name])
			}
		}
	}
	maps.DeleteFunc(p.families, func(_ string, f *Family) bool { return f.Rule == Coarse })
	if p.families == nil {
		p.families = map[string]*Family{}
	}
	maps.Copy(p.families, b.held)
}

// coarse is a family with its counts in whole steps. A distribution keeps its mean, and
// what lies at or below a bound is a whole number of steps too; it stays as it was told
// before until its count makes a step.
func (f *Family) coarse(before *Family) *Family {
	c := &Family{Metric: f.Metric, Samples: slices.Clone(f.Samples)}
	for i := range c.Samples {
		s := &c.Samples[i]
		d := s.Histogram
		if d == nil {
			s.Value = float64(step(uint64(s.Value)))
			continue
		}
		if was := before.at(s.Labels); was != nil && was.Count == step(d.Count) {
			s.Histogram = was
			continue
		}
		o := *d
		o.Count, o.In = step(d.Count), slices.Clone(d.In)
		o.Sum = d.Sum / float64(max(d.Count, 1)) * float64(o.Count)
		below, told := uint64(0), uint64(0)
		for j, n := range d.In {
			below += n
			o.In[j] = step(below) - told
			told += o.In[j]
		}
		s.Histogram = &o
	}
	return c
}

// at is the distribution that a family holds under some labels, or nil.
func (f *Family) at(labels []string) *Distribution {
	if f != nil {
		for _, s := range f.Samples {
			if slices.Equal(s.Labels, labels) {
				return s.Histogram
			}
		}
	}
	return nil
}

func step(n uint64) uint64 { return n - n%blurStep }
