package directory

import (
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Report is what a node says of itself, once a round, to the authorities.
type Report struct {
	Network string
	Node    wire.NodeID
	// Time is the second since 1970 at which the node signed it. It rises.
	Time int64
	// Draining says that the node is about to end.
	Draining bool
	// Load and Queue as in State.
	Load  uint8
	Queue uint16
	// Delays are round trips to nodes of other regions and its own, by Region
	// ascending.
	Delays []RegionDelay
	// Cover is, of a Stream node, what its routes emitted in a window; nil: none has
	// ended yet.
	Cover *wire.CoverReport
}

// RegionDelay is a round trip to the nodes of a region, in ms.
type RegionDelay struct {
	Region string
	Millis uint16
}

type reportWire struct {
	Format   uint64            `cbor:"1,keyasint"`
	Network  string            `cbor:"2,keyasint"`
	Node     []byte            `cbor:"3,keyasint"`
	Time     int64             `cbor:"4,keyasint"`
	Draining bool              `cbor:"5,keyasint"`
	Load     uint8             `cbor:"6,keyasint"`
	Queue    uint16            `cbor:"7,keyasint"`
	Delays   []regionDelayWire `cbor:"8,keyasint"`
	Cover    []byte            `cbor:"9,keyasint,omitempty"`
}

type regionDelayWire struct {
	_      struct{} `cbor:",toarray"`
	Region string
	Millis uint16
}

func (r *Report) body() []byte {
	w := reportWire{Format: Format, Network: r.Network, Node: r.Node[:], Time: r.Time, Draining: r.Draining, Load: r.Load, Queue: r.Queue}
	for _, d := range r.Delays {
		w.Delays = append(w.Delays, regionDelayWire{Region: d.Region, Millis: d.Millis})
	}
	if r.Cover != nil {
		w.Cover = r.Cover.Append(nil)
	}
	return marshal(&w)
}

func (r *Report) check() error {
	switch {
	case !validName(r.Network):
		return fmt.Errorf("network %q: %s", r.Network, nameRule)
	case r.Time < 0 || r.Load > LoadMax || r.Queue > QueueMax || r.Queue%QueueStep != 0:
		return fmt.Errorf("time %d, load %d, queue %d ms", r.Time, r.Load, r.Queue)
	case len(r.Delays) > MaxRegions:
		return fmt.Errorf("%d regions, not up to %d", len(r.Delays), MaxRegions)
	}
	for i, d := range r.Delays {
		if !validName(d.Region) || d.Millis > DelayMax || i > 0 && r.Delays[i-1].Region >= d.Region {
			return fmt.Errorf("delay of %d ms to region %q, or out of order", d.Millis, d.Region)
		}
	}
	return nil
}

// SignReport returns the signed report of a node.
func SignReport(signer *seal.Signer, r *Report) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w report: %v", ErrMalformed, err)
	}
	body := r.body()
	signature, err := signer.Sign(reportContext, body)
	if err != nil {
		return nil, fmt.Errorf("sign report: %w", err)
	}
	return marshal(&signedWire{Body: body, Signature: signature}), nil
}

// parseReport checks the form of a report, not its signature. Nothing of b is
// kept.
func parseReport(b []byte) (*Report, *signedWire, error) {
	if len(b) > MaxReportSize {
		return nil, nil, fmt.Errorf("%w: report of %d bytes, not up to %d", ErrSize, len(b), MaxReportSize)
	}
	var s signedWire
	if err := unmarshal("report", b, &s); err != nil {
		return nil, nil, err
	}
	var w reportWire
	if err := unmarshal("report body", s.Body, &w); err != nil {
		return nil, nil, err
	}
	if w.Format != Format || len(w.Node) != len(wire.NodeID{}) {
		return nil, nil, fmt.Errorf("%w report: format %d, node id of %d bytes", ErrMalformed, w.Format, len(w.Node))
	}
	r := &Report{Network: w.Network, Node: wire.NodeID(w.Node), Time: w.Time, Draining: w.Draining, Load: w.Load, Queue: w.Queue}
	for _, d := range w.Delays {
		r.Delays = append(r.Delays, RegionDelay{Region: d.Region, Millis: d.Millis})
	}
	if w.Cover != nil {
		cover, n, err := wire.ParseCoverReport(w.Cover)
		if err != nil || n != len(w.Cover) {
			return nil, nil, fmt.Errorf("%w report: cover of %d bytes", ErrMalformed, len(w.Cover))
		}
		r.Cover = &cover
	}
	if err := r.check(); err != nil {
		return nil, nil, fmt.Errorf("%w report: %v", ErrMalformed, err)
	}
	return r, &s, nil
}

// TakeReport verifies a report of a node whose descriptor is held. wall is the
// time in seconds since 1970. Nothing of b is kept.
func (a *Authority) TakeReport(b []byte, wall int64) (*Report, error) {
	r, s, err := parseReport(b)
	if err != nil {
		return nil, err
	}
	const grace = int64(ClockGrace / time.Second)
	d := a.nodes[r.Node]
	switch {
	case r.Network != a.cfg.Network:
		return nil, fmt.Errorf("%w: the report is for %q, this network is %q", ErrNetwork, r.Network, a.cfg.Network)
	case d == nil:
		return nil, fmt.Errorf("%w: report of node %x, which has no descriptor here", ErrRefused, r.Node[:4])
	case r.Time < wall-grace || r.Time > wall+grace:
		return nil, fmt.Errorf("%w: node %x reported at %d, it is %d here", ErrStale, r.Node[:4], r.Time, wall)
	case seal.Verify(d.Identity, reportContext, s.Body, s.Signature) != nil:
		return nil, fmt.Errorf("%w: report of node %x", ErrSignature, r.Node[:4])
	}
	return r, nil
}
