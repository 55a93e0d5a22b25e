package control

import "math"

// Gains are the settings of a Servo. Every figure is of logarithms: a gain of 0.1
// has an error of 1 % moved by 0.1 %, whatever the size of what is steered.
type Gains struct {
	// P answers the change of the error, I the error itself, at each step. With I
	// alone and a measurement that is n steps old a loop is stable below
	// 2·sin(π / (4n + 2)): 1 at n = 1, 0.45 at n = 3.
	P, I float64
	// Slew is the greatest factor by which one step moves the output; above 1.
	Slew float64
	// Dead is the error that is let be, so that noise and steps of a rate do not
	// move the output.
	Dead float64
	// Least and Most bound the output.
	Least, Most float64
}

// Tuned are the gains of the rate loop at a step of 1 s: measurements of up to 4 s
// of age leave it a margin of three (DF-044, DF-007).
var Tuned = Gains{P: 0.15, I: 0.1, Slew: 1.1, Dead: 0.01, Least: 1, Most: math.MaxUint16}

// Servo is a PI controller of a positive quantity. It has the velocity form: each
// step moves the output by what has changed, and no integral is kept. So an output
// that is at a bound winds nothing up, and leaves it with the first error of the
// other sign.
type Servo struct {
	Gains
	// Value is the output.
	Value float64

	last float64 // error
}

// Step moves the output by what is wanted to what was measured, which is 1 where
// nothing is to move, and returns it.
func (s *Servo) Step(ratio float64) float64 {
	e := 0.0
	if ratio > 0 {
		e = math.Log(ratio)
	}
	if math.Abs(e) < s.Dead {
		e = 0
	}
	move := s.P*(e-s.last) + s.I*e
	s.last = e
	slew := math.Log(s.Slew)
	s.Value = min(max(s.Value*math.Exp(min(max(move, -slew), slew)), s.Least), s.Most)
	return s.Value
}
