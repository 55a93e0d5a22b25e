package aggregate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Aggregates are kept and handed on as
//
//	[version 1][start 8][seconds 4][refused v][keys v], each
//	[name length 1][name][region length 1][region][class 2]
//	[sum 8][min v][max − min v][first bin v][bins v][count of each bin v]
//
// v is an unsigned LEB128 in its shortest form, all else is big-endian. Keys ascend;
// the first and the last bin are not empty and are those of min and max. The count
// is the sum of the bins' and is not written.

// ErrMalformed means that bytes are no aggregate, or one in another encoding than
// the one that it has.
var ErrMalformed = errors.New("aggregate: malformed")

const version = 1

// Append appends the encoding of a.
func (a *Aggregate) Append(b []byte) []byte {
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, uint64(a.Start))
	b = binary.BigEndian.AppendUint32(b, uint32(a.Seconds))
	b = binary.AppendUvarint(b, a.Refused)
	keys := a.Keys()
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, k := range keys {
		b = append(append(b, byte(len(k.Name))), k.Name...)
		b = append(append(b, byte(len(k.Region))), k.Region...)
		b = binary.BigEndian.AppendUint16(b, k.Class)
		b = a.sketches[k].append(b)
	}
	return b
}

func (s *Sketch) append(b []byte) []byte {
	first, last := binOf(s.Min), binOf(s.Max)
	b = binary.BigEndian.AppendUint64(b, s.Sum)
	b = binary.AppendUvarint(b, s.Min)
	b = binary.AppendUvarint(b, s.Max-s.Min)
	b = binary.AppendUvarint(b, uint64(first))
	b = binary.AppendUvarint(b, uint64(last-first+1))
	for _, n := range s.bins[first-s.first : last-s.first+1] {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// Parse reads an aggregate, all of b. Nothing of b is kept.
func Parse(b []byte) (*Aggregate, error) {
	if len(b) > bytesMax {
		return nil, fmt.Errorf("%w: %d bytes, not up to %d", ErrMalformed, len(b), bytesMax)
	}
	r := reader{b: b}
	if r.byte() != version {
		return nil, fmt.Errorf("%w: not of version %d", ErrMalformed, version)
	}
	a := New(Span{Start: int64(r.uint64()), Seconds: int64(r.uint32())})
	a.Refused = r.uvarint()
	count := r.uvarint()
	var last Key
	for i := uint64(0); i < count && !r.bad && i <= KeysMax; i++ {
		k := Key{Name: r.name(), Region: r.name(), Class: r.uint16()}
		if k.Name == "" || i > 0 && last.compare(k) >= 0 {
			r.bad = true
		}
		last = k
		a.sketches[k] = r.sketch()
	}
	if r.bad || count > KeysMax || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: cut short, out of order, or not in its one encoding", ErrMalformed)
	}
	return a, nil
}

// reader takes values from the front of b. After the first that is not there, bad
// stands and all others are 0.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || n > 1 && r.b[n-1] == 0 { // a last byte of 0 says nothing
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) name() string {
	n := int(r.byte())
	if n > nameMax {
		r.bad = true
		return ""
	}
	return string(r.take(n))
}

func (r *reader) sketch() *Sketch {
	s := &Sketch{Sum: r.uint64(), Min: r.uvarint()}
	span := r.uvarint()
	s.Max = s.Min + span
	first, n := r.uvarint(), r.uvarint()
	if r.bad || span > math.MaxUint64-s.Min || n == 0 || n > uint64(len(r.b)) ||
		first != uint64(binOf(s.Min)) || first+n-1 != uint64(binOf(s.Max)) {
		r.bad = true
		return s
	}
	s.first, s.bins = int(first), make([]uint64, n)
	for i := range s.bins {
		s.bins[i] = r.uvarint()
		if s.bins[i] > math.MaxUint64-s.Count {
			r.bad = true
		}
		s.Count += s.bins[i]
	}
	if s.bins[0] == 0 || s.bins[n-1] == 0 {
		r.bad = true
	}
	return s
}
