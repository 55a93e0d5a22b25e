package mail

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/seal"
)

const (
	// sweepers is how many letters are removed at a time: each waits for the store's
	// disks.
	sweepers = 16
	// officeAgain is after what time an office that cannot be had is asked for again.
	officeAgain = time.Second
)

// tidy sweeps whenever this member has the office.
func (b *Bus) tidy(ctx context.Context) {
	if b.cfg.Office == nil {
		b.sweepAll(ctx)
		return
	}
	for ctx.Err() == nil {
		err := b.cfg.Office.Hold(ctx, sweepOffice, b.cfg.Name, b.sweepAll)
		if err != nil && ctx.Err() == nil {
			b.log.Debug("nobody could be found who sweeps the bus; trying again", "why", err)
		}
		pause(ctx, officeAgain)
	}
}

// sweepAll removes what all members have settled, until ctx ends.
func (b *Bus) sweepAll(ctx context.Context) {
	told(b.sweep)
	for swept := int64(0); ; {
		select {
		case <-b.sweep:
		case <-ctx.Done():
			return
		}
		if floor := b.floor(); floor > swept && b.remove(ctx, floor) {
			swept = floor
		}
		b.giveUp(ctx)
	}
}

// floor is the revision up to which all have settled all letters, but those who were
// given up.
func (b *Bus) floor() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	floor := int64(-1)
	for _, name := range b.cfg.Members {
		if r := b.readers[name]; !r.gone && (floor < 0 || r.revision < floor) {
			floor = r.revision
		}
	}
	return floor
}

// remove removes letters up to a revision, and reports whether none is left.
func (b *Bus) remove(ctx context.Context, floor int64) bool {
	type place struct {
		key      string
		revision int64
	}
	var all []place
	b.mu.Lock()
	for key, l := range b.letters {
		if l.revision != 0 && l.revision <= floor {
			all = append(all, place{key, l.revision})
		}
	}
	b.mu.Unlock()
	var removing sync.WaitGroup
	turns, left := make(chan struct{}, sweepers), make(chan error, len(all))
	for _, p := range all {
		turns <- struct{}{}
		removing.Go(func() {
			if err := b.cfg.Store.Delete(ctx, p.key, p.revision); err != nil && !errors.Is(err, registry.ErrChanged) {
				left <- err
			}
			<-turns
		})
	}
	removing.Wait()
	if len(left) == 0 {
		return true
	}
	if ctx.Err() == nil {
		b.log.Debug("letters that all have are not removed; trying again", "why", <-left)
		told(b.sweep)
		pause(ctx, again)
	}
	return false
}

// giveUp waits no longer for the slowest members if what only they lack fills half a
// lane, as long as most are still waited for. Their logs will lack events, which the
// others have; an event of each's own says so in all of them.
func (b *Bus) giveUp(ctx context.Context) {
	for _, m := range b.slowest() {
		switch err := b.leave(ctx, &m); {
		case errors.Is(err, registry.ErrChanged): // it has come further
		case err != nil && ctx.Err() == nil:
			b.log.Warn("a member that is too far behind is still waited for; trying again", "member", m.name, "why", err)
			told(b.sweep)
			pause(ctx, again)
		case err == nil:
			b.log.Error("a member is too far behind; its audit log will lack events that the others have", "member", m.name)
		}
	}
}

// leave says in all logs that a member is given up, and then gives it up. What says so
// goes past the bound of its lane: it is what makes room.
func (b *Bus) leave(ctx context.Context, m *late) error {
	h := seal.Hash("audit log gap", []byte(m.name), m.encode())
	e := audit.Event{
		ID: audit.NewID(m.oldest, [10]byte(h[:])), Time: m.oldest, Kind: audit.Incident, Severity: audit.Critical, Actor: b.cfg.Name,
		Subject: "control/" + m.name, Action: "log.gap", Outcome: audit.Failed, Count: 1,
		Details: []audit.Detail{{Key: "summary", Value: "it is behind by more than is kept for it: from this time on its audit log lacks events, which the other members have"}},
	}
	ctx, cancel := context.WithTimeout(ctx, publishMost)
	defer cancel()
	if fresh := b.fresh([]pipeline.Message{{ID: e.ID, Payload: audit.Append(nil, &e)}}); len(fresh) > 0 {
		if err := b.send(ctx, &letter{lane: pipeline.Incidents, messages: fresh}); err != nil {
			return err
		}
	}
	gone := reader{revision: m.revision, gone: true}
	_, err := b.cfg.Store.Put(ctx, readPrefix+m.name, gone.encode(), m.entry)
	return err
}

// late is a member that is behind.
type late struct {
	name string
	reader
	oldest time.Time // of the letters that it lacks
}

// slowest are the members to give up: the fewest, the slowest first, such that the next
// one has half a lane that the slowest lacks. The last of them must be behind that next
// one by its part of it: members that keep up are never quite at one mark, and are not
// given up with one that is dead.
func (b *Bus) slowest() []late {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.fills(b.held, b.held, 1) {
		return nil
	}
	var waited []late
	for _, m := range b.cfg.Members {
		if r := b.readers[m]; !r.gone {
			waited = append(waited, late{name: m, reader: r})
		}
	}
	slices.SortFunc(waited, func(x, y late) int { return cmp.Compare(x.revision, y.revision) })
	spare := len(waited) - (len(b.cfg.Members)/2 + 1)
	for n := 1; n <= spare; n++ {
		next := waited[n].revision
		first, _ := b.lacks(waited[0].revision, next)
		last, _ := b.lacks(waited[n-1].revision, next)
		if !b.fills(first, last, spare) {
			continue
		}
		for i := range waited[:n] {
			_, waited[i].oldest = b.lacks(waited[i].revision, next)
		}
		return waited[:n]
	}
	return nil
}

// lacks is what one who is at a revision lacks of what another one has, and the time of
// the oldest letter of it. The lock is held.
func (b *Bus) lacks(revision, of int64) (lanes [pipeline.NumLanes]held, oldest time.Time) {
	for _, l := range b.letters {
		if l.revision <= revision || l.revision > of {
			continue
		}
		lanes[l.lane].messages += l.total
		lanes[l.lane].bytes += l.size
		if oldest.IsZero() || l.at.Before(oldest) {
			oldest = l.at
		}
	}
	return lanes, oldest
}

// fills reports whether there is a lane of which all is more than half, and part more
// than half by so many parts.
func (b *Bus) fills(all, part [pipeline.NumLanes]held, parts int) bool {
	messages, bytes := b.limits.Messages/2, b.limits.Bytes/2
	for lane := range all {
		a, p := all[lane], part[lane]
		if a.messages > messages && p.messages > messages/int64(parts) || a.bytes > bytes && p.bytes > bytes/int64(parts) {
			return true
		}
	}
	return false
}
