// Package fec is erasure coding on shards of equal size: Reed–Solomon over
// GF(2^8), systematic, so that the data shards travel as they are. It is pure:
// no goroutine, no state that outlives a call.
//
// The code is the Vandermonde-derived one of klauspost/reedsolomon with its
// default matrix; docs/protocol.md, section 5, fixes it by a test vector.
package fec

import (
	"errors"

	"github.com/klauspost/reedsolomon"
)

// ErrShards means that fewer shards are present than there are data shards, or
// that their sizes differ.
var ErrShards = errors.New("fec: too few shards, or shards of unequal size")

// Code is a code of a fixed number of data and parity shards. It may be used
// by several goroutines at once.
type Code struct {
	encoder      reedsolomon.Encoder
	data, parity int
}

// New returns the code of data + parity shards; it panics if there is no such
// code (both positive, at most 256 together).
func New(data, parity int) *Code {
	encoder, err := reedsolomon.New(data, parity,
		reedsolomon.WithMaxGoroutines(1), reedsolomon.WithInversionCache(false))
	if err != nil {
		panic("fec: no code of these sizes: " + err.Error())
	}
	return &Code{encoder, data, parity}
}

// Encode fills the parity shards from the data shards: shards holds all of
// them, data first, each allocated and of one size.
func (c *Code) Encode(shards [][]byte) error {
	if len(shards) != c.data+c.parity || c.encoder.Encode(shards) != nil {
		return ErrShards
	}
	return nil
}

// Rebuild fills the missing data shards. A missing shard has length zero; if
// it has the capacity, it is filled in place. Missing parity stays missing.
func (c *Code) Rebuild(shards [][]byte) error {
	if len(shards) != c.data+c.parity || c.encoder.ReconstructData(shards) != nil {
		return ErrShards
	}
	return nil
}
