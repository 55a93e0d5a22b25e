package audit

import (
	"fmt"
	"math/bits"
	"slices"
)

// Mark is how far a log was verified: all that verifying what follows needs to know
// of what came before. The zero Mark is before the first entry.
type Mark struct {
	Size  int64  `json:"size"`
	Last  Hash   `json:"last"`  // of the entry before
	Roots []Hash `json:"roots"` // of the whole subtrees, the largest first
}

// Mark is where a chain ends.
func (c *Chain) Mark() Mark {
	return Mark{Size: c.size, Last: c.Last, Roots: slices.Clone(c.roots)}
}

// Root is the root over all entries before the mark.
func (m *Mark) Root() Hash {
	e := Edge{size: m.Size, roots: m.Roots}
	return e.Root()
}

// Equal reports whether two marks are of one history.
func (m *Mark) Equal(o *Mark) bool {
	return m.Size == o.Size && m.Last == o.Last && slices.Equal(m.Roots, o.Roots)
}

// Resume lets a verifier that has taken nothing begin at a mark, for whose truth the
// caller answers. Checkpoints of less are not looked at.
func (v *Verifier) Resume(m *Mark) error {
	if m.Size < 0 || len(m.Roots) != bits.OnesCount64(uint64(m.Size)) {
		return fmt.Errorf("%w: a mark of %d entries with %d roots", ErrBroken, m.Size, len(m.Roots))
	}
	v.chain = Chain{Last: m.Last, Edge: Edge{size: m.Size, roots: slices.Clone(m.Roots)}}
	v.due = slices.DeleteFunc(v.due, func(c *Checkpoint) bool { return c.Size < m.Size })
	if m.Size > 0 {
		v.checked = &Checkpoint{Size: m.Size}
	}
	return v.compare()
}
