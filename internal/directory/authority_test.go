package directory

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

// Authorities that hold equal descriptors make equal documents, whatever the
// order in which the descriptors came, and whichever came twice.
func TestEqualDescriptorsEqualDocuments(t *testing.T) {
	var descriptors [][]byte
	for i := range 8 {
		descriptors = append(descriptors, testDescriptor(t, i, RoleMix, nil))
	}
	old := testDescriptor(t, 3, RoleMix, func(n *Node) { n.Version -= 100; n.Capacity = 7 })
	twin := testDescriptor(t, 4, RoleMix, func(n *Node) { n.Capacity = 7 }) // same version, other body
	descriptors = append(descriptors, old, twin, descriptors[5])
	var first *Document
	for seed := range uint64(6) {
		prng.FromUint64(seed).Stream("order").Shuffle(len(descriptors), func(i, j int) {
			descriptors[i], descriptors[j] = descriptors[j], descriptors[i]
		})
		a := testAuthorities(t, 1, 1)
		for _, d := range descriptors {
			if _, err := a.all[0].Collect(d, testWall); err != nil && !errors.Is(err, ErrStale) {
				t.Fatal(err)
			}
		}
		d := a.document(t, testEpoch, 0, testWall)
		if first == nil {
			first = d
		}
		if !bytes.Equal(d.Encode(), first.Encode()) {
			t.Fatalf("order %d makes another document", seed)
		}
	}
	if first.Count != 8 {
		t.Errorf("%d nodes", first.Count)
	}
	if !slices.IsSortedFunc(first.Nodes, func(a, b *Node) int { return compareID(a.ID, b.ID) }) {
		t.Error("nodes are not sorted")
	}
}

func TestCollectRefuses(t *testing.T) {
	good := testDescriptor(t, 1, RoleMix, nil)
	collect := func(cfg AuthorityConfig, wall int64, descriptors ...[]byte) error {
		t.Helper()
		cfg.Network, cfg.Signer, cfg.Threshold, cfg.Authorities = testNetwork, testSigner(t, 1000), 1, 1
		a, err := NewAuthority(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var last error
		for _, d := range descriptors {
			_, last = a.Collect(d, wall)
		}
		return last
	}
	other, err := SignDescriptor(testSigner(t, 1), "other", testNode(1, RoleMix))
	if err != nil {
		t.Fatal(err)
	}
	var w signedWire
	if err := unmarshal("descriptor", good, &w); err != nil {
		t.Fatal(err)
	}
	w.Signature[0] ^= 1
	forged := marshal(&w)
	refuse := AuthorityConfig{Admit: func(d *Descriptor) error { return fmt.Errorf("not on the list") }}
	version := uint64(testWall) - 60
	at := func(v uint64) []byte { return testDescriptor(t, 1, RoleMix, func(n *Node) { n.Version = v }) }
	age := int64(DescriptorAgeMax.Seconds())

	wantError(t, "other network", collect(AuthorityConfig{}, testWall, other), ErrNetwork, `for "other"`)
	wantError(t, "malformed", collect(AuthorityConfig{}, testWall, good[1:]), ErrMalformed, "")
	wantError(t, "forged", collect(AuthorityConfig{}, testWall, forged), ErrSignature, "")
	wantError(t, "not admitted", collect(refuse, testWall, good), ErrRefused, "not on the list")
	wantError(t, "not admitted before its signature is looked at", collect(refuse, testWall, forged), ErrRefused, "")
	wantError(t, "from the future", collect(AuthorityConfig{}, int64(version)-hour-1, good), ErrStale, "")
	wantError(t, "too old", collect(AuthorityConfig{}, int64(version)+age+1, good), ErrStale, "")
	wantError(t, "older than held", collect(AuthorityConfig{}, testWall, good, at(version-1)), ErrStale, "after")
	wantError(t, "full", collect(AuthorityConfig{NodesMax: 1}, testWall, good, testDescriptor(t, 2, RoleMix, nil)), ErrFull, "1 descriptors held")
	for what, err := range map[string]error{
		"good":             collect(AuthorityConfig{}, testWall, good),
		"an hour ahead":    collect(AuthorityConfig{}, int64(version)-hour, good),
		"as old as may be": collect(AuthorityConfig{}, int64(version)+age, good),
		"newer":            collect(AuthorityConfig{NodesMax: 1}, testWall, good, at(version+1)),
		"again":            collect(AuthorityConfig{}, testWall, good, good),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	a, err := NewAuthority(AuthorityConfig{Network: testNetwork, Signer: testSigner(t, 1000), Threshold: 1, Authorities: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range [][]byte{good, good, at(version + 1), at(version + 1)} {
		if changed, err := a.Collect(d, testWall); changed != (i%2 == 0) || err != nil {
			t.Errorf("descriptor %d: changed %v, %v", i, changed, err)
		}
	}
}

func TestNewAuthorityRefuses(t *testing.T) {
	good := AuthorityConfig{Network: testNetwork, Signer: testSigner(t, 1), Threshold: 1, Authorities: 1}
	for what, change := range map[string]func(*AuthorityConfig){
		"network":    func(c *AuthorityConfig) { c.Network = "" },
		"threshold":  func(c *AuthorityConfig) { c.Threshold = 2 },
		"key":        func(c *AuthorityConfig) { c.Signer = nil },
		"limit":      func(c *AuthorityConfig) { c.NodesMax = MaxNodes + 1 },
		"parameters": func(c *AuthorityConfig) { c.Params.OnionEpochs = epochsMax + 1 },
	} {
		c := good
		change(&c)
		if _, err := NewAuthority(c); !errors.Is(err, ErrTrust) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if a, err := NewAuthority(good); err != nil || a.Params().EpochLength != DefaultEpochLength {
		t.Errorf("control: %v", err)
	}
}

// Only nodes with a fresh descriptor and an onion key in time are in a
// document.
func TestBuildSelects(t *testing.T) {
	key := testKEM(t, 5)
	onion := func(epochs ...uint64) func(*Node) {
		return func(n *Node) {
			n.Onion = nil
			for _, e := range epochs {
				n.Onion = append(n.Onion, OnionKey{Epoch: e, Key: key})
			}
		}
	}
	tests := []struct {
		what   string
		change func(*Node)
		in     bool
	}{
		{"current key", nil, true},
		{"current and next", onion(testEpoch, testEpoch+24), true},
		{"key from now", onion(testEpoch), true},
		{"key of the future only", onion(testEpoch + 1), false},
		{"key almost overdue", onion(testEpoch - 47), true},
		{"key overdue", onion(testEpoch - 48), false},
		{"two keys, the second begun", onion(testEpoch-100, testEpoch-1), true},
	}
	for _, tt := range tests {
		a := testAuthorities(t, 1, 1, testDescriptor(t, 1, RoleMix, tt.change))
		if d := a.document(t, testEpoch, 0, testWall); (d.Count == 1) != tt.in {
			t.Errorf("%s: %d nodes", tt.what, d.Count)
		}
	}
	a := testAuthorities(t, 1, 1, testDescriptor(t, 1, RoleMix, onion(testEpoch, testEpoch+40)))
	if d := a.document(t, testEpoch+50, 0, testWall); d.Count != 0 {
		t.Error("a descriptor older than two days is in the document")
	}
	if d := a.document(t, testEpoch+47, 0, testWall); d.Count != 1 {
		t.Error("a descriptor of yesterday is not in the document")
	}
	a.all[0].Forget(testWall)
	if a.all[0].Len() != 1 {
		t.Error("a fresh descriptor is forgotten")
	}
	a.all[0].Forget(testWall + 49*hour)
	if a.all[0].Len() != 0 {
		t.Error("an old descriptor is not forgotten")
	}
}

func TestCapacityIsBounded(t *testing.T) {
	a, err := NewAuthority(AuthorityConfig{
		Network: testNetwork, Signer: testSigner(t, 1), Threshold: 1, Authorities: 1,
		Params: Params{Named: []Param{{ParamCapacityMax, 50}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Collect(testDescriptor(t, 1, RoleMix, nil), testWall); err != nil {
		t.Fatal(err)
	}
	d, err := a.Build(testEpoch, 0)
	if err != nil || d.Nodes[0].Capacity != 50 {
		t.Errorf("capacity %d: %v", d.Nodes[0].Capacity, err)
	}
	if again, err := a.Build(testEpoch, 0); err != nil || again.Hash() != d.Hash() {
		t.Errorf("built twice, it differs: %v", err)
	}
}

func TestRegionsAreBounded(t *testing.T) {
	var nodes []*Node
	for i := range 200 {
		n := testNode(i, RoleMix)
		n.Region = fmt.Sprintf("region-%d", i%100)
		if i < 30 {
			n.Region = "eu"
		}
		nodes = append(nodes, n)
	}
	kept := boundRegions(slices.Clone(nodes))
	regions := map[string]int{}
	for _, n := range kept {
		regions[n.Region]++
	}
	if len(regions) != MaxRegions || regions["eu"] != 30 {
		t.Errorf("%d regions, %d nodes in eu", len(regions), regions["eu"])
	}
	testView(t, kept)
	if _, err := NewView(testDocument(t, nodes)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a view of more regions: %v", err)
	}
}

// An authority signs only what it would build itself.
func TestSignRefusesForeign(t *testing.T) {
	a := testAuthorities(t, 2, 2, testDescriptor(t, 1, RoleMix, nil))
	d := a.document(t, testEpoch, 0, testWall, 0)
	if _, err := a.all[1].Collect(testDescriptor(t, 2, RoleMix, nil), testWall); err != nil {
		t.Fatal(err)
	}
	wantError(t, "other nodes", a.all[1].Sign(d, testWall), ErrConflict, "not what this authority builds")
	if len(d.signatures) != 1 {
		t.Error("signed all the same")
	}
}

// A document does not grow past its bound.
func TestDocumentIsBounded(t *testing.T) {
	if _, err := newDocument(testHeader(), make([]*Node, MaxNodes+1)); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	h := testHeader()
	h.Threshold = 0
	if _, err := newDocument(h, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

// A KEM key is checked by the authority, so that clients need not check all.
func TestLazyKeys(t *testing.T) {
	n := testNode(0, RoleMix)
	n.Link = make([]byte, seal.KEMPublicSize)
	for i := range n.Link {
		n.Link[i] = 0xff
	}
	v := testView(t, []*Node{n})
	if _, ok := v.Link(n.ID); ok {
		t.Error("a malformed link key is a key")
	}
}

// A document is built anew when descriptors have come or gone, and of what it
// was built of when they have not.
func TestBuildFollowsTheDescriptors(t *testing.T) {
	a := testAuthorities(t, 1, 1, testDescriptor(t, 1, RoleMix, nil)).all[0]
	build := func(epoch uint64, revision uint32, nodes int) *Document {
		t.Helper()
		d, err := a.Build(epoch, revision)
		if err != nil {
			t.Fatal(err)
		}
		if d.Epoch != epoch || d.Revision != revision || d.Count != nodes || len(d.Nodes) != nodes {
			t.Errorf("epoch %d revision %d with %d nodes, want %d, %d and %d", d.Epoch, d.Revision, d.Count, epoch, revision, nodes)
		}
		if again, err := ParseDocument(d.Encode()); err != nil || again.Hash() != d.Hash() {
			t.Error(err)
		}
		return d
	}
	first := build(testEpoch, 0, 1)
	if err := a.Sign(first, testWall); err != nil {
		t.Fatal(err)
	}
	if again := build(testEpoch, 0, 1); again.Hash() != first.Hash() || len(again.Signatures()) != 0 {
		t.Error("built twice, it differs")
	}
	build(testEpoch, 1, 1)
	build(testEpoch+1, 0, 1)
	if _, err := a.Collect(testDescriptor(t, 2, RoleMix, nil), testWall); err != nil {
		t.Fatal(err)
	}
	build(testEpoch+1, 0, 2)
	a.Forget(testWall + 49*hour)
	build(testEpoch+1, 0, 0)
}

// A proposal is the header and the signatures, and nothing else is one.
func TestProposalsHaveNoNodes(t *testing.T) {
	a := testAuthorities(t, 2, 2, testDescriptor(t, 1, RoleMix, nil))
	d := a.document(t, testEpoch, 0, testWall, 0)
	p, err := ParseProposal(d.Proposal())
	if err != nil || p.Hash() != d.Hash() || p.KeepValid(&a.trust) != 1 {
		t.Fatal(p, err)
	}
	if err := a.all[1].Sign(p, testWall); err != nil {
		t.Fatal(err)
	}
	if err := d.Merge(p); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(d.Encode(), &a.trust, testWall); err != nil {
		t.Error(err)
	}
	_, err = ParseProposal(d.Encode())
	wantError(t, "a whole document", err, ErrMalformed, "brings 1 nodes")
	_, err = ParseProposal(make([]byte, MaxProposalSize+1))
	wantError(t, "too large", err, ErrSize, "")
	_, err = Verify(d.Proposal(), &a.trust, testWall)
	wantError(t, "a proposal as a document", err, ErrMalformed, "0 nodes, the header says 1")
}
