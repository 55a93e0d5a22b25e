package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/mirror"
)

// How the directory processes of a network come to one document:
//
//  1. lead looks at every second, and soon after a descriptor came, whether a
//     document is due and it is this process's turn (turns.go).
//  2. build makes the document and signs it with the keys held here.
//  3. gather asks all other processes to sign, until there are enough.
//  4. signFor, there: a document that a trusted authority has signed in its turn
//     and that this process would build itself.
//  5. sign, on both sides: one document of a number, and none of a lower one,
//     whoever asks, over restarts too. With a threshold of more than half this
//     keeps two documents of one number from coming about, whatever the turns.
//  6. publish serves it; the others fetch it (follow) as clients do, and so does
//     who has added the last signature that it needed.

const (
	// settle is how long after the last change a document is made, so that
	// nodes that start together stand in one document.
	settle = 150 * time.Millisecond
	// settleMax bounds the wait for that, so that nobody who keeps posting keeps
	// a document from being made.
	settleMax = time.Second
	// signPoll is how often a new epoch is looked for.
	signPoll = time.Second
	// retryMax bounds the doubling time between tries to make a document, in
	// seconds.
	retryMax = 30
)

// lead makes a document when it is due.
func (a *Authority) lead(ctx context.Context) {
	tick := time.NewTicker(signPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.changed:
			a.awaitQuiet(ctx)
			a.mu.Lock()
			a.notBefore = 0
			a.mu.Unlock()
		case <-tick.C:
		}
		wall := time.Now().Unix()
		a.forget(ctx, wall)
		a.make(ctx, wall)
	}
}

// awaitQuiet waits until nothing has changed for a moment, or for too long.
func (a *Authority) awaitQuiet(ctx context.Context) {
	quiet, enough := time.NewTimer(settle), time.NewTimer(settleMax)
	defer quiet.Stop()
	defer enough.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.changed:
			quiet.Reset(settle)
		case <-quiet.C:
			return
		case <-enough.C:
			return
		}
	}
}

// make builds, signs and publishes a document if one is due.
func (a *Authority) make(ctx context.Context, wall int64) {
	d, err := a.build(wall)
	if d == nil && err == nil {
		return
	}
	if err == nil {
		err = a.gather(ctx, d)
	}
	if ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.makeErr = err; err != nil {
		a.failures++
		a.notBefore = wall + min(int64(1)<<min(a.failures, 8), retryMax)
		a.log.Warn("no document", "why", err)
		return
	}
	a.failures = 0
	if !a.published.Before(d.Mark()) {
		return // others came further while it was signed: look again
	}
	a.publish(d, wall)
	a.log.Info("document published", "epoch", d.Epoch, "revision", d.Revision, "nodes", d.Count, "place", a.place)
}

func (a *Authority) epochAt(wall int64) uint64 { return a.authorities[0].Params().EpochAt(wall) }

// build makes the document of the present epoch, if it is due and our turn, with
// the signatures of our own authorities.
func (a *Authority) build(wall int64) (*directory.Document, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	epoch := a.epochAt(wall)
	if epoch > a.published.Epoch {
		for _, own := range a.authorities {
			own.Forget(wall)
		}
	}
	if a.authorities[0].Len() == 0 {
		return nil, nil
	}
	if err := a.look(epoch, wall); err != nil {
		return nil, err
	}
	if wall < a.notBefore || a.mayMake(a.place, epoch, wall, 0) != nil {
		return nil, nil
	}
	d, err := a.next(epoch)
	if err != nil {
		return nil, err
	}
	return d, a.sign(d, wall)
}

// next builds the document that follows what was signed and published: the
// same number for the same content, the next revision for another. The lock is
// held.
func (a *Authority) next(epoch uint64) (*directory.Document, error) {
	revision, end := a.numbers(a.place, epoch)
	if last := uint64(a.signed.Revision); a.signed.Epoch == epoch && last >= revision {
		if revision = last; last < end {
			d, err := a.authorities[0].Build(epoch, uint32(last))
			if err != nil || d.Mark() == a.signed {
				return d, err
			}
		}
		revision++
	}
	if revision >= end {
		return nil, fmt.Errorf("directory: all revisions of place %d are used until another makes a document", a.place)
	}
	return a.authorities[0].Build(epoch, uint32(revision))
}

// sign adds our signatures to a document that we would build ourselves. That we
// did is kept before anybody can see it; who asks again is given the same. The
// lock is held.
func (a *Authority) sign(d *directory.Document, wall int64) error {
	m := d.Mark()
	switch {
	case a.given != nil && m == a.signed:
		return d.Merge(a.given)
	case m.Before(a.signed) || m.Conflicts(a.signed):
		return fmt.Errorf("%w: epoch %d revision %d after epoch %d revision %d was signed", directory.ErrConflict, m.Epoch, m.Revision, a.signed.Epoch, a.signed.Revision)
	}
	for _, own := range a.authorities {
		if err := own.Sign(d, wall); err != nil {
			return err
		}
	}
	if m != a.signed {
		ctx, cancel := context.WithTimeout(context.Background(), keepMax)
		defer cancel()
		newest, err := a.registry.Sign(ctx, m)
		if err != nil {
			if a.signed.Before(newest) { // by another process with our key
				a.signed, a.given = newest, nil
			}
			return err
		}
	}
	given, err := directory.ParseProposal(d.Proposal())
	a.signed, a.given = m, given
	return err
}

// publish serves a document from now on, and after a restart. The lock is held.
func (a *Authority) publish(d *directory.Document, wall int64) {
	a.serve(d, wall)
	if err := a.own.add(d); err != nil {
		a.log.Error("clients will not believe the document", "why", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepMax)
	defer cancel()
	if err := a.registry.Publish(ctx, d); err != nil {
		a.log.Warn("after a restart there will be no document at first", "why", err)
	}
}

func (a *Authority) serve(d *directory.Document, wall int64) {
	if d.Epoch != a.published.Epoch {
		a.rested = 0
	}
	a.rested = max(a.rested, at(wall)) + a.turn()
	a.document, a.published, a.since = d.Encode(), d.Mark(), 0
	a.observe(d)
	a.tag = mirror.Name(d)
	a.shelf.Put(d)
}

// follow returns a feed of what the other processes publish.
func (a *Authority) follow() (*feed, error) {
	f, err := newFeed(feedConfig{
		trust: a.cfg.Trust, urls: a.cfg.Peers, poll: signPoll, dir: a.cfg.StateDir, mark: "authority.newest", client: a.client,
		unlogged: true, report: a.report, // what is published here is logged here
		deliver: func(v *directory.View) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.published.Before(v.Document().Mark()) {
				a.publish(v.Document(), time.Now().Unix())
			}
		},
	})
	return f, err
}

// followed notes what became of a look at another process. That one lags
// behind another is no failure.
func (a *Authority) followed(err error) {
	if errors.Is(err, directory.ErrRollback) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.followErr = err
}

// gather collects the signatures of other processes until there are enough. All
// are asked at once, so that one which does not answer costs no time.
func (a *Authority) gather(ctx context.Context, d *directory.Document) error {
	have := len(a.authorities)
	if have >= a.cfg.Threshold {
		return nil
	}
	type answer struct {
		d   *directory.Document
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, answers := d.Proposal(), make(chan answer, len(a.cfg.Peers))
	for _, url := range a.cfg.Peers {
		a.running.Go(func() {
			signed, err := a.askPeer(ctx, url, body)
			if err != nil {
				err = fmt.Errorf("authority at %s: %w", url, err)
			}
			answers <- answer{signed, err}
		})
	}
	var errs []error
	for range a.cfg.Peers {
		got := <-answers
		if got.err == nil {
			got.err = d.Merge(got.d)
		}
		if got.err != nil {
			errs = append(errs, got.err)
		}
		if have = len(d.Signatures()); have >= a.cfg.Threshold {
			return nil
		}
	}
	return fmt.Errorf("directory: epoch %d has %d signatures of %d needed: %w", d.Epoch, have, a.cfg.Threshold, errors.Join(errs...))
}

// askPeer has another directory process sign, and returns the document with
// those of its signatures that are valid.
func (a *Authority) askPeer(ctx context.Context, url string, proposal []byte) (*directory.Document, error) {
	got, err := exchange(ctx, a.client, request{server: url, path: signPath, post: proposal, most: directory.MaxProposalSize})
	if err != nil {
		return nil, err
	}
	if !got.ok() {
		return nil, errors.New(got.said())
	}
	d, err := directory.ParseProposal(got.body)
	if err != nil {
		return nil, err
	}
	d.KeepValid(&a.cfg.Trust)
	return d, nil
}

// signFor signs another process's document.
func (a *Authority) signFor(w http.ResponseWriter, r *http.Request) {
	b, ok := takeBody(w, r, "proposal", directory.MaxProposalSize)
	if !ok {
		return
	}
	d, err := directory.ParseProposal(b)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if given := a.repeated(d.Mark()); given != nil {
		w.Write(given)
		return
	}
	if d.KeepValid(&a.cfg.Trust) == 0 {
		http.Error(w, "only what another authority has signed is signed here", http.StatusForbidden)
		return
	}
	if err := a.countersign(d, time.Now().Unix()); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Write(d.Proposal())
}

// repeated is the answer to who asks again for what was signed last; nil if it
// is something else. It costs no signature, neither made nor checked.
func (a *Authority) repeated(m directory.Mark) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given == nil || m != a.signed {
		return nil
	}
	return a.given.Proposal()
}

// countersign signs a document with valid signatures of others, and publishes it
// if ours is the last that it needed: who asked for it may keep it.
func (a *Authority) countersign(d *directory.Document, wall int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.mayPropose(d, wall); err != nil {
		return err
	}
	if err := a.sign(d, wall); err != nil {
		return err
	}
	if len(d.Signatures()) < a.cfg.Threshold || !a.published.Before(d.Mark()) {
		return nil
	}
	whole, err := a.authorities[0].Build(d.Epoch, d.Revision)
	if err == nil {
		err = whole.Merge(d)
	}
	if err == nil {
		a.publish(whole, wall)
	}
	return err
}
