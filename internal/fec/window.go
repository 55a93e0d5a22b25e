package fec

import (
	"bytes"

	"github.com/klauspost/reedsolomon"
)

// A sliding window of symbols with consecutive numbers. Repair n is the sum of
// those of the sources n-1 … n-Reach that its mask names, bit i for n-1-i, each
// times Coefficient(n, source). Whoever sends chooses when a repair leaves and
// what it covers: blocks are a special case of it. Source and repair share one
// sequence of numbers, so that nothing but the mask has to be told.
//
// Coefficients are those of a Cauchy matrix: any k repairs over the same
// sources rebuild any k of these that are missing. Repairs over windows that
// differ do so but for about one case in 256.

// Reach is how far back a repair covers sources.
const Reach = 64

// Keep is how many numbers a Decoder looks back, for repairs that overtake what
// they cover.
const Keep = 256

// rowsMax bounds the repairs that wait for more: half a Reach. More losses than
// that in one are beyond any redundancy that is sent.
const rowsMax = 32

var field reedsolomon.LowLevel

// Coefficient is the factor of a source in a repair, never 0. It repeats after
// 128 numbers, which is more than a repair and what it covers span.
func Coefficient(repair, source uint64) byte {
	return reedsolomon.Inv(0x80 | byte(repair&0x7f) ^ byte(source&0x7f))
}

// Encoder keeps the last Reach sources. It takes Reach × size bytes.
type Encoder struct {
	size    int
	held    [Reach]uint64 // number + 1 of the source in each place
	symbols []byte
}

// NewEncoder returns an encoder of symbols of size bytes.
func NewEncoder(size int) *Encoder {
	return &Encoder{size: size, symbols: make([]byte, Reach*size)}
}

// Source keeps a copy of source n, filled up with zeros; b has at most size
// bytes.
func (e *Encoder) Source(n uint64, b []byte) {
	i := n % Reach
	e.held[i] = n + 1
	at := e.symbols[int(i)*e.size:][:e.size]
	clear(at[copy(at, b):])
}

// Has reports whether source n is held.
func (e *Encoder) Has(n uint64) bool { return e.held[n%Reach] == n+1 }

// Repair writes repair n of the sources that mask names, all of them held, into
// symbol.
func (e *Encoder) Repair(n, mask uint64, symbol []byte) {
	clear(symbol)
	for i := uint64(0); mask != 0; i, mask = i+1, mask>>1 {
		if mask&1 != 0 {
			source := n - 1 - i
			at := int(source%Reach) * e.size
			field.GalMulSliceXor(Coefficient(n, source), e.symbols[at:at+e.size], symbol)
		}
	}
}

// Decoder rebuilds sources. It is told of all that arrives by Source and Repair
// and yields by Poll what it rebuilt. It takes Keep symbols at most, and rowsMax
// equations of a symbol and Keep bytes each.
type Decoder struct {
	size    int
	next    uint64       // one above the greatest number seen
	held    [Keep]uint64 // number + 1 of the source in each place
	symbols [Keep][]byte // each made when its place is first used
	rows    []equation   // reduced: a pivot stands in one row only
	rebuilt []uint64
	head    int // of rebuilt
}

// equation says that the missing sources times their coefficients, by place,
// are the symbol.
type equation struct {
	coef   [Keep]byte
	pivot  uint64 // place whose coefficient is 1 here and 0 elsewhere
	repair uint64 // number of the repair from which it came
	symbol []byte
}

// NewDecoder returns a decoder of symbols of size bytes.
func NewDecoder(size int) *Decoder { return &Decoder{size: size} }

// Has reports whether source n is held.
func (d *Decoder) Has(n uint64) bool { return d.held[n%Keep] == n+1 }

// Source takes a copy of source n, filled up with zeros; b has at most size
// bytes.
func (d *Decoder) Source(n uint64, b []byte) {
	if n+Keep < d.next || d.Has(n) {
		return
	}
	d.advance(n)
	at := d.place(n)
	clear(at[copy(at, b):])
	place := n % Keep
	for i := 0; i < len(d.rows); i++ {
		r := &d.rows[i]
		c := r.coef[place]
		if c == 0 {
			continue
		}
		field.GalMulSliceXor(c, at, r.symbol)
		r.coef[place] = 0
		if r.pivot == place && !d.pivot(i) {
			d.drop(i)
			i--
		}
	}
	d.harvest()
}

// Repair takes a copy of repair n. Every source that mask names must have been
// told of if it has arrived.
func (d *Decoder) Repair(n, mask uint64, symbol []byte) {
	d.advance(n)
	if len(d.rows) == rowsMax {
		d.drop(d.oldest())
	}
	r := d.row()
	r.repair = n
	copy(r.symbol, symbol)
	for i := uint64(0); mask != 0; i, mask = i+1, mask>>1 {
		if mask&1 == 0 {
			continue
		}
		source := n - 1 - i
		c := Coefficient(n, source)
		switch {
		case d.Has(source):
			field.GalMulSliceXor(c, d.symbols[source%Keep], r.symbol)
		case source+Keep < d.next:
			d.rows = d.rows[:len(d.rows)-1]
			return
		default:
			r.coef[source%Keep] = c
		}
	}
	last := len(d.rows) - 1
	for i := range d.rows[:last] {
		d.eliminate(r, &d.rows[i])
	}
	if !d.pivot(last) {
		d.rows = d.rows[:last]
		return
	}
	d.harvest()
}

// Poll yields the next source that was rebuilt. The symbol is valid until the
// next call of another method.
func (d *Decoder) Poll() (n uint64, symbol []byte, ok bool) {
	for d.head < len(d.rebuilt) {
		n = d.rebuilt[d.head]
		d.head++
		if d.Has(n) {
			return n, d.symbols[n%Keep], true
		}
	}
	d.rebuilt, d.head = d.rebuilt[:0], 0
	return 0, nil, false
}

// advance makes the places up to that of n stand for the newest numbers. An
// equation over a number that falls out is given up.
func (d *Decoder) advance(n uint64) {
	if n < d.next {
		return
	}
	from := d.next
	if n >= Keep {
		from = max(from, n-Keep+1)
	}
	for ; from <= n && len(d.rows) > 0; from++ {
		for i := 0; i < len(d.rows); i++ {
			if d.rows[i].coef[from%Keep] != 0 {
				d.drop(i)
				i--
			}
		}
	}
	d.next = n + 1
}

// place returns the place of source n, which is held from then on.
func (d *Decoder) place(n uint64) []byte {
	i := n % Keep
	if d.symbols[i] == nil {
		d.symbols[i] = make([]byte, d.size)
	}
	d.held[i] = n + 1
	return d.symbols[i]
}

// row appends an equation without coefficients.
func (d *Decoder) row() *equation {
	if len(d.rows) < cap(d.rows) {
		d.rows = d.rows[:len(d.rows)+1]
	} else {
		d.rows = append(d.rows, equation{})
	}
	r := &d.rows[len(d.rows)-1]
	if r.symbol == nil {
		r.symbol = make([]byte, d.size)
	}
	r.coef = [Keep]byte{}
	return r
}

// drop gives equation i up; its memory stays with the rows.
func (d *Decoder) drop(i int) {
	last := len(d.rows) - 1
	d.rows[i], d.rows[last] = d.rows[last], d.rows[i]
	d.rows = d.rows[:last]
}

func (d *Decoder) oldest() int {
	least := 0
	for i := range d.rows {
		if d.rows[i].repair < d.rows[least].repair {
			least = i
		}
	}
	return least
}

// eliminate takes the pivot of another equation out of r.
func (d *Decoder) eliminate(r, other *equation) {
	if c := r.coef[other.pivot]; c != 0 {
		field.GalMulSliceXor(c, other.coef[:], r.coef[:])
		field.GalMulSliceXor(c, other.symbol, r.symbol)
	}
}

// pivot chooses a pivot for equation i and takes it out of all others. It
// reports false for an equation that says nothing.
func (d *Decoder) pivot(i int) bool {
	r := &d.rows[i]
	at := 0
	for at < Keep && r.coef[at] == 0 {
		at++
	}
	if at == Keep {
		return false
	}
	r.pivot = uint64(at)
	if c := r.coef[at]; c != 1 {
		c = reedsolomon.Inv(c)
		field.GalMulSlice(c, r.coef[:], r.coef[:])
		field.GalMulSlice(c, r.symbol, r.symbol)
	}
	for k := range d.rows {
		if k != i {
			d.eliminate(&d.rows[k], r)
		}
	}
	return true
}

// harvest takes out the equations with one missing source.
func (d *Decoder) harvest() {
	for i := 0; i < len(d.rows); i++ {
		r := &d.rows[i]
		if bytes.Count(r.coef[:], zero) != Keep-1 {
			continue
		}
		newest := d.next - 1
		n := newest - (newest-r.pivot)%Keep
		copy(d.place(n), r.symbol)
		d.rebuilt = append(d.rebuilt, n)
		d.drop(i)
		i--
	}
}

var zero = []byte{0}
