package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// moveEvery is how often a stream under way changes its lane.
const moveEvery = 50 * time.Millisecond

// switchLanes is DF-028: a session goes from two lanes to five while it is full,
// and streams under way move between them.
func switchLanes(r *Run) error {
	cfg := stream.Config{Congestion: congestion.Fixed, FixedRate: 2 << 20}
	p, err := r.newPair(cfg, sim.Link{Latency: 20 * time.Millisecond, JitterMean: 2 * time.Millisecond, Loss: 1000})
	if err != nil {
		return err
	}
	weigh := func(e *end, l stream.Lane, weight uint8) {
		p.net.Do(e.Node, func(now machine.Time) { e.SetWeight(now, e.member.ID, l, weight, 0) })
	}
	weigh(p.client, stream.PriorityLow, 0)
	lanes, most := int(r.Param("lanes_from")), int(r.Param("lanes_to"))
	length := time.Duration(float64(r.Duration("seconds", time.Second)) * r.Scale)
	begin, size := p.net.Now(), int(r.Param("transfer_bytes"))
	twice := uint64(0) // bytes that came again
	under := map[int]uint64{}
	var transfer func(slot, lane int)
	transfer = func(slot, lane int) {
		id, ok := p.fetch(stream.Lane(lane), size, func(now machine.Time, got int) {
			r.Trial("stream_bytes_wrong", got != size)
			p.net.After(0, func(machine.Time) { transfer(slot, slot%lanes) })
		})
		if ok {
			under[slot] = id
		}
	}
	for slot := range int(r.Param("streams")) {
		transfer(slot, slot%lanes)
	}
	added := uint8(0)
	p.net.Every(begin.Add(length/5), length/8, func(machine.Time) bool {
		if lanes == most {
			return false
		}
		weigh([]*end{p.client, p.server}[lanes%2], laneNumber(lanes), 16+added)
		lanes++
		added++
		return true
	})
	turn := 0
	p.net.Every(begin.Add(moveEvery), moveEvery, func(now machine.Time) bool {
		turn++
		slot, lane := turn*7%len(under), turn%lanes
		id := under[slot]
		if r.Protected {
			e := []*end{p.client, p.server}[turn%2]
			p.net.Do(e.Node, func(now machine.Time) { e.SetLane(now, e.ref(id), laneNumber(lane), 0) })
			return now < begin.Add(length)
		}
		p.net.Do(p.client.Node, func(now machine.Time) {
			if f := p.client.fetches[id]; f != nil {
				twice += uint64(f.got)
				f.done = func(machine.Time, int) {}
				p.client.Abort(now, p.client.ref(id), 1)
			}
		})
		transfer(slot, int(laneNumber(lane)))
		return now < begin.Add(length)
	})
	p.net.RunUntil(begin.Add(length))
	const frame = wire.SessionPayloadSize
	r.Tally("stream_lane_duplicate_count", p.client.counts[trace.LaneDuplicate]+twice/frame, p.client.core().Stats().BytesReceived/frame)
	r.Observe("lanes", float64(lanes))
	r.Note("%d lanes at the end; %d moves of streams under way; frames count as %d bytes", lanes, turn, frame)
	return nil
}

// laneNumber is the number of the nth lane of DF-028: the low one is not among
// them.
func laneNumber(n int) stream.Lane {
	if n >= int(stream.PriorityLow) {
		n++
	}
	return stream.Lane(n)
}
