package directory

import (
	"sort"

	"github.com/nyxnet/nyx/internal/prng"
)

// borders are the weights of paths that cross at most one border. Such a path
// has its entry in region a, j mixes in a, the others in b and its last hop in
// b; for a = b all are in one. The weight of (a, b, j) is
//
//	E[a] · M[a]^j · M[b]^(mixes−j) · X[b]
//
// with E, M, X the regions' shares of the capacity of entries, mixes and last
// hops. Products are rounded one by one, by conversion, so that no processor
// fuses them: a draw is the same everywhere.
type borders struct {
	entry, mix, last []float64
	// middle[a·R+b] is the sum over j of the mixes' part.
	middle []float64
	// sum are running sums of the weights of pairs (a, b); one more at the
	// end.
	sum []float64
}

// borderMixes is the number of mixes at the levels with a bound on borders.
const borderMixes = 3

func newBorders(x *index, last Roles) borders {
	r := len(x.regions)
	b := borders{
		entry: x.pool(RoleEntry).share, mix: x.pool(RoleMix).share, last: x.pool(last).share,
		middle: make([]float64, r*r), sum: make([]float64, r*r+1),
	}
	for i := range r {
		for j := range r {
			at := i*r + j
			if i == j {
				b.middle[at] = power(b.mix[i], borderMixes)
			} else {
				for k := 0; k <= borderMixes; k++ {
					b.middle[at] += b.split(i, j, k)
				}
			}
			b.sum[at+1] = b.sum[at] + float64(float64(b.entry[i]*b.middle[at])*b.last[j])
		}
	}
	return b
}

// split is the mixes' part of the weight with k of them in region i, the rest
// in j.
func (b *borders) split(i, j, k int) float64 {
	return float64(power(b.mix[i], k) * power(b.mix[j], borderMixes-k))
}

func power(x float64, n int) float64 {
	out := 1.0
	for range n {
		out = float64(out * x)
	}
	return out
}

// uniform is a value in [0, 1) with 53 bits.
func uniform(rng *prng.Stream) float64 { return float64(rng.Uint64()>>11) * (1.0 / (1 << 53)) }

// drawRegions gives every position its region. It reports false if no path
// that crosses at most one border has any weight.
func (d *drawing) drawRegions() bool {
	b := &d.borders[0]
	if d.last == RoleMeeting {
		b = &d.borders[1]
	}
	from, to, ok := d.drawPair(b)
	if !ok {
		return false
	}
	mixes := 0 // in region from
	if from != to {
		at := uniform(d.rng) * b.middle[from*len(b.mix)+to]
		for ; mixes < borderMixes; mixes++ {
			if at -= b.split(from, to, mixes); at < 0 {
				break
			}
		}
	}
	for i := range d.hops {
		if i <= mixes {
			d.regions[i] = uint8(from)
		} else {
			d.regions[i] = uint8(to)
		}
	}
	return true
}

// drawPair draws the regions of the first and the last hop.
func (d *drawing) drawPair(b *borders) (from, to int, ok bool) {
	r := len(b.mix)
	switch {
	case d.entry >= 0 && d.exit >= 0:
		from, to = int(d.traits[d.entry].region), int(d.traits[d.exit].region)
		return from, to, b.middle[from*r+to] > 0
	case d.entry >= 0:
		from = int(d.traits[d.entry].region)
		to, ok = drawWeighted(d.rng, r, func(to int) float64 { return float64(b.middle[from*r+to] * b.last[to]) })
		return from, to, ok
	case d.exit >= 0:
		to = int(d.traits[d.exit].region)
		from, ok = drawWeighted(d.rng, r, func(from int) float64 { return float64(b.entry[from] * b.middle[from*r+to]) })
		return from, to, ok
	}
	total := b.sum[r*r]
	if total == 0 {
		return 0, 0, false
	}
	at := uniform(d.rng) * total
	i := sort.Search(r*r-1, func(i int) bool { return b.sum[i+1] > at })
	return i / r, i % r, true
}

// drawWeighted draws one of n by its weight; false if all are zero.
func drawWeighted(rng *prng.Stream, n int, weight func(int) float64) (int, bool) {
	total, last := 0.0, -1
	for i := range n {
		if w := weight(i); w > 0 {
			total += w
			last = i
		}
	}
	if last < 0 {
		return 0, false
	}
	at := uniform(rng) * total
	for i := range last {
		if at -= weight(i); at < 0 {
			return i, true
		}
	}
	return last, true
}
