package daemon

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// What a control process knows of a network on several machines: what its nodes report,
// what the directory lists and authorities say of it, and who follows the configuration.
// It knows no session, no route and nobody who uses them.

const (
	// fleetShown bounds the nodes of a picture, those in trouble first: a page of more is
	// nobody's to read, and it is sent to each viewer every second.
	fleetShown = 1000
	// nameLeast is of how many digits the name of a node is at the least: those of its id
	// that lines of the log have.
	nameLeast = 8
)

// Why a node of the fleet is in trouble, for people.
const (
	nothingHeard   = "nothing is heard of it; its own log says why, and whether it runs"
	notTrusted     = "the authorities distrust it"
	notWorkingFull = "it does not work fully; its own log says why"
)

// sightings are the documents that a control process has seen, the log in which they
// stand, and since when the nodes of the newest are listed. It is safe for concurrent use.
type sightings struct {
	mu     sync.Mutex
	recent []directory.Mark // the oldest first
	head   translog.Checkpoint
	listed map[wire.NodeID]time.Time // since when this process has seen them listed
}

// see takes the newest document. It is called where documents are delivered, so that
// what was seen of the logs stays as it is.
func (c *Control) see(v *directory.View) {
	c.known.take(v)
	c.bulletins.view.Store(v.Clone())
	s := &c.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	was, now := s.listed, time.Now()
	s.listed = make(map[wire.NodeID]time.Time, len(v.Document().Nodes))
	for _, n := range v.Document().Nodes {
		s.listed[n.ID] = now
		if since, listed := was[n.ID]; listed {
			s.listed[n.ID] = since
		}
	}
	if s.recent = append(s.recent, v.Document().Mark()); len(s.recent) > documentsShown {
		s.recent = s.recent[1:]
	}
	if l := c.feed.logged; l != nil {
		for _, key := range l.policy.Authorities {
			if head, _ := l.memory.Newest(translog.Origin(l.policy.Network, key)); head.Size > s.head.Size {
				s.head = head
			}
		}
	}
}

// since returns when each node was first listed, of those that are. It is not changed.
func (s *sightings) since() map[wire.NodeID]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed
}

// Picture is what operators see of the network by this process.
func (c *Control) Picture() telemetry.Picture {
	now := time.Now()
	p := telemetry.Picture{At: now, Network: c.cfg.Trust.Network, Control: c.picture(), Fleet: &telemetry.FleetPicture{Strain: -1, Load: -1, In: -1}}
	own := telemetry.PartPicture{Name: c.cfg.Name}
	if err := c.Err(); err != nil {
		own.Trouble = oneLine(err)
	}
	p.Parts = append(p.Parts, own)
	n := c.rates.Network()
	p.Fleet.Cover, p.Fleet.Lag, p.Fleet.Held, p.Fleet.Safe = n.Cover, n.Lag, n.Held, n.Safe
	v := c.known.view.Load()
	if v == nil {
		return p
	}
	p.Directory = c.directory(v.Document())
	conditions := c.conditions.Load()
	if conditions != nil {
		for _, d := range conditions.Delays() {
			p.Delays = append(p.Delays, telemetry.DelayPicture(d))
		}
	}
	c.fleet(&p, v, conditions, now)
	return p
}

// fleet adds the nodes, and what they come to.
func (c *Control) fleet(p *telemetry.Picture, v *directory.View, conditions *directory.Conditions, now time.Time) {
	heard, since, settled := c.rates.Nodes(now), c.seen.since(), map[string]NodeSettings{}
	if c.desk != nil {
		for _, n := range c.desk.Nodes() {
			settled[n.Node] = n
		}
	}
	p.Fleet.Listed = len(v.Document().Nodes)
	f, names := p.Fleet, shortNames(v.Document().Nodes)
	params := v.Document().Params
	turns := time.Unix(params.Begin(params.OnionUntil(params.EpochAt(now.Unix()))), 0)
	in, out, capacity := 0.0, 0.0, 0.0
	for i, d := range v.Document().Nodes {
		n := telemetry.NodePicture{
			Name: names[i], ID: hex.EncodeToString(d.ID[:]), Operator: d.Operator, Region: d.Region,
			Stream: !d.Roles.Has(directory.RoleMix), Capacity: d.Capacity, Sessions: -1, OnionTurns: turns,
		}
		said, known := heard[d.ID]
		if n.Unheard = !known; known {
			n.DatagramsIn, n.DatagramsOut, n.Dropped, n.Strain = uint64(said.Came), uint64(said.Sent), said.Dropped, said.Strain
			n.Overloaded, n.Alone, n.Draining = said.Flags&wire.TelemetryOverloaded != 0, said.Flags&wire.TelemetryAlone != 0, said.Flags&wire.TelemetryDraining != 0
			f.Heard, f.Strain = f.Heard+1, max(f.Strain, said.Strain)
			in, out, capacity = in+said.In, out+said.Out, capacity+float64(d.Capacity)
		}
		if s, follows := settled[n.ID]; follows {
			n.Follows, n.Revision, n.Refused = true, s.Revision, s.Refused
			if s.Failing {
				n.Trouble = notWorkingFull
			}
		}
		state := conditions.State(d.ID)
		n.Draining = n.Draining || state.Flags&directory.Draining != 0
		switch {
		case state.Flags&directory.Distrusted != 0:
			n.Trouble = notTrusted
		case n.Unheard && c.cfg.Others == 0 && now.Sub(since[d.ID]) > telemetry.HeardFor:
			n.Trouble = nothingHeard
		}
		f.Overloaded, f.Alone, f.Draining = f.Overloaded+one(n.Overloaded), f.Alone+one(n.Alone), f.Draining+one(n.Draining)
		p.Nodes = append(p.Nodes, n)
	}
	if capacity > 0 {
		f.Load, f.In = out/capacity, in
	}
	if f.Unshown = len(p.Nodes) - fleetShown; f.Unshown > 0 {
		slices.SortStableFunc(p.Nodes, worstFirst)
		p.Nodes = p.Nodes[:fleetShown]
	}
	f.Unshown = max(f.Unshown, 0)
	for i := range p.Nodes {
		if n := &p.Nodes[i]; n.Trouble != "" {
			p.Parts = append(p.Parts, telemetry.PartPicture{Name: n.Name, Trouble: n.Trouble})
		}
	}
}

// one is what a node adds to a count that it is of, or not.
func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// worstFirst orders nodes by how much they need somebody.
func worstFirst(a, b telemetry.NodePicture) int {
	need := func(n *telemetry.NodePicture) int {
		switch {
		case n.Trouble != "":
			return 0
		case n.Overloaded || n.Refused != 0:
			return 1
		case n.Draining || n.Alone:
			return 2
		}
		return 3
	}
	return need(&a) - need(&b)
}

// shortNames are what people call nodes: as many digits of their ids as tell them apart.
func shortNames(nodes []*directory.Node) []string {
	names := make([]string, len(nodes))
	for digits := nameLeast; ; digits *= 2 {
		taken := map[string]bool{}
		for i, n := range nodes {
			id := hex.EncodeToString(n.ID[:])
			names[i] = id[:min(digits, len(id))]
			taken[names[i]] = true
		}
		if len(taken) == len(nodes) || digits >= 2*len(wire.NodeID{}) {
			return names
		}
	}
}

// directory is the newest document, as this process has verified it.
func (c *Control) directory(d *directory.Document) *telemetry.DirectoryPicture {
	c.seen.mu.Lock()
	defer c.seen.mu.Unlock()
	m := d.Mark()
	p := &telemetry.DirectoryPicture{
		Epoch: m.Epoch, Revision: uint64(m.Revision), Hash: hex.EncodeToString(m.Hash[:]), Nodes: len(d.Nodes), Signatures: len(d.Signatures()),
		Threshold: d.Threshold, Authorities: d.Authorities, EpochLength: d.Params.EpochLength,
		EpochEnds: time.Unix(d.Params.Begin(m.Epoch+1), 0), ValidUntil: time.Unix(d.ValidUntil, 0),
		Witnesses: len(c.cfg.Trust.Witnesses), Quorum: c.cfg.Trust.WitnessThreshold,
		Log: c.seen.head.Size, Cosigned: c.seen.head.Size, Root: base64.StdEncoding.EncodeToString(c.seen.head.Root[:]), Evidence: c.feed.report.count(),
	}
	for _, m := range slices.Backward(c.seen.recent) {
		p.Recent = append(p.Recent, telemetry.DocumentPicture{Epoch: m.Epoch, Revision: uint64(m.Revision), Hash: hex.EncodeToString(m.Hash[:])})
	}
	return p
}
