package audit

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
)

// Fault is where a log was changed. The first changed entry is one of First to Last.
type Fault struct {
	First, Last int64
	What        string
}

// Error says what is wrong and where.
func (f *Fault) Error() string {
	where := fmt.Sprintf("entry %d", f.Last)
	if f.First < f.Last {
		where = fmt.Sprintf("entries %d to %d", f.First, f.Last)
	}
	return fmt.Sprintf("%v: %s: %s", ErrBroken, where, f.What)
}

// Unwrap makes it ErrBroken.
func (f *Fault) Unwrap() error { return ErrBroken }

// Verifier checks a log in its order: that each entry carries the hash of the one
// before it, that events are valid, that the roots are those that were signed, and
// that what is missing was removed on the record. It takes memory for the checkpoints
// and removals alone.
type Verifier struct {
	chain   Chain
	due     []*Checkpoint   // those to come, by size
	checked *Checkpoint     // the last whose root was right
	removed int64           // entries before the first segment
	begins  map[string]bool // places at which segments begin, with the root before
	covered bool            // a retention event says that what is missing was removed
	stats   Verified
}

// Verified is what was looked at.
type Verified struct {
	Entries     int64 `json:"entries"` // whole
	Removed     int64 `json:"removed"` // of which the hashes are left
	Segments    int64 `json:"segments"`
	Checkpoints int64 `json:"checkpoints"` // whose roots are right
	// Unsigned entries came after the last checkpoint.
	Unsigned int64 `json:"unsigned"`
	Root     Hash  `json:"root"`
}

// NewVerifier returns a verifier of a log with its checkpoints, whose signatures are
// checked already: the log's own, and those that somebody kept elsewhere.
func NewVerifier(checkpoints []*Checkpoint) (*Verifier, error) {
	due := slices.Clone(checkpoints)
	slices.SortStableFunc(due, func(a, b *Checkpoint) int { return int(min(max(a.Size-b.Size, -1), 1)) })
	for i := 1; i < len(due); i++ {
		if due[i-1].Size == due[i].Size {
			if err := CheckConsistency(due[i-1], due[i], nil); err != nil {
				return nil, err
			}
		}
	}
	v := &Verifier{due: due, begins: map[string]bool{}}
	return v, v.compare()
}

// Size is how many entries were taken.
func (v *Verifier) Size() int64 { return v.chain.Size() }

// Chain is where the entries that were taken end.
func (v *Verifier) Chain() *Chain { return &v.chain }

// Begin begins a segment.
func (v *Verifier) Begin(first int64, prev Hash) error {
	v.stats.Segments++
	switch next := v.chain.Size(); {
	case first > next:
		return &Fault{next, first - 1, "they are missing: the next segment begins after them"}
	case first < next:
		return &Fault{first, next - 1, "they are there twice: the next segment begins with them"}
	case prev != v.chain.Last:
		return &Fault{max(next-1, 0), next, "the segment does not go on from the entry before it"}
	}
	root := v.chain.Root()
	v.begins[beginning(strconv.FormatInt(first, 10), hex.EncodeToString(root[:]))] = true
	return nil
}

// Entry takes the next entry and returns its event.
func (v *Verifier) Entry(entry []byte) (Event, error) {
	at := v.chain.Size()
	_, encoded, err := ParseEntry(entry)
	if err != nil {
		return Event{}, &Fault{at, at, err.Error()}
	}
	if !v.chain.Next(entry) {
		return Event{}, &Fault{max(at-1, 0), at, "the second does not carry the hash of the first: one was changed, or others were taken out or put between"}
	}
	e, err := Parse(encoded)
	if err != nil {
		return Event{}, &Fault{at, at, err.Error()}
	}
	v.stats.Entries++
	if e.Kind == Retention && e.Outcome == OK {
		v.covered = v.covered || v.begins[beginning(e.Detail("count"), e.Detail("root"))]
	}
	return e, v.compare()
}

func beginning(before, root string) string { return before + " " + root }

// Hash takes the hash of the next entry, which was removed. All that were come
// before the first segment.
func (v *Verifier) Hash(leaf Hash) error {
	v.chain.Edge.Append(leaf)
	v.chain.Last = leaf
	v.removed++
	return v.compare()
}

// compare compares the root with checkpoints of the present size.
func (v *Verifier) compare() error {
	size := v.chain.Size()
	for len(v.due) > 0 && v.due[0].Size <= size {
		c := v.due[0]
		if root := v.chain.Root(); root != c.Root {
			first := int64(0)
			if v.checked != nil {
				first = v.checked.Size
			}
			return &Fault{first, max(size-1, 0), fmt.Sprintf("their root is not the one that was signed for %d entries at %v: they were changed together with their hashes, or the checkpoint is of another history", c.Size, c.Time.Format("2006-01-02T15:04:05Z"))}
		}
		v.checked, v.due = c, v.due[1:]
		v.stats.Checkpoints++
	}
	return nil
}

// Finish ends the log.
func (v *Verifier) Finish() (Verified, error) {
	size := v.chain.Size()
	v.stats.Root, v.stats.Removed, v.stats.Unsigned = v.chain.Root(), v.removed, size
	if v.checked != nil {
		v.stats.Unsigned = size - v.checked.Size
	}
	if len(v.due) > 0 {
		last := v.due[len(v.due)-1]
		return v.stats, &Fault{size, last.Size - 1, fmt.Sprintf("they are missing: the log ends before them, and %d were signed", last.Size)}
	}
	if v.removed > 0 && !v.covered {
		return v.stats, &Fault{0, v.removed - 1, "they are missing, and no retention event says that they were removed"}
	}
	return v.stats, nil
}
