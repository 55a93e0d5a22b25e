package directory

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Roles is the set of roles that a node offers.
type Roles uint8

// Roles. Entry, exit and meeting point are roles of a Stream node.
const (
	RoleEntry Roles = 1 << iota
	RoleExit
	RoleMix
	RoleMeeting
	allRoles = RoleEntry | RoleExit | RoleMix | RoleMeeting
)

// roleCount is the number of roles; the bit of a role is its number.
const roleCount = 4

var roleNames = [...]string{"entry", "exit", "mix", "meeting"}

// Has reports whether r holds every role of want.
func (r Roles) Has(want Roles) bool { return r&want == want }

// number is the number of a single role.
func (r Roles) number() int {
	if bits.OnesCount8(uint8(r)) != 1 || r&^allRoles != 0 {
		panic("directory: not one role: " + r.String())
	}
	return bits.TrailingZeros8(uint8(r))
}

// String lists the roles as written in configuration, joined by "+".
func (r Roles) String() string {
	s := ""
	for i, name := range roleNames {
		if r&(1<<i) == 0 {
			continue
		}
		if s != "" {
			s += "+"
		}
		s += name
	}
	if s == "" {
		return "none"
	}
	return s
}

// ParseRole returns the role of a name.
func ParseRole(name string) (Roles, bool) {
	i := slices.Index(roleNames[:], name)
	if i < 0 {
		return 0, false
	}
	return 1 << i, true
}

// OnionKey is a key for route set-ups, in use from an epoch on until the next
// key's epoch.
type OnionKey struct {
	// Epoch is the first epoch in which the key is used.
	Epoch uint64
	// Key is the encoded seal.KEMPublic.
	Key []byte
}

// PortRange is a range of TCP and UDP ports, both ends included.
type PortRange struct{ First, Last uint16 }

// Has reports whether a port is in the range.
func (r PortRange) Has(port uint16) bool { return port >= r.First && port <= r.Last }

// ExitPolicy is what an exit opens, in summary: enough to choose an exit by.
// The exit itself decides.
type ExitPolicy struct {
	// Private allows loopback, private and link-local targets.
	Private bool
	// Ports are sorted, apart from each other by at least one port.
	Ports []PortRange
}

// Allows reports whether the policy opens a port. Port 0 stands for any port
// and asks only whether there is one.
func (p *ExitPolicy) Allows(port uint16) bool {
	if port == 0 {
		return len(p.Ports) > 0
	}
	for _, r := range p.Ports {
		if r.Has(port) {
			return true
		}
	}
	return false
}

// Node is what the directory says of one node. A Node that a document or View
// yields is shared: do not change it.
type Node struct {
	// ID is NodeID of the node's identity key.
	ID wire.NodeID
	// Version orders the descriptors of a node: the second, since 1970, at
	// which the node signed it.
	Version uint64
	Roles   Roles
	// Addrs are the UDP addresses, the preferred first; 1 to MaxAddrs.
	Addrs []netip.AddrPort
	// Operator names who runs the node; Region where it stands.
	Operator, Region string
	// Label names the node's network where the address does not: only for
	// loopback and private addresses. Empty means derived, see Networks.
	Label string
	// Link is the encoded seal.KEMPublic for links.
	Link []byte
	// Onion are the current key and, if known, the next, by epoch.
	Onion []OnionKey
	// Capacity weighs the draw of paths: sustained datagrams per second. Zero
	// means that the node is never drawn.
	Capacity uint32
	// Capabilities are bits of what the node can do beyond version 1.
	Capabilities uint64
	Exit         ExitPolicy
	// Carriers are further ways to reach an entry, by kind.
	Carriers []Carrier
	// Digest is the hash of the descriptor body that the node signed, so that
	// an auditor can compare. It is set in documents only.
	Digest [seal.HashSize]byte
}

// NodeID is the hash of an identity key (seal.SignPublicSize bytes).
func NodeID(identity []byte) wire.NodeID { return seal.Hash("node id", identity) }

// Networks returns the names of the networks that the node stands in: its
// label, or the /16 of each IPv4 and the /32 of each IPv6 address. Two nodes
// that share one are never on one path.
func (n *Node) Networks() []string {
	if n.Label != "" {
		return []string{n.Label}
	}
	names := make([]string, 0, len(n.Addrs))
	for _, a := range n.Addrs {
		if name := networkOf(a.Addr()); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func networkOf(a netip.Addr) string {
	bits := 32
	if a.Is4() {
		bits = 16
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return a.String()
	}
	return p.String()
}

// OnionAt returns the encoded onion key in use at an epoch: the latest that
// has begun. It reports false before the first.
func (n *Node) OnionAt(epoch uint64) (OnionKey, bool) {
	for i := len(n.Onion) - 1; i >= 0; i-- {
		if n.Onion[i].Epoch <= epoch {
			return n.Onion[i], true
		}
	}
	return OnionKey{}, false
}

// check is what must hold of every node in a descriptor or document. KEM keys
// are checked for their size only: parsing them is the authority's work, and
// of whom uses them.
func (n *Node) check() error {
	switch {
	case n.Roles == 0 || n.Roles&^allRoles != 0:
		return fmt.Errorf("roles %#x", uint8(n.Roles))
	case len(n.Addrs) == 0 || len(n.Addrs) > MaxAddrs:
		return fmt.Errorf("%d addresses, not 1 to %d", len(n.Addrs), MaxAddrs)
	case !validName(n.Operator):
		return fmt.Errorf("operator %q: %s", n.Operator, nameRule)
	case !validName(n.Region):
		return fmt.Errorf("region %q: %s", n.Region, nameRule)
	case n.Label != "" && !validName(n.Label):
		return fmt.Errorf("network label %q: %s", n.Label, nameRule)
	case len(n.Link) != seal.KEMPublicSize:
		return fmt.Errorf("link key of %d bytes, not %d", len(n.Link), seal.KEMPublicSize)
	}
	for i, a := range n.Addrs {
		if err := checkAddr(a); err != nil {
			return err
		}
		if n.Label != "" && !unroutable(a.Addr()) {
			return fmt.Errorf("network label %q on the public address %v: labels are for loopback and private addresses", n.Label, a)
		}
		if slices.Contains(n.Addrs[:i], a) {
			return fmt.Errorf("address %v twice", a)
		}
	}
	if err := checkOnion(n.Onion); err != nil {
		return err
	}
	if err := checkCarriers(n.Carriers, n.Roles.Has(RoleEntry)); err != nil {
		return err
	}
	return n.Exit.check(n.Roles.Has(RoleExit))
}

func checkAddr(a netip.AddrPort) error {
	ip := a.Addr()
	if !a.IsValid() || a.Port() == 0 || ip.Is4In6() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
		return fmt.Errorf("address %v: not a unicast address with a port", a)
	}
	return nil
}

// unroutable reports addresses that nobody can reach over the public network,
// so that a label there cannot disguise one operator's network as several.
func unroutable(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
}

func checkOnion(keys []OnionKey) error {
	if len(keys) == 0 || len(keys) > 2 {
		return fmt.Errorf("%d onion keys, not 1 or 2", len(keys))
	}
	for _, k := range keys {
		if len(k.Key) != seal.KEMPublicSize {
			return fmt.Errorf("onion key of %d bytes, not %d", len(k.Key), seal.KEMPublicSize)
		}
	}
	if len(keys) == 2 && keys[0].Epoch >= keys[1].Epoch {
		return fmt.Errorf("onion keys of epochs %d and %d out of order", keys[0].Epoch, keys[1].Epoch)
	}
	return nil
}

func (p *ExitPolicy) check(exit bool) error {
	if !exit && (p.Private || len(p.Ports) != 0) {
		return fmt.Errorf("exit policy on a node that is no exit")
	}
	if exit && len(p.Ports) == 0 {
		return fmt.Errorf("exit without a port")
	}
	if len(p.Ports) > MaxPortRanges {
		return fmt.Errorf("%d port ranges, not up to %d", len(p.Ports), MaxPortRanges)
	}
	free := 1
	for _, r := range p.Ports {
		if int(r.First) < free || r.Last < r.First {
			return fmt.Errorf("port range %d-%d out of order", r.First, r.Last)
		}
		free = int(r.Last) + 2
	}
	return nil
}

const nameRule = "a name is 1 to 64 of a-z, 0-9, dot, hyphen and underscore"

// ValidName reports whether s can name an operator, a region, a label or a
// network. Capital and foreign letters are out, so that no two names look
// alike; a slash is, so that no label looks like a derived network.
func ValidName(s string) bool { return validName(s) }

func validName(s string) bool {
	if len(s) == 0 || len(s) > MaxNameSize {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
