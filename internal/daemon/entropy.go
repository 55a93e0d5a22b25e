package daemon

import (
	"crypto/rand"

	"github.com/nyxnet/nyx/internal/prng"
)

// systemEntropy is a source seeded by the operating system. Package daemon is
// where randomness enters a process; everything below is given it.
func systemEntropy() prng.Source {
	var seed [prng.SeedSize]byte
	rand.Read(seed[:]) // never fails (crypto/rand)
	return prng.New(seed)
}

// Entropy is such a source for what a program runs beside what daemon assembles.
func Entropy() prng.Source { return systemEntropy() }
