package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
)

// Spans of one capture, in which a user is idle and busy by turns, are compared
// by a permutation test: the statistics are the datagrams a second, and the
// two-sample Kolmogorov-Smirnov distance of the gaps between them, in the idle
// spans and in the busy ones; and their laws under equality come from changing
// over, by chance, the labels of neighbours. What the machine does to the timing
// for longer than a pair of spans, it does to both, and the laws hold it;
// Smirnov's own limit, which takes each gap for an independent one, would find
// idle different from idle. (Good, Permutation, Parametric and Bootstrap Tests of
// Hypotheses, ch. 3; Besag and Clifford, Biometrika 78, 1991, for ending when the
// answer is clear.)

// span is a part of a capture in which the user did one thing.
type span struct {
	label    string
	from, to time.Duration // since 1970
}

// timing is when datagrams left a port and came to it.
type timing struct {
	out, in []time.Duration
}

const (
	significance = 0.001 // the chance at which equal spans are taken for different, each statistic and direction
	dealings     = 9999  // of the labels, at most
	plenty       = 20    // dealings that reach what was seen: its chance is no small one
	pairsMin     = 14    // 16,384 ways to deal
	gapsMin      = 1000  // of each label
)

func readTiming(r io.Reader, ports []int) (t timing, err error) {
	err = packets(r, func(at time.Duration, packet []byte) {
		payload, src, dst, ok := udpPayload(packet)
		if !ok {
			return
		}
		for range max(len(payload)/datagramSize, 1) {
			if slices.Contains(ports, src) {
				t.out = append(t.out, at)
			}
			if slices.Contains(ports, dst) {
				t.in = append(t.in, at)
			}
		}
	})
	return t, err
}

// readSpans reads lines "LABEL FROM TO", in seconds since 1970.
func readSpans(r io.Reader) (out []span, err error) {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		var s span
		var from, to float64
		if _, err := fmt.Sscan(lines.Text(), &s.label, &from, &to); err != nil || !(from < to) {
			return nil, fmt.Errorf("line %d: %q is not LABEL FROM TO", n, lines.Text())
		}
		s.from, s.to = time.Duration(from*1e6)*time.Microsecond, time.Duration(to*1e6)*time.Microsecond
		out = append(out, s)
	}
	return out, lines.Err()
}

// compareSpans fails if the timing of a capture in spans of one label differs
// from that in the others.
func compareSpans(capture, list string, ports []int) error {
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer f.Close()
	spans, err := readSpans(f)
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	g, err := os.Open(capture)
	if err != nil {
		return err
	}
	defer g.Close()
	t, err := readTiming(bufio.NewReaderSize(g, 1<<20), ports)
	if err != nil {
		return fmt.Errorf("%s: %w", capture, err)
	}
	var differ []string
	for _, d := range []struct {
		name string
		at   []time.Duration
	}{{"out", t.out}, {"in", t.in}} {
		r, err := compare(d.at, spans)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		fmt.Printf("%s: %.1f and %.1f a second (chance %.4f), KS distance of the gaps %.4f (chance %.4f)\n",
			d.name, r.rate[0], r.rate[1], r.rateChance, r.distance, r.gapChance)
		if !r.alike() {
			differ = append(differ, d.name)
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("%s: the spans differ", strings.Join(differ, " and "))
	}
	return nil
}

// comparison is idle, then busy. A chance is that of a difference as great, if
// the labels mean nothing.
type comparison struct {
	rate       [2]float64 // datagrams a second
	distance   float64
	rateChance float64
	gapChance  float64
}

func (c comparison) alike() bool { return min(c.rateChance, c.gapChance) >= significance }

// compare judges one direction. Spans come in pairs, a label each.
func compare(at []time.Duration, spans []span) (r comparison, err error) {
	if len(spans)%2 != 0 || len(spans)/2 < pairsMin {
		return r, fmt.Errorf("%d spans are not %d pairs at least", len(spans), pairsMin)
	}
	gaps, rates := make([][]time.Duration, len(spans)), make([]float64, len(spans))
	busy := make([]bool, len(spans))
	for i, s := range spans {
		gaps[i] = gapsIn(at, s)
		rates[i] = float64(len(gaps[i])) / (s.to - s.from).Seconds()
		busy[i] = s.label != spans[0].label
		if i%2 == 1 && busy[i] == busy[i-1] {
			return r, fmt.Errorf("spans %d and %d are both %s", i, i+1, s.label)
		}
		r.rate[side(busy[i])] += rates[i] / float64(len(spans)/2)
	}
	s := newSample(gaps)
	var many [2]int
	if r.distance, many = s.distance(busy); min(many[0], many[1]) < gapsMin {
		return r, fmt.Errorf("%d and %d gaps are too few to compare", many[0], many[1])
	}
	rng := prng.FromUint64(1).Stream("dealings")
	r.gapChance = chance(rng, busy, func(busy []bool) float64 { d, _ := s.distance(busy); return d })
	r.rateChance = chance(rng, busy, func(busy []bool) (d float64) {
		for i, rate := range rates {
			d += rate * float64(1-2*side(busy[i]))
		}
		return math.Abs(d)
	})
	return r, nil
}

// chance is how often the statistic is as great as it was seen when the labels of
// neighbours change over.
func chance(rng *prng.Stream, busy []bool, statistic func(busy []bool) float64) float64 {
	const rounding = 1e-9
	seen, dealt := statistic(busy)-rounding, slices.Clone(busy)
	all, reached := 1, 1 // what was seen is one dealing
	for ; all <= dealings && reached < plenty; all++ {
		for i := 0; i < len(dealt); i += 2 {
			if rng.IntN(2) == 1 {
				dealt[i], dealt[i+1] = dealt[i+1], dealt[i]
			}
		}
		if statistic(dealt) >= seen {
			reached++
		}
	}
	return float64(reached) / float64(all)
}

func gapsIn(at []time.Duration, s span) (out []time.Duration) {
	from, _ := slices.BinarySearch(at, s.from)
	for i := from + 1; i < len(at) && at[i] <= s.to; i++ {
		out = append(out, at[i]-at[i-1])
	}
	return out
}

func side(busy bool) int {
	if busy {
		return 1
	}
	return 0
}

// sample is the gaps of all spans in order of their size, and whose each is.
type sample struct {
	gaps []time.Duration
	of   []int // span
	many []int // gaps of each span
}

func newSample(spans [][]time.Duration) *sample {
	type gap struct {
		took time.Duration
		of   int
	}
	var all []gap
	s := &sample{many: make([]int, len(spans))}
	for i, gaps := range spans {
		s.many[i] = len(gaps)
		for _, g := range gaps {
			all = append(all, gap{g, i})
		}
	}
	slices.SortFunc(all, func(a, b gap) int { return cmp.Compare(a.took, b.took) })
	for _, g := range all {
		s.gaps, s.of = append(s.gaps, g.took), append(s.of, g.of)
	}
	return s
}

// distance is the greatest distance between the empirical distributions of the
// idle spans and the busy ones, and how many gaps these have.
func (s *sample) distance(busy []bool) (d float64, n [2]int) {
	for i, many := range s.many {
		n[side(busy[i])] += many
	}
	var seen [2]int
	for i, of := range s.of {
		seen[side(busy[of])]++
		if i+1 == len(s.gaps) || s.gaps[i+1] != s.gaps[i] {
			d = max(d, math.Abs(float64(seen[0])/float64(n[0])-float64(seen[1])/float64(n[1])))
		}
	}
	return d, n
}
