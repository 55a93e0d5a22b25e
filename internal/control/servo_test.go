package control

import (
	"math"
	"testing"
)

// steered runs a servo against a plant whose measurement is so many steps old, and
// returns by how much the output swung in the last of the steps, as a part of it.
func steered(g Gains, lag, steps int) (value, swing float64) {
	s := Servo{Gains: g, Value: 100}
	outputs := []float64{}
	low, high := math.Inf(1), 0.0
	for i := range steps {
		measured := 100.0
		if i >= lag {
			measured = outputs[i-lag]
		}
		outputs = append(outputs, s.Step(300/measured))
		if i > steps*3/4 {
			low, high = min(low, s.Value), max(high, s.Value)
		}
	}
	return s.Value, (high - low) / 2 / s.Value
}

// The tuned gains come to rest at what is wanted, with measurements of any age up to
// 4 steps; gains that over-compensate never do.
func TestServoComesToRest(t *testing.T) {
	g := Tuned
	g.Slew = 1.5
	for lag := 1; lag <= 4; lag++ {
		if value, swing := steered(g, lag, 400); math.Abs(value-300) > 6 || swing > 0.01 {
			t.Errorf("lag %d: rests at %.1f, swings by %.3f", lag, value, swing)
		}
		g := g
		g.I, g.P = 1.2, 0.4
		if _, swing := steered(g, lag, 400); swing < 0.05 && lag > 1 {
			t.Errorf("control: lag %d: over-compensating gains swing by %.3f only", lag, swing)
		}
	}
}

// A servo that was at its bound for long leaves it at once.
func TestServoWindsNothingUp(t *testing.T) {
	s := Servo{Gains: Gains{P: 0.15, I: 0.1, Slew: 1.1, Least: 10, Most: 100}, Value: 50}
	for range 1000 {
		s.Step(5)
	}
	if s.Value != 100 {
		t.Fatalf("at %.1f, not at the bound", s.Value)
	}
	if s.Step(0.5); s.Value >= 100 {
		t.Error("stays at its bound when the error turns")
	}
	before := s.Value
	if s.Step(1e-9); s.Value < before/1.1-1e-9 {
		t.Errorf("fell from %.1f to %.1f in one step", before, s.Value)
	}
	for _, none := range []float64{0, -1, math.NaN()} {
		if s.Step(none); math.IsNaN(s.Value) || s.Value < 10 {
			t.Fatalf("a ratio of %v makes %v", none, s.Value)
		}
	}
}
