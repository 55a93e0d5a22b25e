package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"
)

// timing is when datagrams left a port and came to it.
type timing struct {
	out, in []time.Duration
}

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

// significance is the chance at which two samples of one distribution are
// taken for different: one run in a thousand for each direction.
const significance = 0.001

// compareFiles fails if the timing of two captures differs.
func compareFiles(idle, busy string, ports []int) error {
	var t [2]timing
	for i, name := range []string{idle, busy} {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		t[i], err = readTiming(bufio.NewReaderSize(f, 1<<20), ports)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, d := range []struct {
		name string
		a, b []time.Duration
	}{{"out", t[0].out, t[1].out}, {"in", t[0].in, t[1].in}} {
		if len(d.a) < 1000 || len(d.b) < 1000 {
			return fmt.Errorf("%s: %d and %d datagrams are too few to compare", d.name, len(d.a), len(d.b))
		}
		a, b := gaps(d.a), gaps(d.b)
		distance, bound := kolmogorov(a, b), critical(len(a), len(b))
		fmt.Printf("%s: %d and %d datagrams, %.1f and %.1f a second, KS distance %.4f, critical %.4f at %g\n",
			d.name, len(d.a), len(d.b), rate(d.a), rate(d.b), distance, bound, significance)
		if distance > bound {
			return fmt.Errorf("%s: the two captures differ", d.name)
		}
	}
	return nil
}

func rate(at []time.Duration) float64 {
	return float64(len(at)-1) / (at[len(at)-1] - at[0]).Seconds()
}

func gaps(at []time.Duration) []time.Duration {
	out := make([]time.Duration, len(at)-1)
	for i := range out {
		out[i] = at[i+1] - at[i]
	}
	return out
}

// kolmogorov is the greatest distance between the two empirical distributions.
func kolmogorov(a, b []time.Duration) (d float64) {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	for i, j := 0, 0; i < len(a) && j < len(b); {
		x := min(a[i], b[j])
		for i < len(a) && a[i] <= x {
			i++
		}
		for j < len(b) && b[j] <= x {
			j++
		}
		d = max(d, math.Abs(float64(i)/float64(len(a))-float64(j)/float64(len(b))))
	}
	return d
}

// critical is the distance that two samples of one distribution exceed with
// the chance significance (Smirnov's limit).
func critical(n, m int) float64 {
	return math.Sqrt(-math.Log(significance/2)/2) * math.Sqrt(float64(n+m)/(float64(n)*float64(m)))
}
