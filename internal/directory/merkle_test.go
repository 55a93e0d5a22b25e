package directory

import (
	"errors"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/seal"
)

func TestProofs(t *testing.T) {
	for n := 1; n <= 20; n++ {
		leaves := make([]digest, n)
		for i := range leaves {
			leaves[i] = leafHash([]byte{byte(i)})
		}
		root := merkleRoot(leaves)
		for i, leaf := range leaves {
			proof := prove(nil, leaves, i)
			if err := verifyProof(root, leaf, i, n, proof); err != nil {
				t.Fatalf("leaf %d of %d: %v", i, n, err)
			}
			bad := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, ErrProof) {
					t.Errorf("leaf %d of %d: %s: %v", i, n, what, err)
				}
			}
			bad("changed leaf", verifyProof(root, leafHash(nil), i, n, proof))
			bad("long proof", verifyProof(root, leaf, i, n, append(slices.Clone(proof), digest{})))
			bad("outside", verifyProof(root, leaf, n, n, proof))
			bad("negative", verifyProof(root, leaf, -1, n, proof))
			if n > 1 {
				bad("short proof", verifyProof(root, leaf, i, n, proof[1:]))
				p := slices.Clone(proof)
				p[0][0] ^= 1
				bad("changed proof", verifyProof(root, leaf, i, n, p))
				bad("another place", verifyProof(root, leaf, (i+1)%n, n, proof))
			}
		}
	}
}

// The tree keeps leaves and inner nodes apart, and an empty one has a root.
func TestRootsDiffer(t *testing.T) {
	a, b := leafHash([]byte("a")), leafHash([]byte("b"))
	roots := []digest{
		merkleRoot(nil), merkleRoot([]digest{a}), merkleRoot([]digest{b}), merkleRoot([]digest{a, b}),
		merkleRoot([]digest{b, a}), merkleRoot([]digest{a, b, a}), leafHash(slices.Concat(a[:], b[:])), rowHash([]byte("a")),
	}
	for i, r := range roots {
		if slices.Contains(roots[:i], r) {
			t.Errorf("root %d twice", i)
		}
	}
	if merkleRoot([]digest{a, b}) != seal.Hash("directory inner", a[:], b[:]) {
		t.Error("the root of two is not their inner node")
	}
}
