package attack

import "math"

// Pool is what an observer of a mix knows of the cells in it: how likely each is
// from each source. Delays are exponential and say nothing of when a cell came, so
// that whichever leaves, it is any of those inside with the same chance.
type Pool struct {
	mass  []float64 // by source: the expected number of cells of it
	cells float64
}

// Size is the number of cells inside, as the pool has it.
func (p *Pool) Size() float64 { return p.cells }

// Fill takes in cells of which nothing is known: those that are inside already.
func (p *Pool) Fill(cells int) { p.cells += float64(cells) }

// Add takes in a cell. from is its distribution over sources, not kept; nil: of a
// source that is not told from others, which is left out.
func (p *Pool) Add(from []float64) {
	if from == nil {
		return
	}
	if p.mass == nil {
		p.mass = make([]float64, len(from))
	}
	for k, v := range from {
		p.mass[k] += v
	}
	p.cells++
}

// Take writes the distribution of a cell that leaves into out, and reports whether
// there was one. What it lacks of a sum of 1 is of cells of which nothing is known.
func (p *Pool) Take(out []float64) bool {
	if p.cells < 0.5 {
		return false
	}
	left := (p.cells - 1) / p.cells
	for k, v := range p.mass {
		out[k] = v / p.cells
		p.mass[k] = v * left
	}
	p.cells--
	return true
}

// Entropy is Shannon's, of a distribution, in bits.
func Entropy(p []float64) (bits float64) {
	for _, v := range p {
		if v > 0 {
			bits -= v * math.Log2(v)
		}
	}
	return bits
}
