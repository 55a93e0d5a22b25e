package machine

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Timers must behave as a sorted list of (time, order of setting).
func TestTimersAgainstSortedList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			at  Time
			seq int
		}
		var q Timers[int]
		timers := make([]Timer[int], 12)
		model := map[int]entry{}
		for i := range timers {
			timers[i].Value = i
		}
		for step := range rapid.IntRange(1, 200).Draw(t, "steps") {
			i := rapid.IntRange(0, len(timers)-1).Draw(t, "timer")
			switch rapid.IntRange(0, 3).Draw(t, "action") {
			case 0, 1:
				at := Time(rapid.IntRange(0, 20).Draw(t, "at"))
				if e, set := model[i]; !set || e.at != at {
					model[i] = entry{at, step}
				}
				q.Set(&timers[i], at)
			case 2:
				delete(model, i)
				q.Set(&timers[i], Never)
			case 3:
				now := Time(rapid.IntRange(0, 20).Draw(t, "now"))
				best := -1
				for k, e := range model {
					if e.at <= now && (best < 0 || e.at < model[best].at || e.at == model[best].at && e.seq < model[best].seq) {
						best = k
					}
				}
				got, ok := q.Pop(now)
				if ok != (best >= 0) || ok && got.Value != best {
					t.Fatalf("popped %v %v, want timer %d", got, ok, best)
				}
				delete(model, best)
			}
			times := []Time{Never}
			for k, e := range model {
				times = append(times, e.at)
				if timers[k].At() != e.at {
					t.Fatalf("timer %d at %d, want %d", k, timers[k].At(), e.at)
				}
			}
			if q.Next() != slices.Min(times) || q.Len() != len(model) {
				t.Fatalf("next %d of %d, want %d of %d", q.Next(), q.Len(), slices.Min(times), len(model))
			}
		}
	})
}
