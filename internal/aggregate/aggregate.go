package aggregate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Key names a quantity: what it is, where, and of which class of traffic.
type Key struct {
	// Name is a metric's, at most nameMax bytes, with its unit where it has one.
	Name string
	// Region is where it was measured; "" is everywhere.
	Region string
	// Class is an emission class, cells per second; 0 is of all.
	Class uint16
}

func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Name, o.Name), cmp.Compare(k.Region, o.Region), cmp.Compare(k.Class, o.Class))
}

const (
	// nameMax bounds the bytes of a name and of a region.
	nameMax = 64
	// KeysMax bounds the quantities of an aggregate: 64 regions with all classes of
	// six quantities. What is beyond is refused and counted.
	KeysMax = 4096
	// bytesMax bounds the encoding of an aggregate that is read: a full one whose
	// values spread over a doubling or two takes a quarter of it.
	bytesMax = 16 << 20
)

// ErrSpan says that two aggregates do not go together.
var ErrSpan = errors.New("aggregate: the span is not within the other")

// Span is a time: Seconds from Start on, a second since 1970.
type Span struct{ Start, Seconds int64 }

// Within reports whether s lies in o.
func (s Span) Within(o Span) bool {
	return s.Start >= o.Start && s.Start+s.Seconds <= o.Start+o.Seconds
}

// Aggregate is all quantities of a span of time. It has one owner.
type Aggregate struct {
	Span
	// Refused counts values and merged sketches for which there was no room.
	Refused uint64

	sketches map[Key]*Sketch
}

// New returns the aggregate of a span of which nothing is known.
func New(s Span) *Aggregate { return &Aggregate{Span: s, sketches: map[Key]*Sketch{}} }

// At returns the sketch of a key for its owner to observe, or nil if there is no
// room for one more, which is counted.
func (a *Aggregate) At(k Key) *Sketch {
	s := a.sketches[k]
	if s == nil {
		if len(a.sketches) >= KeysMax || k.Name == "" || len(k.Name) > nameMax || len(k.Region) > nameMax {
			a.Refused = addCapped(a.Refused, 1)
			return nil
		}
		s = &Sketch{}
		a.sketches[k] = s
	}
	return s
}

// Observe adds a value that stands for n.
func (a *Aggregate) Observe(k Key, v, n uint64) {
	if s := a.At(k); s != nil {
		s.ObserveN(v, n)
	}
}

// Of is the sketch of a key, or nil. It is the aggregate's.
func (a *Aggregate) Of(k Key) *Sketch { return a.sketches[k] }

// Keys are those of which something is known, in order.
func (a *Aggregate) Keys() []Key {
	keys := make([]Key, 0, len(a.sketches))
	for k, s := range a.sketches {
		if s.Count > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, Key.compare)
	return keys
}

// Merge adds all of another aggregate, whose span lies in that of a.
func (a *Aggregate) Merge(o *Aggregate) error {
	if !o.Within(a.Span) {
		return fmt.Errorf("%w: %d s from %d on in %d s from %d on", ErrSpan, o.Seconds, o.Start, a.Seconds, a.Start)
	}
	a.Refused = addCapped(a.Refused, o.Refused)
	for _, k := range o.Keys() { // in order: what has no room is the same each time
		if s := a.At(k); s != nil {
			s.Merge(o.sketches[k])
		}
	}
	return nil
}
