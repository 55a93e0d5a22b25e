package directory

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/seal"
)

func TestDescriptorRoundTrip(t *testing.T) {
	b := testDescriptor(t, 7, RoleEntry|RoleExit, func(n *Node) { n.Exit.Private = true })
	d, err := ParseDescriptor(b)
	if err != nil {
		t.Fatal(err)
	}
	signer := testSigner(t, 7)
	want := testNode(7, RoleEntry|RoleExit)
	want.ID, want.Digest = NodeID(signer.Public()), d.Digest
	want.Exit.Private = true
	want.Link, want.Onion = d.Link, d.Onion
	if !reflect.DeepEqual(&d.Node, want) {
		t.Errorf("got %+v\nwant %+v", d.Node, want)
	}
	if d.Network != testNetwork || !slices.Equal(d.Identity, signer.Public()) {
		t.Errorf("network %q", d.Network)
	}
}

func TestDescriptorRefused(t *testing.T) {
	good := testDescriptor(t, 7, RoleMix, nil)
	var w signedWire
	if err := unmarshal("descriptor", good, &w); err != nil {
		t.Fatal(err)
	}
	resign := func(change func(*bodyWire)) []byte {
		var body bodyWire
		if err := unmarshal("body", w.Body, &body); err != nil {
			t.Fatal(err)
		}
		change(&body)
		b := marshal(&body)
		s, err := testSigner(t, 7).Sign(descriptorContext, b)
		if err != nil {
			t.Fatal(err)
		}
		return marshal(&signedWire{Body: b, Signature: s})
	}
	flip := func(i int) []byte {
		s := slices.Clone(w.Signature)
		s[i] ^= 1
		return marshal(&signedWire{Body: w.Body, Signature: s})
	}
	otherContext, _ := testSigner(t, 7).Sign(documentContext, w.Body)
	lowOrder := testKEM(t, 7)
	for i := range 32 { // an ML-KEM coefficient above the modulus
		lowOrder[32+i] = 0xff
	}
	tests := []struct {
		what string
		b    []byte
		want error
	}{
		{"another identity", resign(func(b *bodyWire) { b.Identity = testSigner(t, 8).Public() }), ErrSignature},
		{"Ed25519 half broken", flip(0), ErrSignature},
		{"ML-DSA half broken", flip(64), ErrSignature},
		{"short signature", marshal(&signedWire{Body: w.Body, Signature: w.Signature[1:]}), ErrSignature},
		{"wrong context", marshal(&signedWire{Body: w.Body, Signature: otherContext}), ErrSignature},
		{"format", resign(func(b *bodyWire) { b.Format = 9 }), ErrMalformed},
		{"identity size", resign(func(b *bodyWire) { b.Identity = b.Identity[1:] }), ErrMalformed},
		{"network name", resign(func(b *bodyWire) { b.Network = "A" }), ErrMalformed},
		{"facts", resign(func(b *bodyWire) { b.Roles = 0 }), ErrMalformed},
		{"link key", resign(func(b *bodyWire) { b.Link = lowOrder }), ErrMalformed},
		{"onion key", resign(func(b *bodyWire) { b.Onion[0].Key = lowOrder }), ErrMalformed},
		{"body", marshal(&signedWire{Body: append(slices.Clone(w.Body), 0), Signature: w.Signature}), ErrMalformed},
		{"size", make([]byte, MaxDescriptorSize+1), ErrSize},
	}
	for _, tt := range tests {
		if _, err := ParseDescriptor(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.what, err, tt.want)
		}
	}
	// Control: the same path without a change is accepted.
	if _, err := ParseDescriptor(resign(func(*bodyWire) {})); err != nil {
		t.Errorf("control: %v", err)
	}
}

func TestDescriptorHasOneEncoding(t *testing.T) {
	b := testDescriptor(t, 7, RoleMix, nil)
	testOneEncoding(t, b, func(b []byte) ([]byte, error) {
		_, w, err := parseUnverified(b)
		if err != nil {
			return nil, err
		}
		return marshal(w), nil
	})
	var w signedWire
	if err := unmarshal("descriptor", b, &w); err != nil {
		t.Fatal(err)
	}
	testOneEncoding(t, w.Body, func(body []byte) ([]byte, error) {
		_, w, err := parseUnverified(marshal(&signedWire{Body: body}))
		if err != nil {
			return nil, err
		}
		return w.Body, nil
	})
}

func TestSignDescriptorRefusesNetwork(t *testing.T) {
	if _, err := SignDescriptor(testSigner(t, 1), "No Name", testNode(1, RoleMix)); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

// The limits hold what the largest valid values need.
func TestLimitsHoldTheLargest(t *testing.T) {
	n := testNode(1, allRoles)
	n.Exit.Ports = manyPorts(MaxPortRanges)
	for i := range n.Exit.Ports {
		n.Exit.Ports[i].First += 1000
		n.Exit.Ports[i].Last += 1000
	}
	long := make([]byte, MaxNameSize)
	for i := range long {
		long[i] = 'x'
	}
	n.Operator, n.Region, n.Label = string(long), string(long), string(long)
	n.Addrs = addrs("[fd00::1]:1000", "[fd00::2]:1000", "[fd00::3]:1000", "[fd00::4]:1000")
	n.Carriers = []Carrier{{CarrierQUIC, 65535, string(long), [32]byte{}}, {CarrierWebSocket, 65535, string(long), [32]byte{}}}
	n.Version, n.Capabilities, n.Capacity = 1<<63, 1<<63, 1<<31
	n.Onion = []OnionKey{{1 << 40, make([]byte, seal.KEMPublicSize)}, {1<<40 + 1, make([]byte, seal.KEMPublicSize)}}
	if size := len(n.Entry()); size > MaxEntrySize {
		t.Errorf("entry of %d bytes", size)
	}
	b, err := SignDescriptor(testSigner(t, 1), string(long), n)
	if err != nil || len(b) > MaxDescriptorSize {
		t.Errorf("descriptor of %d bytes: %v", len(b), err)
	}
}

// BenchmarkParseDescriptor is what an authority pays for a descriptor that comes,
// and for each that it takes up after a restart.
func BenchmarkParseDescriptor(b *testing.B) {
	d := testDescriptor(b, 1, RoleMix, nil)
	for b.Loop() {
		if _, err := ParseDescriptor(d); err != nil {
			b.Fatal(err)
		}
	}
}
