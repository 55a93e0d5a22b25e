package directory

import (
	"reflect"
	"strings"
	"testing"
)

func testCarriers() []Carrier {
	return []Carrier{
		{Kind: CarrierQUIC, Port: 443, Name: "www.example.com", Pin: [32]byte{1}},
		{Kind: CarrierWebSocket, Port: 443, Pin: [32]byte{2}},
	}
}

func TestCarriersRoundTrip(t *testing.T) {
	d, err := ParseDescriptor(testDescriptor(t, 7, RoleEntry, func(n *Node) { n.Carriers = testCarriers() }))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(d.Carriers, testCarriers()) {
		t.Errorf("descriptor has %v", d.Carriers)
	}
	n, err := ParseEntry(d.Entry())
	if err != nil || !reflect.DeepEqual(n.Carriers, testCarriers()) {
		t.Errorf("entry has %v, %v", n, err)
	}
	testOneEncoding(t, d.Entry(), func(b []byte) ([]byte, error) {
		n, err := ParseEntry(b)
		if err != nil {
			return nil, err
		}
		return n.Entry(), nil
	})
}

// Each of format 1 and 2 says one thing: a node has one encoding.
func TestCarriersDecideTheFormat(t *testing.T) {
	for name, change := range map[string]func(*entryWire){
		"format 1 with carriers":    func(w *entryWire) { w.Format = Format },
		"format 2 without carriers": func(w *entryWire) { w.Carriers = nil },
		"short pin":                 func(w *entryWire) { w.Carriers[0].Pin = w.Carriers[0].Pin[1:] },
		"control":                   nil,
	} {
		n := testNode(1, RoleEntry)
		n.Carriers = testCarriers()
		w := entryWire{Format: FormatCarriers, ID: n.ID[:], facts: factsOf(n), Digest: n.Digest[:]}
		if change != nil {
			change(&w)
		}
		if _, err := ParseEntry(marshal(&w)); (err == nil) != (change == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCarriersCheck(t *testing.T) {
	for _, tt := range []struct {
		change func(*Node)
		want   string // "" means accepted
	}{
		{func(n *Node) {}, ""},
		{func(n *Node) { n.Carriers = n.Carriers[1:] }, ""},
		{func(n *Node) { n.Roles = RoleMix }, "no entry"},
		{func(n *Node) { n.Carriers[1].Kind = CarrierQUIC }, "out of order"},
		{func(n *Node) { n.Carriers[1].Kind = 3 }, "kind 3"},
		{func(n *Node) { n.Carriers[0].Kind = 0 }, "kind 0"},
		{func(n *Node) { n.Carriers[0].Port = 0 }, "without a port"},
		{func(n *Node) { n.Carriers[0].Name = "WWW.example.com" }, "server name"},
	} {
		n := testNode(1, RoleEntry)
		n.Carriers = testCarriers()
		tt.change(n)
		if err := n.check(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

func TestCarrierNames(t *testing.T) {
	for _, k := range []CarrierKind{CarrierQUIC, CarrierWebSocket} {
		if got, ok := ParseCarrier(k.String()); !ok || got != k {
			t.Errorf("%v is read as %v", k, got)
		}
	}
	for _, s := range []string{"", "udp", "unknown"} {
		if k, ok := ParseCarrier(s); ok {
			t.Errorf("%q is read as %v", s, k)
		}
	}
}
