package directory

import (
	"errors"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/seal"
)

func TestProofs(t *testing.T) {
	for n := 1; n <= 20; n++ {
		d := testDocument(t, testNodes(0, n))
		for i := range n {
			entry, proof := d.Prove(i)
			if err := VerifyProof(d.Root, entry, i, n, proof); err != nil {
				t.Fatalf("entry %d of %d: %v", i, n, err)
			}
			bad := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, ErrProof) {
					t.Errorf("entry %d of %d: %s: %v", i, n, what, err)
				}
			}
			changed := slices.Clone(entry)
			changed[len(changed)-1] ^= 1
			bad("changed entry", VerifyProof(d.Root, changed, i, n, proof))
			bad("long proof", VerifyProof(d.Root, entry, i, n, append(slices.Clone(proof), digest{})))
			bad("outside", VerifyProof(d.Root, entry, n, n, proof))
			bad("negative", VerifyProof(d.Root, entry, -1, n, proof))
			bad("too many", VerifyProof(d.Root, entry, i, MaxNodes+1, proof))
			if n > 1 {
				bad("short proof", VerifyProof(d.Root, entry, i, n, proof[1:]))
				p := slices.Clone(proof)
				p[0][0] ^= 1
				bad("changed proof", VerifyProof(d.Root, entry, i, n, p))
				bad("another place", VerifyProof(d.Root, entry, (i+1)%n, n, proof))
			}
		}
	}
}

// The tree keeps leaves and inner nodes apart, and an empty one has a root.
func TestRootsDiffer(t *testing.T) {
	a, b := leafHash([]byte("a")), leafHash([]byte("b"))
	roots := []digest{
		merkleRoot(nil), merkleRoot([]digest{a}), merkleRoot([]digest{b}), merkleRoot([]digest{a, b}),
		merkleRoot([]digest{b, a}), merkleRoot([]digest{a, b, a}), leafHash(slices.Concat(a[:], b[:])),
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
