package machine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

func TestRepeatAfter(t *testing.T) {
	var got []int
	for n := range 9 {
		got = append(got, int(machine.RepeatAfter(n, 200*time.Millisecond, 2*time.Second)/time.Millisecond))
	}
	if want := []int{200, 200, 200, 200, 400, 800, 1600, 2000, 2000}; !slices.Equal(got, want) {
		t.Errorf("distances %v, want %v", got, want)
	}
	if d := machine.RepeatAfter(1<<40, time.Second, time.Minute); d != time.Minute {
		t.Errorf("after many attempts: %v", d)
	}
}
