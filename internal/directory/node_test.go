package directory

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/seal"
)

func TestNodeCheck(t *testing.T) {
	key := make([]byte, seal.KEMPublicSize)
	tests := []struct {
		change func(*Node)
		want   string // "" means accepted
	}{
		{func(n *Node) {}, ""},
		{func(n *Node) { n.Roles = 0 }, "roles 0x0"},
		{func(n *Node) { n.Roles = 0x80 }, "roles 0x80"},
		{func(n *Node) { n.Addrs = nil }, "0 addresses"},
		{func(n *Node) { n.Addrs = addrs("10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "10.0.0.1:4") }, ""},
		{func(n *Node) {
			n.Addrs = addrs("10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "10.0.0.1:4", "10.0.0.1:5")
		}, "5 addresses"},
		{func(n *Node) { n.Addrs = addrs("10.0.0.1:1", "10.0.0.1:1") }, "10.0.0.1:1 twice"},
		{func(n *Node) { n.Addrs = addrs("10.0.0.1:0") }, "not a unicast address with a port"},
		{func(n *Node) { n.Addrs = addrs("0.0.0.0:1") }, "not a unicast"},
		{func(n *Node) { n.Addrs = addrs("224.0.0.1:1") }, "not a unicast"},
		{func(n *Node) { n.Addrs = addrs("[fe80::1%eth0]:1") }, "not a unicast"},
		{func(n *Node) { n.Addrs = addrs("[::ffff:10.0.0.1]:1") }, "not a unicast"},
		{func(n *Node) { n.Addrs = []netip.AddrPort{{}} }, "not a unicast"},
		{func(n *Node) { n.Addrs = addrs("[fd00::1]:1") }, ""},
		{func(n *Node) { n.Addrs = addrs("127.1.0.1:1") }, ""},
		{func(n *Node) { n.Addrs = addrs("203.0.113.1:1") }, "labels are for loopback and private"},
		{func(n *Node) { n.Addrs, n.Label = addrs("203.0.113.1:1"), "" }, ""},
		{func(n *Node) { n.Operator = "" }, `operator ""`},
		{func(n *Node) { n.Operator = "Acme" }, `operator "Acme"`},
		{func(n *Node) { n.Operator = strings.Repeat("a", 65) }, "operator"},
		{func(n *Node) { n.Operator = strings.Repeat("a", 64) }, ""},
		{func(n *Node) { n.Region = "e u" }, `region "e u"`},
		{func(n *Node) { n.Label = "10.0.0.0/16" }, `network label "10.0.0.0/16"`},
		{func(n *Node) { n.Link = key[1:] }, "link key of 1215 bytes"},
		{func(n *Node) { n.Onion = nil }, "0 onion keys"},
		{func(n *Node) { n.Onion = []OnionKey{{1, key}, {2, key}, {3, key}} }, "3 onion keys"},
		{func(n *Node) { n.Onion = []OnionKey{{1, key}, {1, key}} }, "out of order"},
		{func(n *Node) { n.Onion = []OnionKey{{2, key}, {1, key}} }, "out of order"},
		{func(n *Node) { n.Onion = []OnionKey{{1, key}, {2, key}} }, ""},
		{func(n *Node) { n.Onion = []OnionKey{{1, key[1:]}} }, "onion key of 1215 bytes"},
		{func(n *Node) { n.Exit.Ports = []PortRange{{1, 2}} }, "node that is no exit"},
		{func(n *Node) { n.Exit.Private = true }, "node that is no exit"},
		{func(n *Node) { n.Roles |= RoleExit }, "exit without a port"},
		{exit(PortRange{80, 80}, PortRange{443, 443}), ""},
		{exit(PortRange{1, 65535}), ""},
		{exit(PortRange{0, 10}), "port range 0-10 out of order"},
		{exit(PortRange{10, 9}), "port range 10-9 out of order"},
		{exit(PortRange{443, 443}, PortRange{80, 80}), "port range 80-80 out of order"},
		{exit(PortRange{80, 90}, PortRange{91, 99}), "port range 91-99 out of order"}, // one range in two
		{exit(manyPorts(32)...), ""},
		{exit(manyPorts(33)...), "33 port ranges"},
	}
	for i, tt := range tests {
		n := testNode(1, RoleMix)
		tt.change(n)
		err := n.check()
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%d: %v", i, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%d: got %v, want %q", i, err, tt.want)
		}
		if tt.want == "" {
			continue
		}
		zone := len(n.Addrs) == 1 && n.Addrs[0].Addr().Zone() != "" // has no encoding
		if _, err := ParseEntry(n.Entry()); !zone && !errors.Is(err, ErrMalformed) {
			t.Errorf("%d: the entry parses with %v", i, err)
		}
		if _, err := SignDescriptor(testSigner(t, 1), testNetwork, n); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d: the descriptor is signed with %v", i, err)
		}
	}
}

func addrs(s ...string) (out []netip.AddrPort) {
	for _, a := range s {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

func exit(r ...PortRange) func(*Node) {
	return func(n *Node) { n.Roles |= RoleExit; n.Exit.Ports = r }
}

func manyPorts(n int) (out []PortRange) {
	for i := range n {
		out = append(out, PortRange{uint16(2*i + 1), uint16(2*i + 1)})
	}
	return out
}

func TestNetworks(t *testing.T) {
	tests := []struct {
		label string
		addrs []netip.AddrPort
		want  string
	}{
		{"", addrs("127.1.0.1:1"), "127.1.0.0/16"},
		{"", addrs("127.1.0.1:1", "127.1.9.9:2"), "127.1.0.0/16"},
		{"", addrs("203.0.113.7:1", "[2001:db8:1:2::3]:1"), "203.0.0.0/16 2001:db8::/32"},
		{"lan-1", addrs("127.1.0.1:1", "10.0.0.1:1"), "lan-1"},
	}
	for _, tt := range tests {
		n := &Node{Label: tt.label, Addrs: tt.addrs}
		if got := strings.Join(n.Networks(), " "); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.addrs, got, tt.want)
		}
	}
}

func TestRoles(t *testing.T) {
	for i, name := range roleNames {
		r, ok := ParseRole(name)
		if !ok || r != 1<<i || r.String() != name {
			t.Errorf("%s: got %v", name, r)
		}
	}
	if _, ok := ParseRole("king"); ok {
		t.Error("king is a role")
	}
	if s := (RoleEntry | RoleMix).String(); s != "entry+mix" {
		t.Errorf("got %q", s)
	}
	if s := Roles(0).String(); s != "none" {
		t.Errorf("got %q", s)
	}
}

func TestExitPolicyAllows(t *testing.T) {
	p := ExitPolicy{Ports: []PortRange{{80, 80}, {1000, 2000}}}
	for port, want := range map[uint16]bool{0: true, 79: false, 80: true, 81: false, 999: false, 1000: true, 2000: true, 2001: false} {
		if p.Allows(port) != want {
			t.Errorf("port %d: not %v", port, want)
		}
	}
	if (&ExitPolicy{}).Allows(0) {
		t.Error("a closed policy has a port")
	}
}

func TestOnionAt(t *testing.T) {
	n := &Node{Onion: []OnionKey{{Epoch: 10}, {Epoch: 20}}}
	for epoch, want := range map[uint64]uint64{10: 10, 19: 10, 20: 20, 100: 20} {
		if k, ok := n.OnionAt(epoch); !ok || k.Epoch != want {
			t.Errorf("epoch %d: got key of %d", epoch, k.Epoch)
		}
	}
	if _, ok := n.OnionAt(9); ok {
		t.Error("a key before the first")
	}
}

// Every way to write an entry differently is refused: a second encoding is a
// mark that a server could put on what one client gets.
func TestEntryHasOneEncoding(t *testing.T) {
	n := testNode(3, RoleExit|RoleMix)
	n.Addrs = addrs("10.1.2.3:4", "[fd00::1]:5")
	testOneEncoding(t, n.Entry(), func(b []byte) ([]byte, error) {
		n, err := ParseEntry(b)
		if err != nil {
			return nil, err
		}
		return n.Entry(), nil
	})
	if _, err := ParseEntry(make([]byte, MaxEntrySize+1)); !errors.Is(err, ErrSize) {
		t.Errorf("oversize entry: %v", err)
	}
}

// testOneEncoding checks that a map with small keys is refused when cut,
// extended, or written in any other way, and that no flipped bit gives bytes
// that parse and encode to something else.
func testOneEncoding(t *testing.T, b []byte, again func([]byte) ([]byte, error)) {
	t.Helper()
	if out, err := again(b); err != nil || !slices.Equal(out, b) {
		t.Fatalf("valid bytes: %v", err)
	}
	refused := func(what string, b []byte) {
		t.Helper()
		if _, err := again(b); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	step := max(len(b)/500, 1)
	for i := 0; i < len(b); i += step {
		refused(fmt.Sprintf("prefix of %d", i), b[:i])
	}
	refused("extra byte", append(slices.Clone(b), 0))
	refused("extra map", append(slices.Clone(b), b...))
	count := b[0] & 0x1f
	refused("indefinite map", append(append([]byte{0xbf}, b[1:]...), 0xff))
	refused("long map head", append([]byte{0xb8, count}, b[1:]...))
	refused("long key", append([]byte{b[0], 0x18, b[1]}, b[2:]...))
	refused("tag", append([]byte{0xc1}, b...))
	refused("unknown key", append(append([]byte{b[0] + 1}, b[1:]...), 0x18, 0x63, 0))
	refused("duplicate key", append([]byte{b[0] + 1, b[1], b[2]}, b[1:]...))
	refused("missing pair", append([]byte{b[0] - 1}, b[1:]...))
	for i := 0; i < len(b); i += step {
		for bit := range 8 {
			c := slices.Clone(b)
			c[i] ^= 1 << bit
			if out, err := again(c); err == nil && !slices.Equal(out, c) {
				t.Errorf("byte %d bit %d: parses, and encodes otherwise", i, bit)
			}
		}
	}
}

func TestEntryFields(t *testing.T) {
	n := testNode(3, RoleMix)
	w := entryWire{Format: Format, ID: n.ID[:], facts: factsOf(n), Digest: n.Digest[:]}
	for what, change := range map[string]func(*entryWire){
		"format":        func(w *entryWire) { w.Format = 2 },
		"id":            func(w *entryWire) { w.ID = w.ID[1:] },
		"digest":        func(w *entryWire) { w.Digest = nil },
		"short address": func(w *entryWire) { w.Addrs = [][]byte{{1, 2, 3, 4, 5}} },
		"mapped":        func(w *entryWire) { w.Addrs = [][]byte{append(make([]byte, 10), 255, 255, 10, 0, 0, 1, 0, 1)} },
		"roles":         func(w *entryWire) { w.Roles = 0 },
	} {
		c := w
		change(&c)
		if _, err := ParseEntry(marshal(&c)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
