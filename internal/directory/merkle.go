package directory

import (
	"fmt"
	"math/bits"

	"github.com/nyxnet/nyx/internal/seal"
)

// The trees, over the entries of a bucket and over the rows of the table, have
// the shape of RFC 6962, section 2.1: a tree of n > 1 leaves splits at the
// largest power of two below n. Labels keep entries, rows and inner nodes apart.

type digest = [seal.HashSize]byte

func leafHash(entry []byte) digest { return seal.Hash("directory leaf", entry) }

func rowHash(row []byte) digest { return seal.Hash("directory row", row) }

func innerHash(left, right digest) digest { return seal.Hash("directory inner", left[:], right[:]) }

func emptyRoot() digest { return seal.Hash("directory empty") }

func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// merkleRoot returns the root over the leaves.
func merkleRoot(leaves []digest) digest {
	switch len(leaves) {
	case 0:
		return emptyRoot()
	case 1:
		return leaves[0]
	}
	k := split(len(leaves))
	return innerHash(merkleRoot(leaves[:k]), merkleRoot(leaves[k:]))
}

// prove appends the hashes beside the way from leaf i to the root, the lowest
// first.
func prove(proof []digest, leaves []digest, i int) []digest {
	if len(leaves) <= 1 {
		return proof
	}
	k := split(len(leaves))
	if i < k {
		return append(prove(proof, leaves[:k], i), merkleRoot(leaves[k:]))
	}
	return append(prove(proof, leaves[k:], i-k), merkleRoot(leaves[:k]))
}

// verifyProof checks that leaf is the i-th of n under root.
func verifyProof(root, leaf digest, i, n int, proof []digest) error {
	if i < 0 || i >= n {
		return fmt.Errorf("%w: bucket %d of %d", ErrProof, i, n)
	}
	got, rest, ok := climb(leaf, i, n, proof)
	if !ok || len(rest) != 0 || got != root {
		return fmt.Errorf("%w: bucket %d of %d", ErrProof, i, n)
	}
	return nil
}

func climb(leaf digest, i, n int, proof []digest) (root digest, rest []digest, ok bool) {
	if n == 1 {
		return leaf, proof, true
	}
	k := split(n)
	var below digest
	if i < k {
		below, rest, ok = climb(leaf, i, k, proof)
	} else {
		below, rest, ok = climb(leaf, i-k, n-k, proof)
	}
	if !ok || len(rest) == 0 {
		return digest{}, nil, false
	}
	if i < k {
		return innerHash(below, rest[0]), rest[1:], true
	}
	return innerHash(rest[0], below), rest[1:], true
}
