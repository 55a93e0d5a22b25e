package translog

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Memory is the newest checkpoint that somebody has seen of each log. It makes
// witnesses and logs that lie together leave a trace: who was shown one log is not
// shown another later without noticing. Keep its notes over a restart.
type Memory struct {
	policy *Policy
	newest map[string]seen
}

// seen is a checkpoint with its note.
type seen struct {
	Checkpoint
	note []byte
}

// NewMemory returns a memory that goes on from notes that were kept.
func NewMemory(p *Policy, notes ...[]byte) (*Memory, error) {
	m := &Memory{policy: p, newest: make(map[string]seen)}
	for _, b := range notes {
		c, _, err := p.Open(b)
		if err != nil {
			return nil, err
		}
		m.newest[c.Origin] = seen{c, b}
	}
	return m, nil
}

// Newest returns what was seen last of a log; the zero Checkpoint before anything.
func (m *Memory) Newest(origin string) (c Checkpoint, note []byte) {
	s := m.newest[origin]
	return s.Checkpoint, s.note
}

// Lacks returns the sizes between which Accept needs a proof of consistency; equal
// ones mean that it needs none.
func (m *Memory) Lacks(c Checkpoint) (from, to int64) {
	last := m.newest[c.Origin].Checkpoint
	if last.Size == 0 {
		return c.Size, c.Size
	}
	return min(last.Size, c.Size), max(last.Size, c.Size)
}

// Accept takes a checkpoint with its note, if it and what was seen before go on
// from one another. An older one is checked and not kept; changed says which.
// After an error the memory is as before, and a Fork of both is what to show.
func (m *Memory) Accept(c Checkpoint, note []byte, proof []tlog.Hash) (changed bool, err error) {
	last := m.newest[c.Origin]
	if last.Size == 0 {
		m.newest[c.Origin] = seen{c, note}
		return true, nil
	}
	from, to := last.Checkpoint, c
	if c.Size < last.Size {
		from, to = c, last.Checkpoint
	}
	if err := goesOn(from, to, proof); err != nil {
		return false, fmt.Errorf("%w; keep both checkpoints and tell the operators", err)
	}
	if c.Size > last.Size {
		m.newest[c.Origin] = seen{c, note}
		return true, nil
	}
	return false, nil
}
