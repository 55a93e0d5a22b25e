package daemon

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
)

// How the directory processes of a network come to one document:
//
//  1. lead looks at every second, and soon after a descriptor came, whether it
//     is this process's turn (due): always the leader's, another's when an epoch
//     has been without a document for as long as its place in the order says.
//  2. build makes the document and signs it with the keys held here.
//  3. gather asks all other processes to sign, until there are enough.
//  4. signFor, there: a document that a trusted authority has signed and that
//     this process would build itself.
//  5. sign, on both sides: one document of a number, and none of a lower one,
//     whoever asks, over restarts too. With a threshold of more than half this
//     keeps two documents of one number from coming about, however many
//     processes take themselves for the one whose turn it is.
//  6. publish serves it; the others fetch it (follow) as clients do.

const (
	// settle is how long after the last change a document is made, so that
	// nodes that start together stand in one document.
	settle = 150 * time.Millisecond
	// settleMax bounds the wait for that, so that nobody who keeps posting keeps
	// a document from being made.
	settleMax = time.Second
	// signPoll is how often a new epoch is looked for.
	signPoll = time.Second
	// turnMax is how long each process in the order waits for those before it
	// to make an epoch's document: some tries, of a second and more each.
	turnMax = 30 * time.Second
	// retryMax bounds the doubling time between tries to make a document, in
	// seconds.
	retryMax = 30
	// regather is how long a process that needs nobody's signature waits after a
	// restart: nodes post again when they next ask for a document.
	regather = feedPoll + 5*time.Second
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
		a.make(ctx, time.Now().Unix())
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
		a.dirty = true
		a.failures++
		a.notBefore = wall + min(int64(1)<<min(a.failures, 8), retryMax)
		a.log.Warn("no document", "why", err)
		return
	}
	a.failures = 0
	if !a.published.Before(d.Mark()) {
		a.dirty = true // others came further while it was signed: look again
		return
	}
	a.publish(d)
	a.log.Info("document published", "epoch", d.Epoch, "revision", d.Revision, "nodes", d.Count, "leads", a.cfg.Leads)
}

func (a *Authority) epochAt(wall int64) uint64 { return a.authorities[0].Params().EpochAt(wall) }

// due reports whether this process is to make a document. The lock is held.
func (a *Authority) due(wall int64) bool {
	epoch := a.epochAt(wall)
	switch {
	case a.authorities[0].Len() == 0 || wall < a.notBefore || epoch < a.published.Epoch:
		return false
	case a.alone && wall < a.began+int64(regather/time.Second):
		return false
	case a.cfg.Leads:
		return epoch > a.published.Epoch || a.dirty
	}
	p := a.authorities[0].Params()
	// Who has begun within the epoch gives its nodes time to post, too.
	since := time.Duration(wall-max(p.Begin(epoch), a.began)) * time.Second
	turn := min(turnMax, p.EpochLength/(2*directory.MaxAuthorities))
	return epoch > a.published.Epoch && 2*a.cfg.Threshold > a.cfg.Total && since >= turn*time.Duration(1+a.cfg.Turn)
}

// build makes the document of the present epoch, if it is due and says
// something new, with the signatures of our own authorities.
func (a *Authority) build(wall int64) (*directory.Document, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.due(wall) {
		return nil, nil
	}
	if a.epochAt(wall) > a.published.Epoch {
		for _, own := range a.authorities {
			own.Forget(wall)
		}
	}
	a.dirty = false
	d, err := a.next(a.epochAt(wall))
	if err != nil || d.Mark() == a.published {
		return nil, err
	}
	if err := a.sign(d, wall); err != nil {
		return nil, err
	}
	return d, nil
}

// next builds the document that follows what was signed and published: the
// same number for the same content, the next revision for another. The lock is
// held.
func (a *Authority) next(epoch uint64) (*directory.Document, error) {
	last := a.published
	if last.Before(a.signed) {
		last = a.signed
	}
	if last.Epoch != epoch {
		return a.authorities[0].Build(epoch, 0)
	}
	d, err := a.authorities[0].Build(epoch, last.Revision)
	if err == nil && d.Mark() != last {
		d, err = a.authorities[0].Build(epoch, last.Revision+1)
	}
	return d, err
}

// sign adds our signatures to a document that we would build ourselves. That we
// did is kept before anybody can see it. The lock is held.
func (a *Authority) sign(d *directory.Document, wall int64) error {
	const grace = int64(directory.ClockGrace / time.Second)
	m := d.Mark()
	switch p := a.authorities[0].Params(); {
	case wall < p.Begin(d.Epoch)-grace || wall >= p.Begin(d.Epoch+1)+grace:
		return fmt.Errorf("%w: epoch %d is not the present one, which is %d", directory.ErrConflict, d.Epoch, a.epochAt(wall))
	case m.Before(a.signed) || m.Conflicts(a.signed):
		return fmt.Errorf("%w: epoch %d revision %d after epoch %d revision %d was signed", directory.ErrConflict, m.Epoch, m.Revision, a.signed.Epoch, a.signed.Revision)
	}
	for _, own := range a.authorities {
		if err := own.Sign(d, wall); err != nil {
			return err
		}
	}
	if m == a.signed {
		return nil
	}
	if err := saveMark(a.cfg.StateDir, signedFile, m); err != nil {
		return err
	}
	a.signed = m
	return nil
}

// publish serves a document from now on. The lock is held.
func (a *Authority) publish(d *directory.Document) {
	a.document, a.published = d.Encode(), d.Mark()
	a.tag = `"` + hex.EncodeToString(a.published.Hash[:8]) + `"`
}

// follow returns a feed of what the other processes publish.
func (a *Authority) follow() (*feed, error) {
	f, err := newFeed(feedConfig{
		trust: a.cfg.Trust, urls: a.cfg.Peers, poll: signPoll, dir: a.cfg.StateDir, mark: "authority.newest", client: a.client,
		deliver: func(v *directory.View) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.published.Before(v.Document().Mark()) {
				a.publish(v.Document())
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
	body, answers := d.Encode(), make(chan answer, len(a.cfg.Peers))
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
func (a *Authority) askPeer(ctx context.Context, url string, document []byte) (*directory.Document, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(url, "/")+signPath, bytes.NewReader(document))
	if err != nil {
		return nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, documentMax))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(b)))
	}
	d, err := directory.ParseDocument(b)
	if err != nil {
		return nil, err
	}
	d.KeepValid(&a.cfg.Trust)
	return d, nil
}

// signFor signs another process's document.
func (a *Authority) signFor(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, documentMax))
	if err != nil {
		http.Error(w, "document too large or cut off", http.StatusBadRequest)
		return
	}
	d, err := directory.ParseDocument(b)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if d.KeepValid(&a.cfg.Trust) == 0 {
		http.Error(w, "only what another authority has signed is signed here", http.StatusForbidden)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.sign(d, time.Now().Unix()); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Write(d.Encode())
}
