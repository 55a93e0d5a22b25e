package mix

// Passage is what the cells that came back along a route say of one hop: the
// highest of its own counters, and how many cells came with its layer. A hop
// moves its counter by two on average for each cell that it sends, and the
// layers of the hops after it, with their counters, are sealed under keys that it
// does not have. So of two neighbours' passages follows how many cells were lost
// between them, and who lies about his own counter makes them seem lost beside
// himself (docs/protocol.md, section 6.3).
type Passage struct{ Counter, Cells uint32 }

// Passage returns that of the hop of a position.
func (r *Route) Passage(position int) Passage {
	h := &r.hops[position]
	return Passage{h.home.top, h.cells}
}

// Sent is how many cells the hop sent since an earlier passage: an estimate
// whose standard deviation is 0.41 times the root of it.
func (p Passage) Sent(since Passage) float64 { return float64(p.Counter-since.Counter) / 2 }
