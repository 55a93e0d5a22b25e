package directory

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// View is a document made ready for drawing paths and looking up keys. It is
// built once per document. It belongs to one goroutine, because it remembers
// parsed keys; Clone makes one for another.
type View struct {
	*index
	keys keyCache
}

// index is the shared, unchanging part of a View.
type index struct {
	doc     *Document
	part    *part // of a partial view, else nil
	traits  []traits
	pools   [roleCount]pool // by role bit: entry, exit, mix, meeting
	regions []string
	// operatorCount and networkCount are how many distinct ones there are.
	operatorCount, networkCount int
	borders                     [2]borders // by last hop: exit, meeting
}

// traits are what the rules on paths compare, as small numbers.
type traits struct {
	operator uint32
	networks [MaxAddrs]uint32 // unused places hold the first again
	region   uint8
}

// conflict reports two nodes that must not share a path. A node conflicts
// with itself.
func (t *traits) conflict(u *traits) bool {
	if t.operator == u.operator {
		return true
	}
	for _, a := range t.networks {
		for _, b := range u.networks {
			if a == b {
				return true
			}
		}
	}
	return false
}

// pool is the nodes of one role, grouped by region, with running sums of their
// weights. Nodes without weight are not in it.
type pool struct {
	nodes []int32
	sum   []uint64  // sum[i] is the weight of nodes[:i]
	start []int32   // start[r] is the first node of region r; one more at the end
	share []float64 // each region's share of the capacity of the whole network
}

// NewView indexes a document, which must have been verified and which the View
// keeps. It refuses a document with more than MaxRegions regions.
func NewView(d *Document) (*View, error) { return newView(d, nil) }

func newView(d *Document, p *part) (*View, error) {
	x := &index{doc: d, part: p, traits: make([]traits, len(d.Nodes))}
	operators, networks := numbering{}, numbering{}
	for _, n := range d.Nodes {
		x.regions = append(x.regions, n.Region)
	}
	slices.Sort(x.regions)
	x.regions = slices.Compact(x.regions)
	if len(x.regions) > MaxRegions {
		return nil, fmt.Errorf("%w document: %d regions, not up to %d", ErrMalformed, len(x.regions), MaxRegions)
	}
	for i, n := range d.Nodes {
		t := &x.traits[i]
		t.operator = operators.number(n.Operator)
		region, _ := slices.BinarySearch(x.regions, n.Region)
		t.region = uint8(region)
		names := n.Networks()
		for j := range t.networks {
			name := names[0]
			if j < len(names) {
				name = names[j]
			}
			t.networks[j] = networks.number(name)
		}
	}
	x.operatorCount, x.networkCount = len(operators), len(networks)
	for role := range x.pools {
		x.pools[role] = x.newPool(role)
	}
	x.borders[0] = newBorders(x, RoleExit)
	x.borders[1] = newBorders(x, RoleMeeting)
	return &View{index: x}, nil
}

// numbering gives equal names equal numbers, in the order of first use.
type numbering map[string]uint32

func (m numbering) number(name string) uint32 {
	n, ok := m[name]
	if !ok {
		n = uint32(len(m))
		m[name] = n
	}
	return n
}

func (x *index) newPool(role int) pool {
	p := pool{start: make([]int32, len(x.regions)+1)}
	for i := range x.doc.Nodes {
		if x.weight(role, int32(i)) > 0 {
			p.nodes = append(p.nodes, int32(i))
		}
	}
	slices.SortStableFunc(p.nodes, func(a, b int32) int {
		return cmp.Compare(x.traits[a].region, x.traits[b].region)
	})
	p.sum = make([]uint64, len(p.nodes)+1)
	for i, n := range p.nodes {
		p.sum[i+1] = p.sum[i] + x.weight(role, n)
		p.start[x.traits[n].region+1] = int32(i + 1)
	}
	for r := 1; r < len(p.start); r++ {
		p.start[r] = max(p.start[r], p.start[r-1])
	}
	p.share = p.shares(len(x.regions))
	if x.part != nil {
		x.part.correct(role, x.regions, p.share)
	}
	return p
}

// weight is by what a node is drawn in a role.
func (x *index) weight(role int, n int32) uint64 {
	switch node := x.doc.Nodes[n]; {
	case !node.Roles.Has(1 << role):
		return 0
	case x.part != nil:
		return x.part.weights[role][n]
	default:
		return uint64(node.Capacity)
	}
}

// shares returns each region's share of the pool's weight.
func (p *pool) shares(regions int) []float64 {
	out := make([]float64, regions)
	total := p.sum[len(p.nodes)]
	if total == 0 {
		return out
	}
	for r := range out {
		out[r] = float64(p.sum[p.start[r+1]]-p.sum[p.start[r]]) / float64(total)
	}
	return out
}

func (x *index) pool(role Roles) *pool { return &x.pools[role.number()] }

// Clone returns a View of the same document for another goroutine.
func (v *View) Clone() *View { return &View{index: v.index} }

// Document returns the document of the view.
func (v *View) Document() *Document { return v.doc }

// Epoch is the number of the document.
func (v *View) Epoch() uint64 { return v.doc.Epoch }

// EpochNow is the epoch to use at wall, in seconds since 1970: the clock's, put
// right by the signatures' times, and kept within the document's validity and
// one epoch before it, so that a wrong clock cannot choose keys that no node
// holds.
func (v *View) EpochNow(wall int64) uint64 {
	e, p := v.doc.Epoch, v.doc.Params
	return min(max(p.EpochAt(v.doc.Now(wall)), e-min(e, 1)), e+uint64(p.ValidEpochs))
}

// Len is the number of nodes.
func (v *View) Len() int { return len(v.doc.Nodes) }

// At returns the i-th node by ID.
func (v *View) At(i int) *Node { return v.doc.Nodes[i] }

// Node returns a node by its ID.
func (v *View) Node(id wire.NodeID) (*Node, bool) {
	i, ok := v.find(id)
	if !ok {
		return nil, false
	}
	return v.doc.Nodes[i], true
}

// Draws reports whether paths may be drawn through a node, as far as the view
// tells: it is listed and has capacity. One that will stop has none. What a partial
// view does not hold may be listed: who withholds a bucket has nobody leave a node.
func (v *View) Draws(id wire.NodeID) bool {
	n, ok := v.Node(id)
	if !ok {
		return v.Partial()
	}
	return n.Capacity > 0
}

func (x *index) find(id wire.NodeID) (int, bool) {
	return slices.BinarySearchFunc(x.doc.Nodes, id, func(n *Node, id wire.NodeID) int {
		return compareID(n.ID, id)
	})
}

// Link returns the link key of a node, or false if the node is unknown or its
// key malformed.
func (v *View) Link(id wire.NodeID) (*seal.KEMPublic, bool) {
	n, ok := v.Node(id)
	if !ok {
		return nil, false
	}
	return v.keys.parse(keyName{id: id, link: true}, n.Link)
}

// Onion returns the key of a node for route set-ups in an epoch, or false if
// the node is unknown, has no key for the epoch, or the key is malformed.
func (v *View) Onion(id wire.NodeID, epoch uint64) (*seal.KEMPublic, bool) {
	n, ok := v.Node(id)
	if !ok {
		return nil, false
	}
	k, ok := n.OnionAt(epoch)
	if !ok {
		return nil, false
	}
	return v.keys.parse(keyName{id: id, epoch: k.Epoch}, k.Key)
}

// keyCacheMax bounds the parsed keys of a View: a key is 8 KiB parsed and 1.2
// encoded, so 1024 of them are 8 MiB, and enough for every node of a middling
// network.
const keyCacheMax = 1024

// keyCache remembers parsed keys, because parsing one costs a sixth of using
// it. The oldest makes room. The zero keyCache is empty.
type keyCache struct {
	parsed map[keyName]*seal.KEMPublic
	ring   []keyName
	next   int
}

type keyName struct {
	id    wire.NodeID
	epoch uint64
	link  bool
}

func (c *keyCache) parse(name keyName, encoded []byte) (*seal.KEMPublic, bool) {
	if k, ok := c.parsed[name]; ok {
		return k, true
	}
	k, err := seal.ParseKEMPublic(encoded)
	if err != nil {
		return nil, false
	}
	if c.parsed == nil {
		c.parsed = make(map[keyName]*seal.KEMPublic)
	}
	if len(c.ring) < keyCacheMax {
		c.ring = append(c.ring, name)
	} else {
		delete(c.parsed, c.ring[c.next])
		c.ring[c.next] = name
		c.next = (c.next + 1) % keyCacheMax
	}
	c.parsed[name] = k
	return k, true
}
