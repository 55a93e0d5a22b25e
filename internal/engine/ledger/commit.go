package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// request is a call of Record, or a part of one; without events, of Checkpoint or
// Prune.
type request struct {
	ids    []audit.ID
	sizes  []int  // of the encodings
	events []byte // encoded, one after the other
	do     func() error
	done   chan error
}

// Record implements audit.Recorder: it returns when the events are on the disk, under
// one write for all that wait at a time. An invalid event refuses the call, and none
// of its events is recorded. When it returns with the error of ctx, they may be or
// not.
func (l *Log) Record(ctx context.Context, events ...audit.Event) error {
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return err
		}
	}
	for len(events) > 0 {
		r := &request{done: make(chan error, 1)}
		for len(events) > 0 && weight(r) < requestMost {
			before := len(r.events)
			r.events = audit.Append(r.events, &events[0])
			r.ids, r.sizes = append(r.ids, events[0].ID), append(r.sizes, len(r.events)-before)
			events = events[1:]
		}
		if err := l.call(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// call hands a request to the committer and waits for its answer.
func (l *Log) call(ctx context.Context, r *request) error {
	select {
	case <-l.stopped: // first, so that nothing is handed over after Close
		return ErrClosed
	default:
	}
	select {
	case l.queue <- r:
	case <-l.stopped:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ended:
		select {
		case err := <-r.done:
			return err
		default:
			return ErrClosed
		}
	}
}

// Checkpoint signs what is on the disk, if it is not signed yet, and returns the
// newest checkpoint; none of an empty log.
func (l *Log) Checkpoint(ctx context.Context) (note []byte, err error) {
	if err := l.call(ctx, &request{do: l.sign, done: make(chan error, 1)}); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest, nil
}

// run is the committer, the one who writes.
func (l *Log) run() {
	defer close(l.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if l.chain.Size() > l.signed {
			timer.Reset(time.Until(l.due))
		} else {
			timer.Stop()
		}
		select {
		case r := <-l.queue:
			l.serve(l.gather(r))
		case <-timer.C:
			l.fail(l.sign())
		case <-l.stopped:
			l.end()
			return
		}
	}
}

// gather takes what waits beside a request, as much as a frame holds.
func (l *Log) gather(first *request) []*request {
	batch, size := []*request{first}, weight(first)
	for size+requestMost+audit.EntryMax+2 < audit.FrameMax {
		select {
		case r := <-l.queue:
			batch, size = append(batch, r), size+weight(r)
		default:
			return batch
		}
	}
	return batch
}

// weight is what a request takes of a frame at most.
func weight(r *request) int { return len(r.events) + len(r.ids)*(2+32) }

// serve commits the events of requests, then does what else they ask for, and
// answers.
func (l *Log) serve(batch []*request) {
	err := l.fail(l.commit(batch))
	for _, r := range batch {
		answer := err
		if answer == nil && r.do != nil {
			answer = r.do()
		}
		r.done <- answer
	}
}

// fail keeps the first error for good.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil && err != nil {
		l.failed = fmt.Errorf("%w: %w; open it anew when the cause is gone", ErrFailed, err)
		close(l.grown)
		l.grown = make(chan struct{})
	}
	return l.failed
}

// commit writes the events of a batch that are new, as one frame, and makes it
// durable.
func (l *Log) commit(batch []*request) error {
	if l.failed != nil {
		return nil
	}
	fresh, twice := 0, 0
	l.entries = l.entries[:0]
	if err := l.roll(); err != nil {
		return err
	}
	for _, r := range batch {
		at := 0
		for i, id := range r.ids {
			event := r.events[at : at+r.sizes[i]]
			at += r.sizes[i]
			if !l.known.add(id) {
				twice++
				continue
			}
			l.entries = l.chain.Append(l.entries, event)
			fresh++
			if err := l.tile(); err != nil {
				return err
			}
		}
	}
	if fresh > 0 {
		l.frame = l.segment.sealer.Seal(l.frame[:0], l.entries, fresh)
		if _, err := l.segment.file.Write(l.frame); err != nil {
			return err
		}
		if err := l.cfg.sync(l.segment.file); err != nil {
			return err
		}
		l.segment.size += int64(len(l.frame))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Duplicates += uint64(twice)
	if fresh == 0 {
		return nil
	}
	if l.size == l.signed { // the first that waits for a signature
		l.due = time.Now().Add(l.wait)
	}
	l.size = l.chain.Size()
	l.counts.Events, l.counts.Commits, l.counts.Bytes = l.counts.Events+uint64(fresh), l.counts.Commits+1, l.counts.Bytes+uint64(len(l.frame))
	close(l.grown)
	l.grown = make(chan struct{})
	return nil
}

// tile writes the root of a tile that has become whole. It is not made durable: it
// follows from the entries.
func (l *Log) tile() error {
	if l.chain.Size()%audit.TileSize != 0 {
		return nil
	}
	root := l.chain.Tile()
	_, err := l.tiles.WriteAt(root[:], l.chain.Size()/audit.TileSize*32-32)
	return err
}

// roll ends the segment if it is full or of another day. After a clock that was ahead the
// next one is of the newest day there is: names must sort as entries do.
func (l *Log) roll() error {
	day := max(audit.DayOf(l.cfg.Now()), l.day)
	if l.segment != nil && (l.segment.head.Day >= day && l.segment.size < l.cfg.SegmentBytes) {
		return nil
	}
	if err := l.endSegment(); err != nil {
		return err
	}
	s, err := l.newSegment(day)
	if err == nil {
		l.segment, l.day = s, day
	}
	return err
}

// end is the last of the committer: what waits is recorded, what is not signed is
// signed.
func (l *Log) end() {
	for len(l.queue) > 0 {
		l.serve(l.gather(<-l.queue))
	}
	if l.fail(nil) == nil {
		l.fail(l.sign())
		l.fail(l.endSegment())
	}
	l.mu.Lock()
	close(l.grown)
	l.grown = make(chan struct{})
	l.mu.Unlock()
	l.release()
}
