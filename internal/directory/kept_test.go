package directory

import (
	"bytes"
	"errors"
	"testing"

	"github.com/nyxnet/nyx/internal/seal"
)

// A kept descriptor is known by the document that rests on it, and any other is
// checked as if it came from its node.
func TestKeptDescriptors(t *testing.T) {
	signer, other := testSigner(t, 1000), testSigner(t, 1001)
	a, err := NewAuthority(AuthorityConfig{Network: testNetwork, Signer: signer, Threshold: 1, Authorities: 1})
	if err != nil {
		t.Fatal(err)
	}
	kept := testDescriptor(t, 1, RoleMix, nil)
	if _, err := a.Collect(kept, testWall); err != nil {
		t.Fatal(err)
	}
	d, err := a.Build(testEpoch, 0)
	if err != nil {
		t.Fatal(err)
	}
	if d.SignedBy(signer.Public()) {
		t.Error("a document that nobody signed")
	}
	if err := a.Sign(d, testWall); err != nil {
		t.Fatal(err)
	}
	if !d.SignedBy(signer.Public()) || d.SignedBy(other.Public()) {
		t.Error("it is not known who signed the document")
	}
	if _, known, err := ParseKept(kept, d); !known || err != nil {
		t.Errorf("known %v, %v", known, err)
	}
	if _, known, err := ParseKept(kept, nil); known || err != nil {
		t.Errorf("without a document: known %v, %v", known, err)
	}
	if _, known, err := ParseKept(testDescriptor(t, 2, RoleMix, nil), d); known || err != nil {
		t.Errorf("of a node that is not in it: known %v, %v", known, err)
	}
	signature := len(kept) - seal.SignatureSize
	for i := 0; i < len(kept); i += 7 {
		b := bytes.Clone(kept)
		b[i] ^= 1
		_, known, err := ParseKept(b, d)
		if i >= signature { // which was checked when the body was, and is needed no more
			if !known || err != nil {
				t.Fatalf("byte %d of the signature: known %v, %v", i-signature, known, err)
			}
		} else if known || err == nil {
			t.Fatalf("byte %d was changed: known %v, %v", i, known, err)
		}
	}
	if _, _, err := ParseKept(kept[:100], d); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}
