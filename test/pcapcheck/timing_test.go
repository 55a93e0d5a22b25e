package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
)

// play is the datagrams of 16 spans of a second, by turns idle and busy, at 400
// a second, as a machine lets them go whose delay changes from span to span. In
// the busy ones each period is longer by a part of it.
func play(rng *prng.Stream, longer float64) (at []time.Duration, spans []span) {
	const period = 2500 * time.Microsecond
	var now time.Duration
	for i := range 16 {
		s := span{label: []string{"idle", "busy"}[i%2], from: now}
		strain := rng.Exp(300 * time.Microsecond)
		for range 400 {
			now += period
			if i%2 == 1 {
				now += time.Duration(longer * float64(period))
			}
			at = append(at, now+rng.Exp(strain+1))
		}
		s.to = now
		spans = append(spans, s)
	}
	for i := 1; i < len(at); i++ {
		at[i] = max(at[i], at[i-1])
	}
	return at, spans
}

// Equal spans on an uneven machine are taken for equal, where Smirnov's limit
// would not; a period longer by a twentieth is found.
func TestSpansAreToldApart(t *testing.T) {
	rng := prng.FromUint64(1).Stream("play")
	wrong, smirnov := 0, 0
	for range 40 {
		r, err := compare(play(rng, 0))
		if err != nil {
			t.Fatal(err)
		}
		if r.chance < significance {
			wrong++
		}
		if r.distance > 1.95*0.025 { // at 0.001, two samples of 3,200
			smirnov++
		}
	}
	if wrong > 0 {
		t.Errorf("%d of 40 equal plays were taken for different", wrong)
	}
	if smirnov < 10 {
		t.Errorf("the machine is too even to show anything: Smirnov's limit finds %d of 40", smirnov)
	}
	if r, err := compare(play(rng, 0.05)); err != nil || r.chance >= significance {
		t.Errorf("a period longer by a twentieth: %+v, %v", r, err)
	}
}

func TestDistance(t *testing.T) {
	one := []time.Duration{1, 2, 2, 9}
	for _, c := range []struct {
		other []time.Duration
		want  float64
	}{{one, 0}, {[]time.Duration{3, 3}, 0.75}, {[]time.Duration{10}, 1}, {[]time.Duration{1, 2}, 0.25}} {
		if d, n := newSample([][]time.Duration{one, c.other}).distance([]bool{false, true}); d != c.want || n != [2]int{4, len(c.other)} {
			t.Errorf("%v: distance %g of %v, want %g", c.other, d, n, c.want)
		}
	}
	at := []time.Duration{1, 5, 7, 10, 20}
	if g := gapsIn(at, span{from: 2, to: 10}); fmt.Sprint(g) != "[2ns 3ns]" {
		t.Errorf("gaps are %v", g)
	}
}

func TestReadSpans(t *testing.T) {
	got, err := readSpans(strings.NewReader("idle 1700000000.25 1700000001.5\nbusy 2 3\n"))
	if err != nil || len(got) != 2 || got[0] != (span{"idle", 1700000000250 * time.Millisecond, 1700000001500 * time.Millisecond}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"idle", "idle 3 2", "idle a b", "\n"} {
		if _, err := readSpans(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := compare(nil, got); err == nil {
		t.Error("two spans are compared")
	}
}
