package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
)

// play is the datagrams of 32 spans, by turns idle and busy, 400 a second, as a
// machine lets them go whose delay changes from pair to pair. In the busy ones
// each period is longer by a part of it, and each datagram is late by up to late.
func play(rng *prng.Stream, longer float64, late time.Duration) (at []time.Duration, spans []span) {
	const period = 2500 * time.Microsecond
	var now, strain time.Duration
	for i := range 32 {
		s := span{label: []string{"idle", "busy"}[i%2], from: now}
		if i%2 == 0 {
			strain = 1 + rng.Exp(300*time.Microsecond)
		}
		for range 200 {
			now += period
			sent := now + rng.Exp(strain)
			if i%2 == 1 {
				now += time.Duration(longer * float64(period))
				sent += time.Duration(rng.Uint64N(uint64(late) + 1))
			}
			at = append(at, sent)
		}
		s.to = now
		spans = append(spans, s)
	}
	slices.Sort(at)
	return at, spans
}

// Equal spans on an uneven machine are taken for equal; a rate lower by a
// hundredth is found, and so are datagrams late by a fifth of their period.
func TestSpansAreToldApart(t *testing.T) {
	rng := prng.FromUint64(1).Stream("play")
	wrong := 0
	for range 40 {
		r, err := compare(play(rng, 0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if !r.alike() {
			wrong++
		}
	}
	if wrong > 1 {
		t.Errorf("%d of 40 equal plays were taken for different", wrong)
	}
	if r, err := compare(play(rng, 0.01, 0)); err != nil || r.rateChance >= significance {
		t.Errorf("a rate lower by a hundredth: %+v, %v", r, err)
	}
	if r, err := compare(play(rng, 0, 500*time.Microsecond)); err != nil || r.gapChance >= significance {
		t.Errorf("late by up to a fifth of the period: %+v, %v", r, err)
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
