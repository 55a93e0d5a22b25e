package aggregate

import (
	"maps"
	"slices"
)

// Hour and Day are the spans that a calendar keeps, in seconds.
const (
	Hour = 3600
	Day  = 24 * Hour
)

// hoursOpen is how many hours take values at one time: the present one, and those
// before of which reports may be late. It is also as far as clocks may be ahead.
const hoursOpen = 3

// Calendar keeps an aggregate for each hour and each day, as values come: at no
// time is there more to do than to merge an hour into its day. It has one owner.
type Calendar struct {
	// Late counts values and aggregates of hours that were over, or far ahead.
	Late uint64

	hours, days map[int64]*Aggregate // by their first second
	now         int64                // the first second of the newest hour that Turn was told of
}

// NewCalendar returns a calendar that begins at a second since 1970.
func NewCalendar(unix int64) *Calendar {
	return &Calendar{hours: map[int64]*Aggregate{}, days: map[int64]*Aggregate{}, now: begin(unix, Hour)}
}

// begin is the first second of the span of so many seconds in which unix lies.
func begin(unix, seconds int64) int64 { return unix - (unix%seconds+seconds)%seconds }

// Hour is the open hour of a second, or nil if it is not open.
func (c *Calendar) Hour(unix int64) *Aggregate {
	at := begin(unix, Hour)
	if at <= c.now-hoursOpen*Hour || at >= c.now+hoursOpen*Hour {
		return nil
	}
	a := c.hours[at]
	if a == nil {
		a = New(Span{Start: at, Seconds: Hour})
		c.hours[at] = a
	}
	return a
}

// Observe adds a value of a second, which stands for n.
func (c *Calendar) Observe(unix int64, k Key, v, n uint64) {
	if a := c.Hour(unix); a != nil {
		a.Observe(k, v, n)
	} else {
		c.Late++
	}
}

// Merge adds what another process has of an hour, or of a part of one.
func (c *Calendar) Merge(o *Aggregate) error {
	a := c.Hour(o.Start)
	if a == nil {
		c.Late++
		return nil
	}
	return a.Merge(o)
}

// Turn moves time on and closes hours: each is merged into its day, and returned
// for whoever keeps it.
func (c *Calendar) Turn(unix int64) (closed []*Aggregate) {
	c.now = max(c.now, begin(unix, Hour))
	for _, at := range slices.Sorted(maps.Keys(c.hours)) {
		if at > c.now-hoursOpen*Hour {
			break
		}
		a := c.hours[at]
		delete(c.hours, at)
		day := c.day(at)
		day.Merge(a) // an hour lies in its day
		closed = append(closed, a)
	}
	return closed
}

func (c *Calendar) day(unix int64) *Aggregate {
	at := begin(unix, Day)
	d := c.days[at]
	if d == nil {
		d = New(Span{Start: at, Seconds: Day})
		c.days[at] = d
	}
	return d
}

// Take ends the day of a second: it returns it with all that is known of it, open
// hours included, and forgets it; nil: nothing is known.
func (c *Calendar) Take(unix int64) *Aggregate {
	at := begin(unix, Day)
	for _, start := range slices.Sorted(maps.Keys(c.hours)) {
		if begin(start, Day) == at {
			c.day(at).Merge(c.hours[start])
			delete(c.hours, start)
		}
	}
	d := c.days[at]
	delete(c.days, at)
	return d
}

// Over ends the days whose hours are all closed by a second, and returns them in order.
func (c *Calendar) Over(unix int64) (over []*Aggregate) {
	for _, at := range slices.Sorted(maps.Keys(c.days)) {
		if at+Day <= begin(unix, Hour)-(hoursOpen-1)*Hour {
			over = append(over, c.Take(at))
		}
	}
	return over
}
