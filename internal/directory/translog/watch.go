package translog

import (
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/nyxnet/nyx/internal/directory"
)

// Watch holds a copy of every log, checks that each only grows, and finds two
// documents of one number in whichever logs they stand.
type Watch struct {
	policy *Policy
	logs   map[string]*copied
	first  map[number]place
}

// copied is a log as far as it was read, under the note that says so.
type copied struct {
	Log
	note []byte
	head Checkpoint
}

type number struct {
	epoch    uint64
	revision uint32
}

// place is where a document was seen first.
type place struct {
	origin string
	index  int64
	mark   directory.Mark
}

// NewWatch returns a watch that has read nothing yet.
func NewWatch(p *Policy) *Watch {
	return &Watch{policy: p, logs: map[string]*copied{}, first: map[number]place{}}
}

// Size is how much of a log has been read.
func (w *Watch) Size(origin string) int64 {
	if l := w.logs[origin]; l != nil {
		return l.Size()
	}
	return 0
}

// Newest is what was read last of a log.
func (w *Watch) Newest(origin string) (c Checkpoint, note []byte) {
	if l := w.logs[origin]; l != nil {
		return l.head, l.note
	}
	return c, nil
}

// Extend takes a checkpoint of a log and the entries from Size to it, and returns
// what it shows that must not be. An ErrInconsistent means that the entries are not
// those of the checkpoint on top of the ones read before, of which then nothing has
// changed: fetch the log anew and call Fork.
func (w *Watch) Extend(note []byte, entries [][]byte) (found []*Evidence, err error) {
	c, _, err := w.policy.Open(note)
	if err != nil {
		return nil, err
	}
	l := w.logs[c.Origin]
	if l == nil {
		l = &copied{}
	}
	before := l.Size()
	if c.Size < before {
		if err := l.Holds(c); err != nil {
			return []*Evidence{l.fork(w.policy, note, c)}, err
		}
		return nil, nil
	}
	for _, e := range entries {
		if _, err := l.Append(e); err != nil {
			l.truncate(before)
			return nil, fmt.Errorf("%s: %w", c.Origin, err)
		}
	}
	if l.Size() != c.Size {
		l.truncate(before)
		return nil, fmt.Errorf("%w: %s has %d entries, %d were given", ErrMalformed, c.Origin, c.Size, before+int64(len(entries)))
	}
	if err := l.Holds(c); err != nil {
		l.truncate(before)
		return nil, err
	}
	l.note, l.head, w.logs[c.Origin] = note, c, l
	for i := before; i < c.Size; i++ {
		if e := w.compare(c.Origin, i); e != nil {
			found = append(found, e)
		}
	}
	return found, nil
}

// Prove proves a document by any of the copies that enough witnesses have cosigned.
func (w *Watch) Prove(m directory.Mark) (*Proof, error) {
	for _, key := range w.policy.Authorities {
		l := w.logs[Origin(w.policy.Network, key)]
		if l == nil {
			continue
		}
		if _, err := w.policy.OpenWitnessed(l.note); err != nil {
			continue
		}
		note, err := w.policy.Trim(l.note)
		if err != nil {
			return nil, err
		}
		if p, err := l.Prove(m, l.head, note); err == nil {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%w: epoch %d revision %d, nor in a copy of one", ErrNotLogged, m.Epoch, m.Revision)
}

// Consistency proves, by the copy of a log, that two of its sizes are of one tree.
func (w *Watch) Consistency(origin string, old, size int64) ([]tlog.Hash, error) {
	l := w.logs[origin]
	if l == nil {
		return nil, fmt.Errorf("%w: no copy of %s", ErrOrigin, origin)
	}
	return l.Consistency(old, size)
}

// compare looks whether an entry's number was another document's.
func (w *Watch) compare(origin string, index int64) *Evidence {
	l := w.logs[origin]
	_, m, err := directory.ParseHeader(l.Entry(index))
	if err != nil {
		panic("translog: an entry that was appended does not parse") // Append has parsed it
	}
	n := number{m.Epoch, m.Revision}
	was, known := w.first[n]
	if !known {
		w.first[n] = place{origin, index, m}
		return nil
	}
	if !was.mark.Conflicts(m) {
		return nil
	}
	e := &Evidence{Kind: KindDocuments, Network: w.policy.Network}
	e.Documents = []Testimony{w.logs[was.origin].testify(was.index), l.testify(index)}
	return e
}

func (l *copied) testify(index int64) Testimony {
	t := Testimony{Header: l.Entry(index)}
	if path, err := l.Inclusion(index, l.head.Size); err == nil {
		t.Proof = string((&Proof{Index: index, Path: path, Note: l.note}).Encode())
	}
	return t
}

// Fork makes the evidence against a log whose checkpoint does not go on from what
// was read. entries are all that the log shows under it now; if it shows none that
// fit, the evidence is the two checkpoints alone.
func (w *Watch) Fork(note []byte, entries [][]byte) (*Evidence, error) {
	c, _, err := w.policy.Open(note)
	if err != nil {
		return nil, err
	}
	l := w.logs[c.Origin]
	if l == nil {
		return nil, fmt.Errorf("%w: nothing of %s was read before", ErrMalformed, c.Origin)
	}
	other := copied{note: note, head: c}
	for _, e := range entries {
		if _, err := other.Append(e); err != nil {
			break
		}
	}
	if other.Size() != c.Size || other.Holds(c) != nil {
		return &Evidence{Kind: KindLog, Network: w.policy.Network, Checkpoints: []string{string(l.note), string(note)}}, nil
	}
	if c.Size >= l.head.Size {
		return other.fork(w.policy, l.note, l.head), nil
	}
	return l.fork(w.policy, note, c), nil
}

// fork is the evidence that an earlier checkpoint is not of this log.
func (l *copied) fork(p *Policy, note []byte, earlier Checkpoint) *Evidence {
	e := &Evidence{Kind: KindLog, Network: p.Network, Checkpoints: []string{string(note), string(l.note)}}
	if earlier.Size < l.head.Size {
		e.Path = string(AppendHashes(nil, l.prefix(0, l.head.Size, earlier.Size)))
	}
	return e
}

// prefix is a consistency proof of RFC 6962 that leaves nothing out: with it the
// roots of the first m and of all n entries follow without either being known.
func (l *Log) prefix(lo, hi, m int64) []tlog.Hash {
	if m == hi {
		return []tlog.Hash{l.subtree(lo, hi)}
	}
	k := lo + split(hi-lo)
	if m <= k {
		return append(l.prefix(lo, k, m), l.subtree(k, hi))
	}
	return append(l.prefix(k, hi, m), l.subtree(lo, k))
}

// roots is what follows from a prefix.
func roots(hashes []tlog.Hash, lo, hi, m int64) (first, all tlog.Hash, rest []tlog.Hash, ok bool) {
	if m == hi {
		if len(hashes) == 0 {
			return first, all, nil, false
		}
		return hashes[0], hashes[0], hashes[1:], true
	}
	k := lo + split(hi-lo)
	if m <= k {
		first, all, rest, ok = roots(hashes, lo, k, m)
	} else {
		first, all, rest, ok = roots(hashes, k, hi, m)
	}
	if !ok || len(rest) == 0 {
		return first, all, nil, false
	}
	if m <= k {
		return first, tlog.NodeHash(all, rest[0]), rest[1:], true
	}
	return tlog.NodeHash(rest[0], first), tlog.NodeHash(rest[0], all), rest[1:], true
}

// split is the largest power of two below n.
func split(n int64) int64 {
	k := int64(1)
	for 2*k < n {
		k *= 2
	}
	return k
}

func (l *Log) subtree(lo, hi int64) tlog.Hash {
	if hi-lo == 1 {
		return l.hashes[tlog.StoredHashIndex(0, lo)]
	}
	k := lo + split(hi-lo)
	return tlog.NodeHash(l.subtree(lo, k), l.subtree(k, hi))
}

// truncate forgets what was appended after size entries.
func (l *Log) truncate(size int64) {
	for _, e := range l.entries[size:] {
		if _, m, err := directory.ParseHeader(e); err == nil && l.places[m] >= size {
			delete(l.places, m)
		}
	}
	l.entries = slices.Delete(l.entries, int(size), len(l.entries))
	l.hashes = l.hashes[:tlog.StoredHashCount(size)]
}
