package directory

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

func TestParamsTime(t *testing.T) {
	p := Params{EpochLength: time.Minute, OnionEpochs: 10}
	for unix, want := range map[int64]uint64{-5: 0, 0: 0, 59: 0, 60: 1, 3600: 60} {
		if got := p.EpochAt(unix); got != want {
			t.Errorf("second %d: epoch %d, want %d", unix, got, want)
		}
	}
	if got := p.Begin(60); got != 3600 {
		t.Errorf("epoch 60 begins at %d", got)
	}
	for epoch, want := range map[uint64]uint64{0: 0, 9: 0, 10: 10, 19: 10} {
		if got := p.OnionFrom(epoch); got != want {
			t.Errorf("epoch %d: period from %d, want %d", epoch, got, want)
		}
	}
	if got := (Params{}).EpochAt(7200); got != 2 {
		t.Errorf("the default epoch is not an hour: %d", got)
	}
}

func TestParamsValue(t *testing.T) {
	p := Params{Named: []Param{{"a", 1}, {"b", -2}}}
	if v, ok := p.Value("b"); !ok || v != -2 {
		t.Errorf("b is %d", v)
	}
	if _, ok := p.Value("c"); ok {
		t.Error("c has a value")
	}
}

func TestHeaderRefused(t *testing.T) {
	tests := []struct {
		change func(*Header)
		want   string
	}{
		{func(h *Header) { h.Network = "" }, `network ""`},
		{func(h *Header) { h.Epoch = epochMax + 1 }, "epoch 1099511627777"},
		{func(h *Header) { h.Threshold = 0 }, "threshold 0 of 3"},
		{func(h *Header) { h.Threshold = 4 }, "threshold 4 of 3"},
		{func(h *Header) { h.Authorities = MaxAuthorities + 1 }, "of 33 authorities"},
		{func(h *Header) { h.ValidFrom++ }, "is not that of epoch"},
		{func(h *Header) { h.ValidUntil++ }, "is not that of epoch"},
		{func(h *Header) { h.Params.EpochLength = 0 }, "epoch length 0s"},
		{func(h *Header) { h.Params.EpochLength = 32 * 24 * time.Hour }, "epoch length 768h"},
		{func(h *Header) { h.Params.OnionEpochs = 0 }, "onion keys for 0"},
		{func(h *Header) { h.Params.OnionEpochs = epochsMax + 1 }, "onion keys for 65537"},
		{func(h *Header) { h.Params.ValidEpochs = 0 }, "valid for 0"},
		{func(h *Header) { h.Params.Named = []Param{{"b", 1}, {"a", 1}} }, `"a" out of order`},
		{func(h *Header) { h.Params.Named = []Param{{"a", 1}, {"a", 1}} }, `"a" out of order`},
		{func(h *Header) { h.Params.Named = []Param{{"A", 1}} }, `parameter "A"`},
		{func(h *Header) { h.Params.Named = make([]Param, MaxParams+1) }, "65 parameters"},
	}
	for i, tt := range tests {
		h := testHeader()
		tt.change(&h)
		_, err := parseHeader(h.encode())
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d: got %v, want %q", i, err, tt.want)
		}
	}
	h := testHeader()
	if _, err := parseHeader(h.encode()); err != nil {
		t.Errorf("control: %v", err)
	}
	h.Count = MaxNodes + 1
	if _, err := parseHeader(h.encode()); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many nodes: %v", err)
	}
}

// fakeSigned is a document with signatures that are none.
func fakeSigned(t *testing.T, signatures int) *Document {
	d := testDocument(t, testNodes(2, 3))
	for i := range signatures {
		d.addSignature(Signature{Authority: digest{byte(i)}, Time: testWall, Bytes: make([]byte, seal.SignatureSize)})
	}
	return d
}

func TestDocumentHasOneEncoding(t *testing.T) {
	again := func(b []byte) ([]byte, error) {
		d, err := ParseDocument(b)
		if err != nil {
			return nil, err
		}
		return d.Encode(), nil
	}
	testOneEncoding(t, fakeSigned(t, 2).Encode(), again)
	testOneEncoding(t, testDocument(t, nil).Encode(), again)
	h := testHeader()
	h.Params.Named = []Param{{"a", 1}, {"b", -1}}
	testOneEncoding(t, h.encode(), func(b []byte) ([]byte, error) {
		h, err := parseHeader(b)
		return h.encode(), err
	})
}

func TestDocumentRefused(t *testing.T) {
	tests := []struct {
		what   string
		change func(*Document)
		want   string
	}{
		{"nodes out of order", func(d *Document) { swapNodes(d); d.reseal() }, "node 1 twice or out of order"},
		{"one node twice", func(d *Document) { d.entries[1] = d.entries[0]; d.reseal() }, "node 1 twice or out of order"},
		{"one node in two regions", func(d *Document) { d.entries[4] = moved(d).Entry(); d.reseal() }, "in two regions"},
		{"another number of buckets", func(d *Document) { d.Buckets++; d.header = d.Header.encode() }, "do not hash to the root"},
		{"nodes swapped under one root", swapNodes, "node 1 twice or out of order"},
		{"node missing", func(d *Document) { d.entries = d.entries[1:] }, "4 nodes, the header says 5"},
		{"node added", func(d *Document) { d.entries = append(d.entries, testNode(99, RoleMix).Entry()) }, "6 nodes, the header says 5"},
		{"node replaced", func(d *Document) { d.entries[4] = testNode(99, RoleMix).Entry() }, "do not hash to the root"},
		{"entry malformed", func(d *Document) { d.entries[2] = []byte{0xa0}; d.reseal() }, "node 2: "},
		{"signatures out of order", func(d *Document) { slices.Reverse(d.signatures) }, "authority twice or out of order"},
		{"authority twice", func(d *Document) { d.signatures[1].Authority = d.signatures[0].Authority }, "authority twice or out of order"},
		{"signature cut", func(d *Document) { d.signatures[1].Bytes = d.signatures[1].Bytes[1:] }, "signature 1: wrong size"},
		{"signature before 1970", func(d *Document) { d.signatures[1].Time = -1 }, "signature 1: wrong size or time"},
		{"header", func(d *Document) { d.header = []byte{0xa0} }, "header"},
	}
	for _, tt := range tests {
		d := fakeSigned(t, 2)
		tt.change(d)
		_, err := ParseDocument(d.Encode())
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.what, err, tt.want)
		}
	}
	if _, err := ParseDocument(fakeSigned(t, 2).Encode()); err != nil {
		t.Errorf("control: %v", err)
	}
	many := fakeSigned(t, MaxAuthorities+1)
	if _, err := ParseDocument(many.Encode()); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many signatures: %v", err)
	}
}

func swapNodes(d *Document) { d.entries[0], d.entries[1] = d.entries[1], d.entries[0] }

// moved is the first node of a document in a later region.
func moved(d *Document) *Node {
	n := *d.Nodes[0]
	n.Region = "zz"
	return &n
}

// reseal makes the header that goes with the entries as they are.
func (d *Document) reseal() {
	var nodes []*Node
	for _, e := range d.entries {
		if n, err := ParseEntry(e); err == nil {
			nodes = append(nodes, n)
		}
	}
	if d.Count = len(d.entries); len(nodes) == len(d.entries) {
		d.rows = tableOf(nodes, d.entries)
	}
	d.Buckets, d.Root = len(d.rows), merkleRoot(rowLeaves(d.rows))
	d.header = d.Header.encode()
}

func TestFutureFormatIsNamed(t *testing.T) {
	h := testHeader()
	b := h.encode()
	b[2] = DocumentFormat + 1 // the value of key 1
	if _, err := parseHeader(b); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("got %v", err)
	}
}

func TestDocumentSizeBound(t *testing.T) {
	if _, err := ParseDocument(make([]byte, MaxDocumentSize+1)); !errors.Is(err, ErrSize) {
		t.Errorf("got %v", err)
	}
}

func TestMerge(t *testing.T) {
	a, b := fakeSigned(t, 1), fakeSigned(t, 3)
	b.signatures[0].Time++
	if err := a.Merge(b); err != nil {
		t.Fatal(err)
	}
	if got := a.Signatures(); len(got) != 3 || got[0].Time != testWall+1 {
		t.Errorf("%d signatures, the first of %d", len(got), got[0].Time)
	}
	if err := b.Merge(fakeSigned(t, 1)); err != nil || b.signatures[0].Time != testWall+1 {
		t.Errorf("an earlier signature replaced a later: %v", err)
	}
	other := fakeSigned(t, 1)
	other.Revision++
	other.reseal()
	if err := a.Merge(other); !errors.Is(err, ErrConflict) {
		t.Errorf("another document merges: %v", err)
	}
}
