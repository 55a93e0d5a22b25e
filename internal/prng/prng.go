// Package prng gives every part of a machine its own deterministic stream of
// randomness, derived from one seed and a label.
//
// Streams are independent: a draw added in one place moves nothing elsewhere.
// With one shared generator, user activity would shift the timing of cover
// traffic, which is the very leak the network exists to stop. In production
// the seed comes from the operating system; in tests and in the simulator it
// is printed, and repeats the run.
package prng

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"time"
)

// SeedSize is the size of a seed in bytes.
const SeedSize = 32

// Source derives streams. The zero Source is usable but public: its streams
// are the same in every process.
type Source struct {
	seed [SeedSize]byte
}

// New returns the source of a seed.
func New(seed [SeedSize]byte) Source { return Source{seed} }

// FromUint64 returns a source for tests and simulations from a short seed.
func FromUint64(seed uint64) Source {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], seed)
	return Source{sha256.Sum256(append([]byte("nyx prng short seed "), b[:]...))}
}

// Child returns the source of a part, as "node/7" or "route/3".
func (s Source) Child(label string) Source { return Source{s.derive("child", label)} }

// Stream returns the stream of a label. Two calls with one label return two
// streams that yield the same values.
func (s Source) Stream(label string) *Stream {
	return &Stream{rng: *rand.NewChaCha8(s.derive("stream", label))}
}

func (s Source) derive(kind, label string) [SeedSize]byte {
	h := sha256.New()
	h.Write([]byte("nyx prng 1 " + kind + " "))
	h.Write(s.seed[:])
	h.Write([]byte(label))
	var out [SeedSize]byte
	h.Sum(out[:0])
	return out
}

// Stream is one sequence of values from ChaCha8Rand (C2SP), a generator with
// fast key erasure: a later state does not reveal earlier values.
type Stream struct {
	rng rand.ChaCha8
}

// Uint64 returns the next 64 bits.
func (s *Stream) Uint64() uint64 { return s.rng.Uint64() }

// Uint32 returns the next 32 bits.
func (s *Stream) Uint32() uint32 { return uint32(s.rng.Uint64() >> 32) }

// Read fills b; it never fails.
func (s *Stream) Read(b []byte) (int, error) { return s.rng.Read(b) }

// IntN returns a uniform value in [0, n). It panics if n is not positive.
func (s *Stream) IntN(n int) int {
	if n <= 0 {
		panic("prng: IntN of a bound that is not positive")
	}
	return int(s.Uint64N(uint64(n)))
}

// Uint64N returns a uniform value in [0, n) without bias (Lemire 2019).
func (s *Stream) Uint64N(n uint64) uint64 {
	hi, lo := bits.Mul64(s.rng.Uint64(), n)
	if lo < n {
		floor := -n % n
		for lo < floor {
			hi, lo = bits.Mul64(s.rng.Uint64(), n)
		}
	}
	return hi
}

// Shuffle permutes n elements uniformly by swap.
func (s *Stream) Shuffle(n int, swap func(i, j int)) {
	for i := n - 1; i > 0; i-- {
		swap(i, s.IntN(i+1))
	}
}

// Chance reports true with probability parts in a million.
func (s *Stream) Chance(partsPerMillion uint64) bool {
	return s.Uint64N(1_000_000) < partsPerMillion
}

// Exp returns an exponentially distributed duration with the given mean,
// never truncated, in exact integer arithmetic: the same on every processor.
//
// It is von Neumann's method (1951): a value of the exponential distribution
// is k+U, where U is uniform and k counts the failed rounds, a round being a
// run of uniform values that decreases for an even number of steps.
func (s *Stream) Exp(mean time.Duration) time.Duration {
	if mean <= 0 {
		return 0
	}
	for k := uint64(0); ; k++ {
		first := s.rng.Uint64()
		last, steps := first, 0
		for {
			next := s.rng.Uint64()
			if next >= last {
				break
			}
			last = next
			steps++
		}
		if steps%2 == 0 {
			fraction, _ := bits.Mul64(first, uint64(mean))
			return time.Duration(k*uint64(mean) + fraction)
		}
	}
}
