package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// priorityWrites is DF-037: writers at both ends change the priorities of one
// session's streams, some at the same time, and both ends are compared when all
// changes have come.
func priorityWrites(r *Run) error {
	cfg := stream.Config{HeartbeatInterval: -1}
	if !r.Protected {
		cfg.Without = []uint16{wire.CapPriorities}
	}
	link := sim.Link{Latency: 25 * time.Millisecond, JitterMean: 10 * time.Millisecond, Loss: 20_000, Duplicate: 10_000}
	p, err := r.newPair(cfg, link)
	if err != nil {
		return err
	}
	var ids []uint64
	p.net.Do(p.client.Node, func(now machine.Time) {
		for range int(r.Param("streams")) {
			id, err := p.client.core().OpenStream(now, stream.PriorityNormal)
			if err != nil {
				panic("lab: " + err.Error())
			}
			p.client.Write(now, p.client.ref(id), []byte("open"))
			ids = append(ids, id)
		}
	})
	p.net.RunFor(5 * time.Second)
	draw := p.net.Rand("writers")
	set := func(e, other *end, id uint64, l stream.Lane) {
		p.net.Do(e.Node, func(now machine.Time) { e.SetLane(now, e.ref(id), l, 0) })
		if !r.Protected { // the change is told without a version, and applied as it comes
			p.net.After(link.Latency+draw.Exp(link.JitterMean), func(machine.Time) {
				p.net.Do(other.Node, func(now machine.Time) { other.SetLane(now, other.ref(id), l, 0) })
			})
		}
	}
	changes, conflicts := r.Scaled("changes"), 0
	for i := range changes {
		ends := [2]*end{p.client, p.server}
		e, other := ends[i%2], ends[(i+1)%2]
		id, l := ids[draw.Uint64N(uint64(len(ids)))], stream.Lane(draw.Uint64N(stream.MaxLanes))
		set(e, other, id, l)
		if share := r.Param("conflict_share"); int(share*float64(i+1)) > int(share*float64(i)) {
			conflicts++
			set(other, e, id, (l+1+stream.Lane(draw.Uint64N(stream.MaxLanes-1)))%stream.MaxLanes)
		}
		p.net.RunFor(20 * time.Millisecond)
		if i%(changes/20+1) == 0 {
			p.compare(r, ids)
		}
	}
	p.compare(r, ids)
	r.Tally("stream_priority_conflict", uint64(conflicts), uint64(changes))
	r.Note("%d changes, %d of them met by another at the same instant at the other end; the two ends counted %d conflicts",
		changes, conflicts, p.client.counts[trace.PriorityConflict]+p.server.counts[trace.PriorityConflict])
	return nil
}

// compare waits until every change has come, and compares what both ends know.
func (p *pair) compare(r *Run, ids []uint64) {
	p.net.RunFor(10 * time.Second)
	for _, id := range ids {
		here, v, err := p.client.core().Lane(id)
		there, w, err2 := p.server.core().Lane(id)
		r.Trial("priority_violation", err != nil || err2 != nil || here != there || r.Protected && v != w)
	}
}
