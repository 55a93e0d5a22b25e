package machine

import (
	"testing"
	"time"
)

func TestTimeAddStopsAtNever(t *testing.T) {
	for _, c := range []struct {
		at   Time
		d    time.Duration
		want Time
	}{
		{0, time.Second, Time(time.Second)},
		{Never, time.Second, Never},
		{Never, -time.Second, Never},
		{Never - 5, 10, Never},
		{100, -40, 60},
	} {
		if got := c.at.Add(c.d); got != c.want {
			t.Errorf("%d.Add(%d) = %d, want %d", c.at, c.d, got, c.want)
		}
	}
	if d := Time(70).Sub(30); d != 40 {
		t.Errorf("Sub = %d, want 40", d)
	}
}
