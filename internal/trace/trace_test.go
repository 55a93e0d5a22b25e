package trace

import "testing"

func TestEveryNameIsSetAndUnique(t *testing.T) {
	seen := map[string]bool{}
	check := func(name string) {
		if name == "" || name == "unknown" || seen[name] {
			t.Errorf("name %q is missing or stands twice", name)
		}
		seen[name] = true
	}
	for c := Counter(0); c < NumCounters; c++ {
		check(c.String())
	}
	for k := Kind(0); k < NumKinds; k++ {
		check(k.String())
	}
	for r := Reason(0); r < NumReasons; r++ {
		if want := "nodes_avoided_" + r.String(); AvoidedFor(r).String() != want {
			t.Errorf("the counter of %v is %v", r, AvoidedFor(r))
		}
	}
}

func TestNilSinkTakesNothing(t *testing.T) {
	Sink(nil).Emit(1, LinkUp, 2, 3)
	var got []Event
	Sink(func(e Event) { got = append(got, e) }).Emit(1, RouteUp, 5, 9)
	if len(got) != 1 || got[0] != (Event{1, RouteUp, 5, 9}) {
		t.Errorf("got %v", got)
	}
	var a, b Counts
	a[CellIn], b[CellIn] = 2, 3
	if a.Add(&b); a[CellIn] != 5 {
		t.Error("counts do not add")
	}
}
