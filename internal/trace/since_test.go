package trace

import "testing"

// What was observed since is what was observed and not there before.
func TestSince(t *testing.T) {
	var v Values
	for range 100 {
		v.Observe(10)
	}
	before := v
	for range 100 {
		v.Observe(1000)
	}
	s := v.Since(&before)
	if s.Count != 100 || s.Sum != 100_000 || s.Quantile(0.01) < 1000 {
		t.Errorf("%d values of %d, the least %d", s.Count, s.Sum, s.Quantile(0.01))
	}
	s.Add(&before)
	if s != v {
		t.Error("what was before and since is not what is")
	}
}
