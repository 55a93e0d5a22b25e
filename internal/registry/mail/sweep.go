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

// giveUp waits no longer for the slowest member if what only that one lacks fills half a
// lane, as long as most are still waited for. Its log will lack events, which the others
// have; an event of its own says so in all of them.
func (b *Bus) giveUp(ctx context.Context) {
	name, was, oldest := b.slowest()
	if name == "" {
		return
	}
	h := seal.Hash("audit log gap", []byte(name), was.encode())
	e := audit.Event{
		ID: audit.NewID(oldest, [10]byte(h[:])), Time: oldest, Kind: audit.Incident, Severity: audit.Critical, Actor: b.cfg.Name,
		Subject: "control/" + name, Action: "log.gap", Outcome: audit.Failed, Count: 1,
		Details: []audit.Detail{{Key: "summary", Value: "it is behind by more than is kept for it: from this time on its audit log lacks events, which the other members have"}},
	}
	_, err := b.Publish(ctx, pipeline.Incidents, pipeline.Message{ID: e.ID, Payload: audit.Append(nil, &e)})
	if err == nil {
		gone := reader{revision: was.revision, gone: true}
		_, err = b.cfg.Store.Put(ctx, readPrefix+name, gone.encode(), was.entry)
	}
	switch {
	case errors.Is(err, registry.ErrChanged): // it has come further
	case err != nil && ctx.Err() == nil:
		b.log.Warn("a member that is too far behind is still waited for", "member", name, "why", err)
	case err == nil:
		b.log.Error("a member is too far behind; its audit log will lack events that the others have", "member", name)
	}
}

// slowest is the member to give up, with its mark and the time of the oldest letter that
// it lacks; "" for none.
func (b *Bus) slowest() (name string, r reader, oldest time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.ContainsFunc(b.held[:], b.half) {
		return "", r, oldest
	}
	var waited []string
	for _, m := range b.cfg.Members {
		if !b.readers[m].gone {
			waited = append(waited, m)
		}
	}
	if len(waited)-1 < len(b.cfg.Members)/2+1 {
		return "", r, oldest
	}
	slices.SortFunc(waited, func(x, y string) int { return cmp.Compare(b.readers[x].revision, b.readers[y].revision) })
	r = b.readers[waited[0]]
	var lacks [pipeline.NumLanes]held
	for _, l := range b.letters {
		if l.revision <= r.revision || l.revision > b.readers[waited[1]].revision {
			continue
		}
		lacks[l.lane].messages += l.total
		lacks[l.lane].bytes += l.size
		if oldest.IsZero() || l.at.Before(oldest) {
			oldest = l.at
		}
	}
	if !slices.ContainsFunc(lacks[:], b.half) {
		return "", r, oldest
	}
	return waited[0], r, oldest
}

// half reports whether it is half of what a lane holds.
func (b *Bus) half(h held) bool {
	return h.messages > b.limits.Messages/2 || h.bytes > b.limits.Bytes/2
}
