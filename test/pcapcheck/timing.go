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
// by a permutation test: the statistic is the two-sample Kolmogorov-Smirnov
// distance of the gaps between datagrams in the idle spans and in the busy ones,
// and its law under equality comes from dealing the two labels to the spans
// anew. What the machine does to the timing for longer than a span, it does to
// spans of both labels, and the law holds it; Smirnov's own limit, which takes
// each gap for an independent one, would find idle different from idle.
// (Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, ch. 3;
// Besag and Clifford, Biometrika 78, 1991, for ending when the answer is clear.)

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
	significance = 0.001 // the chance at which equal spans are taken for different, each direction
	dealings     = 9999  // of the labels, at most
	plenty       = 20    // dealings that reach the distance: its chance is no small one
	spansMin     = 8     // of each label: 12,870 ways to deal
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
		fmt.Printf("%s: %d and %d gaps, KS distance %.4f, greater in %.4f of the dealings\n", d.name, r.gaps[0], r.gaps[1], r.distance, r.chance)
		if r.chance < significance {
			differ = append(differ, d.name)
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("%s: the spans differ", strings.Join(differ, " and "))
	}
	return nil
}

type comparison struct {
	gaps     [2]int
	distance float64
	chance   float64 // of a distance as great, if the labels mean nothing
}

// compare judges one direction. The label of the first span is one side, every
// other label the other.
func compare(at []time.Duration, spans []span) (comparison, error) {
	gaps := make([][]time.Duration, len(spans))
	busy := make([]bool, len(spans))
	var many [2]int // spans of each label
	for i, s := range spans {
		gaps[i] = gapsIn(at, s)
		busy[i] = s.label != spans[0].label
		many[side(busy[i])]++
	}
	if min(many[0], many[1]) < spansMin {
		return comparison{}, fmt.Errorf("%d and %d spans are too few to compare", many[0], many[1])
	}
	s := newSample(gaps)
	r := comparison{}
	r.distance, r.gaps = s.distance(busy)
	if min(r.gaps[0], r.gaps[1]) < gapsMin {
		return r, fmt.Errorf("%d and %d gaps are too few to compare", r.gaps[0], r.gaps[1])
	}
	rng := prng.FromUint64(1).Stream("dealings")
	reached := 1 // the dealing that was played
	dealt := 1
	for ; dealt <= dealings && reached < plenty; dealt++ {
		rng.Shuffle(len(busy), func(i, j int) { busy[i], busy[j] = busy[j], busy[i] })
		if d, _ := s.distance(busy); d >= r.distance {
			reached++
		}
	}
	r.chance = float64(reached) / float64(dealt)
	return r, nil
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
