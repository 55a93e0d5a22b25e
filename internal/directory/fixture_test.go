package directory

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

const testNetwork = "testnet"

// testEpoch begins at testWall.
const testEpoch = 500_000

var testWall = Params{}.Begin(testEpoch)

var hour = int64(time.Hour / time.Second)

func testSigner(t testing.TB, seed uint64) *seal.Signer {
	t.Helper()
	var b [seal.SignSeedSize]byte
	prng.FromUint64(seed).Stream("signer").Read(b[:])
	s, err := seal.NewSigner(&b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testKEM(t testing.TB, seed uint64) []byte {
	t.Helper()
	var b [seal.KEMSeedSize]byte
	prng.FromUint64(seed).Stream("kem").Read(b[:])
	k, err := seal.NewKEMPrivate(&b)
	if err != nil {
		t.Fatal(err)
	}
	return k.Public().Bytes()
}

// testNode is the i-th node: an own operator, an own network.
func testNode(i int, roles Roles) *Node {
	n := &Node{
		Version:  uint64(testWall) - 60,
		Roles:    roles,
		Addrs:    []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 9000)},
		Operator: fmt.Sprintf("operator-%d", i),
		Region:   "eu",
		Label:    fmt.Sprintf("lan-%d", i),
		Link:     make([]byte, seal.KEMPublicSize),
		Onion:    []OnionKey{{Epoch: Params{}.OnionFrom(testEpoch), Key: make([]byte, seal.KEMPublicSize)}},
		Capacity: 100,
	}
	binary.BigEndian.PutUint64(n.ID[:], uint64(i+1))
	if roles.Has(RoleExit) {
		n.Exit.Ports = []PortRange{{1, 65535}}
	}
	return n
}

// testNodes is a network with each node its own operator and network.
func testNodes(stream, mix int) []*Node {
	var nodes []*Node
	for i := range stream + mix {
		roles := RoleMix
		if i < stream {
			roles = RoleEntry | RoleExit | RoleMeeting
		}
		nodes = append(nodes, testNode(i, roles))
	}
	return nodes
}

// testHeader is the header of a document of the test network.
func testHeader() Header {
	p := Params{}.withDefaults()
	return Header{
		Network: testNetwork, Epoch: testEpoch, Params: p,
		ValidFrom: p.Begin(testEpoch), ValidUntil: p.Begin(testEpoch + uint64(p.ValidEpochs)),
		Threshold: 2, Authorities: 3,
	}
}

func testDocument(t testing.TB, nodes []*Node) *Document {
	t.Helper()
	slices.SortFunc(nodes, func(a, b *Node) int { return compareID(a.ID, b.ID) })
	d, err := newDocument(testHeader(), nodes)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func testView(t testing.TB, nodes []*Node) *View {
	t.Helper()
	v, err := NewView(testDocument(t, nodes))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// authorities are k-of-n authorities over the same real descriptors.
type authorities struct {
	all   []*Authority
	trust Trust
}

func testAuthorities(t testing.TB, k, n int, descriptors ...[]byte) *authorities {
	t.Helper()
	a := &authorities{trust: Trust{Network: testNetwork, Threshold: k}}
	for i := range n {
		signer := testSigner(t, 1000+uint64(i))
		one, err := NewAuthority(AuthorityConfig{Network: testNetwork, Signer: signer, Threshold: k, Authorities: n})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range descriptors {
			if _, err := one.Collect(d, testWall); err != nil {
				t.Fatal(err)
			}
		}
		a.all = append(a.all, one)
		a.trust.Authorities = append(a.trust.Authorities, signer.Public())
	}
	return a
}

// document is a document signed by the given authorities at the given time.
func (a *authorities) document(t testing.TB, epoch uint64, revision uint32, at int64, by ...int) *Document {
	t.Helper()
	d, err := a.all[0].Build(epoch, revision)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range by {
		if err := a.all[i].Sign(d, at); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// testDescriptor is a signed descriptor with real keys.
func testDescriptor(t testing.TB, i int, roles Roles, change func(*Node)) []byte {
	t.Helper()
	n := testNode(i, roles)
	n.Link = testKEM(t, uint64(i))
	n.Onion[0].Key = testKEM(t, uint64(i)+1<<32)
	if change != nil {
		change(n)
	}
	b, err := SignDescriptor(testSigner(t, uint64(i)), testNetwork, n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func id(i int) wire.NodeID {
	var out wire.NodeID
	binary.BigEndian.PutUint64(out[:], uint64(i+1))
	return out
}
