package sim

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// Batches makes a node take its datagrams in together, as a busy host does.
// The zero Batches takes each when it comes.
type Batches struct {
	// Every is how long a datagram that finds none waiting waits for others.
	Every time.Duration
	// Ways is how many datagrams of a batch are opened at a time before the batch
	// is handled (machine.Opener); 0 and 1 open none before its turn. How long
	// each takes, and so the order in which they end, is drawn from the node's
	// seed.
	Ways int
	// AsOpened is a negative control: datagrams are handled in the order in which
	// their opening ends.
	AsOpened bool
}

// batch is what waits at a node.
type batch struct {
	waiting []uint32 // packets, in the order in which they came
	opening []opening
	order   []int // in which opening ends
	free    []machine.Time
	draws   *prng.Stream
}

// opening is when one of a batch is open.
type opening struct {
	index int
	ends  machine.Time
}

// batchMax is the largest batch: what package drive takes in at a time.
const batchMax = 128

// openTime is the mean time that an opening takes. Only its ratio to that of
// others matters.
const openTime = time.Microsecond

// wait puts a datagram into the node's batch.
func (nd *Node) wait(ref uint32) {
	if len(nd.batch.waiting) == 0 {
		nd.net.push(nd.net.now.Add(nd.cfg.Batches.Every), eventBatch, nd.index, 0)
	}
	nd.batch.waiting = append(nd.batch.waiting, ref)
}

// takeBatch hands over what waits.
func (nd *Node) takeBatch() {
	refs := nd.batch.waiting
	nd.batch.waiting = refs[:0] // nothing arrives before this function ends
	if nd.machine == nil {
		for _, ref := range refs {
			nd.net.drop(nd.net.packets.at(ref), &nd.net.stats.Unreachable)
		}
		return
	}
	for part := range slices.Chunk(refs, batchMax) {
		nd.take(part)
	}
}

// take hands over a batch.
func (nd *Node) take(refs []uint32) {
	n := nd.net
	n.current = nd
	opener, opens := nd.machine.(machine.Opener)
	if opens = opens && nd.cfg.Batches.Ways > 1; opens {
		nd.openAhead(opener, refs)
	}
	last := -1
	for i := range refs {
		if opens && nd.cfg.Batches.AsOpened {
			i = nd.batch.order[i]
		}
		if last = max(last, i); i < last {
			nd.stats.Overtaken++
		}
		k := n.packets.at(refs[i])
		n.stats.Delivered++
		nd.stats.Received++
		n.trace.datagram(traceDeliver, n.now, k)
		now, from, b := nd.Local(n.now), n.book[k.from].addr, k.b[:k.size:k.size]
		if opens {
			opener.HandleOpened(now, from, b, i)
		} else {
			nd.machine.HandleDatagram(now, from, b)
		}
		n.packets.put(k)
	}
	nd.settle()
}

// openAhead opens a batch on as many ways as the node has: whoever is free takes
// the next datagram.
func (nd *Node) openAhead(opener machine.Opener, refs []uint32) {
	w := &nd.batch
	if w.draws == nil {
		w.draws, w.free = nd.net.source.Stream("ways/"+nd.Name), make([]machine.Time, nd.cfg.Batches.Ways)
	}
	clear(w.free)
	w.opening, w.order = w.opening[:0], w.order[:0]
	for i := range refs {
		way := 0
		for k, free := range w.free {
			if free < w.free[way] {
				way = k
			}
		}
		w.free[way] = w.free[way].Add(1 + w.draws.Exp(openTime))
		w.opening = append(w.opening, opening{i, w.free[way]})
	}
	held, latest := uint64(0), machine.Time(0)
	for _, o := range w.opening {
		if latest = max(latest, o.ends); o.ends < latest {
			held++ // it is open before an earlier one
		}
	}
	nd.stats.Opened += uint64(len(refs))
	nd.stats.Corrections += held
	nd.stats.HeldMost = max(nd.stats.HeldMost, held)
	slices.SortStableFunc(w.opening, func(a, b opening) int { return int(a.ends - b.ends) })
	opener.Batch(len(refs))
	for _, o := range w.opening {
		k := nd.net.packets.at(refs[o.index])
		opener.OpenAhead(o.index, k.b[:k.size:k.size])
		w.order = append(w.order, o.index)
	}
}
