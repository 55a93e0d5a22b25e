package daemon

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// documentsShown bounds the documents of a picture.
const documentsShown = 20

// Picture is what an operator sees of a network on this machine.
func (l *Local) Picture() telemetry.Picture {
	p := telemetry.Picture{At: time.Now(), Network: l.trust.Network, Level: l.level.String(), Directory: l.Authority.picture()}
	names := map[wire.NodeID]string{}
	for _, n := range l.Nodes {
		names[n.id] = n.cfg.Name
		p.Nodes = append(p.Nodes, n.picture())
	}
	p.Own = l.Client.picture(names)
	p.Own.Connected = l.Proxy.Active.Load()
	for _, d := range l.Client.delays.get() {
		p.Delays = append(p.Delays, telemetry.DelayPicture(d))
	}
	if l.Control != nil {
		p.Control = l.Control.picture()
	}
	for _, part := range l.parts() {
		trouble := part.State
		if trouble == working {
			trouble = ""
		}
		p.Parts = append(p.Parts, telemetry.PartPicture{Name: part.Name, Trouble: trouble})
	}
	return p
}

// picture names the hops of routes; nodes of other processes go by their ID.
func (c *Client) picture(names map[wire.NodeID]string) *telemetry.OwnPicture {
	out := &telemetry.OwnPicture{Asked: c.asked.Load(), Answered: c.answered.Load(), CoverRatio: -1}
	if k := c.cover(); k != nil {
		out.CoverRatio = k.ratio
	}
	measured := c.Distributions()
	for lane := range trace.LatencyLanes {
		out.Latency.Add(&measured[trace.LatencyOf(uint8(lane))])
	}
	for _, s := range c.Sessions() {
		out.Sessions = append(out.Sessions, telemetry.SessionPicture{
			RTT: s.RTT, Sent: s.BytesSent, Received: s.BytesReceived, Packets: s.PacketsSent, Lost: s.Lost, Streams: s.Streams, Paths: len(s.Paths),
		})
	}
	c.Do(func(now machine.Time, core *client.Client) {
		for _, r := range core.RouteFigures(now) {
			route := telemetry.RoutePicture{Session: r.Session, Rate: int(r.Class), Ready: r.Ready, Age: r.Age, Life: r.Life}
			for _, id := range r.Hops {
				name, known := names[id]
				if !known {
					name = hex.EncodeToString(id[:4])
				}
				route.Hops = append(route.Hops, name)
			}
			out.Routes = append(out.Routes, route)
		}
	})
	return out
}

func (n *Node) picture() telemetry.NodePicture {
	counts, load := n.Stats(), n.Load()
	dropped, _ := counts.MixDrop()
	p := telemetry.NodePicture{
		Name: n.cfg.Name, ID: hex.EncodeToString(n.id[:]), Operator: n.cfg.Operator, Region: n.cfg.Region, Stream: n.gateway != nil,
		Capacity: n.cfg.Capacity, DatagramsIn: load.DatagramsIn, DatagramsOut: load.DatagramsOut, Dropped: dropped,
		Draining: n.gauge.draining.Load(),
	}
	if err := n.Err(); err != nil {
		p.Trouble = oneLine(err)
	}
	if n.sessions != nil {
		n.host.Do(func(machine.Time) { p.Sessions = n.gateway.Len() })
	}
	g := n.guardFigures()
	p.Overloaded, p.Alone, p.Strain = g.overloaded, g.alone, g.strain
	if n.settler != nil {
		f := n.settler.figures()
		p.Follows, p.Revision, p.Refused = true, f.Revision, f.Refused
	}
	p.OnionTurns = n.onions.turns()
	return p
}

// turns is when the next period of onion keys begins.
func (o *onions) turns() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Unix(o.params.Begin(o.params.OnionUntil(o.present)), 0)
}

func (a *Authority) picture() *telemetry.DirectoryPicture {
	params, figures := a.Params(), a.logFigures()
	a.mu.Lock()
	m := a.published
	p := &telemetry.DirectoryPicture{
		Epoch: m.Epoch, Revision: uint64(m.Revision), Hash: hex.EncodeToString(m.Hash[:]),
		Threshold: a.cfg.Threshold, Authorities: a.cfg.Total, EpochLength: params.EpochLength,
		EpochEnds: time.Unix(params.Begin(m.Epoch+1), 0), ValidUntil: time.Unix(params.Begin(m.Epoch+uint64(params.ValidEpochs)), 0),
		Witnesses: len(a.cfg.Trust.Witnesses), Quorum: a.cfg.Trust.WitnessThreshold,
		Log: figures.entries, Cosigned: figures.cosigned, Evidence: figures.evidence,
	}
	if a.given != nil {
		p.Nodes, p.Signatures = int(a.given.Count), len(a.given.Signatures())
	}
	a.mu.Unlock()
	if a.own == nil {
		return p
	}
	a.own.mu.Lock()
	defer a.own.mu.Unlock()
	p.Root = base64.StdEncoding.EncodeToString(a.own.head.Root[:])
	for _, d := range slices.Backward(a.own.recent) {
		if len(p.Recent) == documentsShown {
			break
		}
		p.Recent = append(p.Recent, telemetry.DocumentPicture{Epoch: d.Epoch, Revision: uint64(d.Revision), Hash: hex.EncodeToString(d.Hash[:])})
	}
	return p
}

func (c *Control) picture() *telemetry.ControlPicture {
	p := &telemetry.ControlPicture{Events: c.counts.taken.Load()}
	if c.desk != nil {
		f := c.desk.figures()
		p.Revision, p.Queue, p.Dead = f.revision, f.depth, int(f.dead-min(f.dead, f.revived))
	}
	return p
}
