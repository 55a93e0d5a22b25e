package mix

import (
	"encoding/binary"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Peeled is what Table.Peel found of one cell. The zero Peeled holds nothing.
type Peeled struct {
	route *route      // whose layer was tried; nil: none was
	plain []byte      // of the layer, in frame; nil: it does not authenticate
	frame *wire.Frame // that leaves; from Prepare on
	nonce seal.Nonce
}

// Prepare forgets what p holds and gives it what Peel needs. It belongs to the
// table's owner, as Release does.
func (t *Table) Prepare(p *Peeled) {
	p.route = nil
	if p.frame == nil {
		p.frame = t.pool.Get()
	}
}

// Kept is how long the hop is to keep the cell in p: what who takes the node over
// learns of it. ok is false where Peel has opened none.
func (p *Peeled) Kept() (d time.Duration, ok bool) {
	if p.route == nil || p.plain == nil {
		return 0, false
	}
	_, d = wire.ParseLayerHeader(p.plain)
	return d, true
}

// Release takes back what Prepare gave.
func (t *Table) Release(p *Peeled) {
	if p.frame != nil {
		t.pool.Put(p.frame)
	}
	*p = Peeled{}
}

// Peel opens the layer of a cell on its way out, before the cell's turn, into p,
// which Prepare has just seen, and changes nothing else: not the frame, and nothing
// of the table. Several goroutines may call it at once, each with its own p, while
// nobody calls anything else. What it leaves alone HandlePeeled opens: cells of
// routes at rest. Those on the way back are sealed here, not opened.
func (t *Table) Peel(p *Peeled, from link.ID, frame []byte) {
	if wire.FrameType(frame[0]) != wire.FrameForward {
		return
	}
	r := t.forward[keyOf(from, wire.FrameRouteID(frame))]
	if r == nil || r.hot == nil || !r.hot.forward.Ready() {
		return
	}
	position, counter := int(r.position), wire.CellCounter(frame)
	if !wire.CellTailZero(frame, position) || !r.hot.out.fresh(counter) {
		return
	}
	plain, ok := r.hot.forward.OpenWith(&p.nonce, p.frame.B[1:1], wire.CellLayer(frame, position), nil, uint64(counter))
	if p.route, p.plain = r, nil; ok {
		p.plain = plain
	}
}

// peel opens a layer into a frame, which the caller then owns, or takes what was
// found before. A nil frame: it does not authenticate.
func (t *Table) peel(r *route, h *hotRoute, layer []byte, counter uint32, p *Peeled) (f *wire.Frame, plain []byte) {
	if p != nil && p.route == r {
		p.route = nil
		if p.plain == nil {
			return nil, nil
		}
		f, p.frame = p.frame, nil
		return f, p.plain
	}
	f = t.pool.Get()
	plain, ok := t.open(r, h, f.B[1:1], layer, counter)
	if !ok {
		t.pool.Put(f)
		return nil, nil
	}
	return f, plain
}

// PeeledBack is what Route.Peel found of one cell from a route. The zero
// PeeledBack holds nothing.
type PeeledBack struct {
	route  *Route // whose layers were tried; nil: none were
	layers int    // opened, from the entry's on
	nonce  seal.Nonce
}

// Peel opens the layers of a cell in place, before the cell's turn, and changes
// nothing but the frame and p, which holds nothing. Several goroutines may call it at once, each with
// its own p, while nobody calls anything else. OpenPeeled then takes the frame
// with p.
func (r *Route) Peel(p *PeeledBack, frame []byte) {
	if r.closed {
		return
	}
	p.route = r
	cell := frame[wire.FrameHeaderSize:]
	for i := range r.hops {
		h := &r.hops[i]
		counter := binary.BigEndian.Uint32(cell)
		if !h.back.Ready() || !h.home.fresh(counter) {
			return
		}
		sealed := cell[wire.CounterSize : wire.CounterSize+wire.LayerSize(i)]
		plain, ok := h.back.OpenWith(&p.nonce, sealed[:0], sealed, nil, uint64(counter))
		if !ok {
			return // nor will it in its turn
		}
		p.layers++
		if command, delay := wire.ParseLayerHeader(plain); delay != 0 || wire.BackCommand(command) != wire.BackRelay {
			return
		}
		cell = plain[wire.LayerHeaderSize:]
	}
}

// layer opens the layer of hop i in place, or takes what was found before.
func (p *PeeledBack) layer(r *Route, i int, sealed []byte, counter uint32) (plain []byte, ok bool) {
	if p != nil && p.route == r && i < p.layers {
		return sealed[:len(sealed)-wire.TagSize], true
	}
	h := &r.hops[i]
	if !h.back.Ready() {
		h.back.Init(h.suite, &h.keys.back)
	}
	return h.back.Open(sealed[:0], sealed, nil, uint64(counter))
}
