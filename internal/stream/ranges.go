package stream

// span is the numbers from lo to hi, hi excluded.
type span struct {
	lo, hi uint64
}

// spans is a set of numbers as sorted spans that neither overlap nor touch.
// The zero spans are empty.
type spans []span

// add puts [lo, hi) into the set and returns how many numbers were new.
func (s *spans) add(lo, hi uint64) uint64 {
	if lo >= hi {
		return 0
	}
	v := *s
	if n := len(v); n == 0 || v[n-1].hi < lo {
		*s = append(v, span{lo, hi})
		return hi - lo
	}
	first := v.search(lo) // first span with hi ≥ lo
	added := hi - lo
	last := first
	merged := span{lo, hi}
	for last < len(v) && v[last].lo <= hi {
		if o, p := max(v[last].lo, lo), min(v[last].hi, hi); p > o {
			added -= p - o
		}
		merged = span{min(merged.lo, v[last].lo), max(merged.hi, v[last].hi)}
		last++
	}
	if first == last {
		v = append(v, span{})
		copy(v[first+1:], v[first:])
		v[first] = merged
		*s = v
		return added
	}
	v[first] = merged
	*s = append(v[:first+1], v[last:]...)
	return added
}

// addExcept puts what of [lo, hi) is not in out into the set and returns how
// many numbers were new.
func (s *spans) addExcept(lo, hi uint64, out spans) uint64 {
	added := s.add(lo, hi)
	for i := out.search(lo + 1); i < len(out) && out[i].lo < hi; i++ {
		added -= s.remove(max(lo, out[i].lo), min(hi, out[i].hi))
	}
	return added
}

// remove takes [lo, hi) out of the set and returns how many numbers left.
func (s *spans) remove(lo, hi uint64) uint64 {
	if lo >= hi || len(*s) == 0 {
		return 0
	}
	v := *s
	i := v.search(lo + 1) // first span with hi > lo
	removed := uint64(0)
	for i < len(v) && v[i].lo < hi {
		c := v[i]
		removed += min(c.hi, hi) - max(c.lo, lo)
		switch {
		case c.lo < lo && c.hi > hi:
			v[i].hi = lo
			v = append(v, span{})
			copy(v[i+2:], v[i+1:])
			v[i+1] = span{hi, c.hi}
			i += 2
		case c.lo < lo:
			v[i].hi = lo
			i++
		case c.hi > hi:
			v[i].lo = hi
			i++
		default:
			v = append(v[:i], v[i+1:]...)
		}
	}
	*s = v
	return removed
}

// has reports whether any of [lo, hi) is in the set.
func (s spans) has(lo, hi uint64) bool {
	i := s.search(lo + 1)
	return i < len(s) && s[i].lo < hi
}

// search returns the index of the first span whose hi is at least n.
func (s spans) search(n uint64) int {
	lo, hi := 0, len(s)
	for lo < hi {
		mid := (lo + hi) / 2
		if s[mid].hi < n {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
