package directory

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// RoundLength is how often an authority says how the nodes are. Rounds are
// numbered by the clock, from 1970.
const RoundLength = 10 * time.Second

// BulletinAge is how long a bulletin counts, from the beginning of its round.
const BulletinAge = 60 * time.Second

// RoundAt returns the round of a second since 1970; 0 before 1970.
func RoundAt(unix int64) uint64 { return uint64(max(unix, 0)) / roundSeconds }

const (
	roundSeconds = uint64(RoundLength / time.Second)
	roundMax     = 1 << 40
)

// Flags are what keeps a node out of new routes.
type Flags uint8

// Flags of a node.
const (
	// Overloaded nodes get no new routes; those that they have stay.
	Overloaded Flags = 1 << iota
	// Draining nodes are about to end: routes leave them.
	Draining
	// Distrusted nodes are not to be used: routes leave them.
	Distrusted
	allFlags = Overloaded | Draining | Distrusted
)

// State is what is said of one node. It is coarse on purpose: it tells how a
// node is, and nothing that follows one flow.
type State struct {
	Flags Flags
	// Score is the trust in the node, 0 to ScoreMax.
	Score uint8
	// Load is the share of its capacity that is used, in tenths, 0 to LoadMax.
	Load uint8
	// Queue is how long a datagram waits at the node, in ms, a multiple of
	// QueueStep up to QueueMax.
	Queue uint16
}

// Bounds of a State and of delays.
const (
	ScoreMax  = 100
	LoadMax   = 10
	QueueStep = 5
	QueueMax  = 60_000
	// DelayMax bounds a delay between regions, in ms.
	DelayMax = 10_000
)

// quiet is the state of a node of which a bulletin says nothing.
var quiet = State{Score: ScoreMax}

// Bulletin is what one authority says of the nodes in one round.
type Bulletin struct {
	Network string
	// Document is the Hash of the document that the authority serves.
	Document [seal.HashSize]byte
	Round    uint64
	// Nodes are those of which there is something to say, by Node ascending.
	Nodes []NodeState
	// Delays are round trips between regions, by From and To ascending.
	Delays []Delay
	// Plan is the cover plan that the authority proposes; nil: none yet.
	Plan *wire.CoverPlan
}

// NodeState is the state of a node.
type NodeState struct {
	Node Short
	State
}

// Short names a node by the first 8 bytes of its ID, which is a hash: nobody
// makes a second one to match.
type Short uint64

// ShortOf returns the short name of a node.
func ShortOf(id wire.NodeID) Short { return Short(binary.BigEndian.Uint64(id[:8])) }

// Delay is the round trip between a node of one region and a node of another,
// or of the same. From <= To.
type Delay struct {
	From, To string
	Millis   uint16
}

type bulletinWire struct {
	Format   uint64          `cbor:"1,keyasint"`
	Network  string          `cbor:"2,keyasint"`
	Document []byte          `cbor:"3,keyasint"`
	Round    uint64          `cbor:"4,keyasint"`
	Nodes    []nodeStateWire `cbor:"5,keyasint"`
	Delays   []delayWire     `cbor:"6,keyasint"`
	Plan     []byte          `cbor:"7,keyasint,omitempty"`
}

type nodeStateWire struct {
	_     struct{} `cbor:",toarray"`
	Node  uint64
	Flags uint8
	Score uint8
	Load  uint8
	Queue uint16
}

type delayWire struct {
	_        struct{} `cbor:",toarray"`
	From, To string
	Millis   uint16
}

type signedBulletinWire struct {
	Body      []byte `cbor:"1,keyasint"`
	Authority []byte `cbor:"2,keyasint"`
	Signature []byte `cbor:"3,keyasint"`
}

func (b *Bulletin) body() []byte {
	w := bulletinWire{Format: Format, Network: b.Network, Document: b.Document[:], Round: b.Round}
	for _, n := range b.Nodes {
		w.Nodes = append(w.Nodes, nodeStateWire{Node: uint64(n.Node), Flags: uint8(n.Flags), Score: n.Score, Load: n.Load, Queue: n.Queue})
	}
	for _, d := range b.Delays {
		w.Delays = append(w.Delays, delayWire{From: d.From, To: d.To, Millis: d.Millis})
	}
	if b.Plan != nil {
		w.Plan = b.Plan.Append(nil)
	}
	return marshal(&w)
}

func (b *Bulletin) check() error {
	switch {
	case !validName(b.Network):
		return fmt.Errorf("network %q: %s", b.Network, nameRule)
	case b.Round > roundMax:
		return fmt.Errorf("round %d above %d", b.Round, uint64(roundMax))
	case len(b.Nodes) > MaxNodes || len(b.Delays) > MaxRegions*(MaxRegions+1)/2:
		return fmt.Errorf("%d nodes and %d delays", len(b.Nodes), len(b.Delays))
	}
	for i, n := range b.Nodes {
		if i > 0 && b.Nodes[i-1].Node >= n.Node {
			return fmt.Errorf("node %x out of order", uint64(n.Node))
		}
		if err := n.State.check(); err != nil {
			return fmt.Errorf("node %x: %w", uint64(n.Node), err)
		}
	}
	for i, d := range b.Delays {
		if !validName(d.From) || !validName(d.To) || d.From > d.To || d.Millis > DelayMax {
			return fmt.Errorf("delay of %d ms from region %q to %q", d.Millis, d.From, d.To)
		}
		if i > 0 && b.Delays[i-1].compare(d) >= 0 {
			return fmt.Errorf("delay from region %q to %q out of order", d.From, d.To)
		}
	}
	return nil
}

func (d Delay) compare(e Delay) int {
	return cmp.Or(cmp.Compare(d.From, e.From), cmp.Compare(d.To, e.To))
}

func (s State) check() error {
	if s.Flags&^allFlags != 0 || s.Score > ScoreMax || s.Load > LoadMax || s.Queue > QueueMax || s.Queue%QueueStep != 0 {
		return fmt.Errorf("state %+v", s)
	}
	if s == quiet {
		return fmt.Errorf("nothing is said of it") // to leave it out is the one encoding
	}
	return nil
}

// SignBulletin returns the signed bulletin of an authority.
func SignBulletin(signer *seal.Signer, b *Bulletin) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("%w bulletin: %v", ErrMalformed, err)
	}
	body := b.body()
	signature, err := signer.Sign(bulletinContext, body)
	if err != nil {
		return nil, fmt.Errorf("sign bulletin: %w", err)
	}
	id := AuthorityID(signer.Public())
	return marshal(&signedBulletinWire{Body: body, Authority: id[:], Signature: signature}), nil
}

// parseBulletin checks the form of a bulletin, not its signature. Nothing of b
// is kept.
func parseBulletin(b []byte) (*Bulletin, *signedBulletinWire, error) {
	if len(b) > MaxBulletinSize {
		return nil, nil, fmt.Errorf("%w: bulletin of %d bytes, not up to %d", ErrSize, len(b), MaxBulletinSize)
	}
	var w signedBulletinWire
	if err := unmarshal("bulletin", b, &w); err != nil {
		return nil, nil, err
	}
	if len(w.Authority) != seal.HashSize || len(w.Signature) != seal.SignatureSize {
		return nil, nil, fmt.Errorf("%w bulletin: authority of %d bytes, signature of %d", ErrMalformed, len(w.Authority), len(w.Signature))
	}
	out, err := parseBulletinBody(w.Body)
	return out, &w, err
}

func parseBulletinBody(b []byte) (*Bulletin, error) {
	var w bulletinWire
	if err := unmarshal("bulletin body", b, &w); err != nil {
		return nil, err
	}
	if w.Format != Format || len(w.Document) != seal.HashSize {
		return nil, fmt.Errorf("%w bulletin: format %d, document name of %d bytes", ErrMalformed, w.Format, len(w.Document))
	}
	out := &Bulletin{Network: w.Network, Document: digest(w.Document), Round: w.Round}
	for _, n := range w.Nodes {
		out.Nodes = append(out.Nodes, NodeState{Node: Short(n.Node), State: State{Flags: Flags(n.Flags), Score: n.Score, Load: n.Load, Queue: n.Queue}})
	}
	for _, d := range w.Delays {
		out.Delays = append(out.Delays, Delay{From: d.From, To: d.To, Millis: d.Millis})
	}
	if w.Plan != nil {
		plan, n, err := wire.ParseCoverPlan(w.Plan)
		if err != nil || n != len(w.Plan) {
			return nil, fmt.Errorf("%w bulletin: plan of %d bytes", ErrMalformed, len(w.Plan))
		}
		out.Plan = &plan
	}
	if err := out.check(); err != nil {
		return nil, fmt.Errorf("%w bulletin: %v", ErrMalformed, err)
	}
	return out, nil
}

// bundleWire is several signed bulletins.
type bundleWire struct {
	Format    uint64   `cbor:"1,keyasint"`
	Bulletins [][]byte `cbor:"2,keyasint"`
}

// EncodeBundle encodes several signed bulletins as one.
func EncodeBundle(bulletins [][]byte) []byte {
	return marshal(&bundleWire{Format: Format, Bulletins: bulletins})
}

// ParseBundle returns the bulletins of a bundle, not yet parsed.
func ParseBundle(b []byte) ([][]byte, error) {
	if len(b) > MaxBundleSize {
		return nil, fmt.Errorf("%w: bulletins of %d bytes, not up to %d", ErrSize, len(b), MaxBundleSize)
	}
	var w bundleWire
	if err := unmarshal("bulletins", b, &w); err != nil {
		return nil, err
	}
	if w.Format != Format || len(w.Bulletins) > MaxAuthorities {
		return nil, fmt.Errorf("%w: %d bulletins of format %d", ErrMalformed, len(w.Bulletins), w.Format)
	}
	return w.Bulletins, nil
}
