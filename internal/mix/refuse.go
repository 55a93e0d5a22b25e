package mix

import (
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// refusals is what a hop refused of one route while it works, and has to tell its
// client (docs/protocol.md, section 6.3). The client alone is told, for he alone can
// weigh it: he has the keys of all hops, and could make an honest one pass on the
// same cell twice. Told to the operator's side that would be a weapon against it.
type refusals struct {
	cells [wire.NackRepeatedBack + 1]uint8 // by reason, since the last that was told
	due   wire.NackReason                  // to be told; 0: nothing is
}

// refuse notes a cell that a neighbour changed or sent twice. A route at rest keeps
// no account.
func (h *hotRoute) refuse(why wire.NackReason) {
	if h == nil {
		return
	}
	if h.refused.cells[why]++; h.refused.cells[why] == wire.NackRefusals {
		h.refused.cells[why], h.refused.due = 0, why
	}
}

// repeated notes a cell on its way out whose counter is not fresh, if it is known to
// have come: one that is too old is nobody's fault.
func (h *hotRoute) repeated(counter uint32) {
	if h != nil && h.out.seen(counter) {
		h.refuse(wire.NackRepeated)
	}
}

// repeatedBack is repeated for the way back.
func (h *hotRoute) repeatedBack(counter uint32) {
	if h != nil && h.home.seen(counter) {
		h.refuse(wire.NackRepeatedBack)
	}
}

// tellRefused tells the client what was refused, now that an authentic cell came: to
// one that is refused nothing is ever the answer.
func (t *Table) tellRefused(now machine.Time, r *route) {
	t.nack(now, r, r.hot.refused.due, 0)
	r.hot.refused.due = 0
}

// ForgetBack makes a hop take cells of the way back that come over a link for new,
// though it had them: who takes the node over can.
func (t *Table) ForgetBack(from link.ID, id uint32) {
	if r := t.back[keyOf(from, id)]; r != nil {
		r.forgetBack()
	}
}

func (r *route) forgetBack() {
	r.home = rested{}
	if r.hot != nil {
		r.hot.home = window{}
	}
}
