package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/setup"
)

// watchPoll is how often the logs are read.
const watchPoll = 10 * time.Second

// watcher reads the logs of all authorities, keeps a copy of each, and reports what
// must not be. Authorities, witnesses and replicas have one each; anybody else can.
type watcher struct {
	policy *translog.Policy
	trust  *directory.Trust
	urls   []string
	own    *ownLog // read without asking, if not nil
	client *http.Client
	dir    string // of the copies; "": none
	log    *slog.Logger
	report *reporter

	turn  sync.Mutex // of who reads the logs
	mu    sync.Mutex // of watch
	watch *translog.Watch
	files map[string]*setup.LogFile // by origin
}

// newWatcher goes on from the copies in a directory.
func newWatcher(trust *directory.Trust, urls []string, dir string, client *http.Client, log *slog.Logger, report *reporter) (*watcher, error) {
	policy := translog.NewPolicy(trust)
	w := &watcher{
		policy: policy, trust: trust, urls: urls, client: client, dir: dir, log: log, report: report,
		watch: translog.NewWatch(policy), files: map[string]*setup.LogFile{},
	}
	if dir == "" {
		return w, nil
	}
	for _, key := range policy.Authorities {
		origin := translog.Origin(policy.Network, key)
		f := setup.NewLogFile(filepath.Join(dir, "log-"+logID(origin)), true)
		w.files[origin] = f
		entries, note, err := f.Load()
		if err != nil {
			return nil, err
		}
		if err := w.resume(f, entries, note); err != nil {
			return nil, fmt.Errorf("the copy of %s in %s is damaged; remove its two files, and know that another log is then believed once: %w", origin, dir, err)
		}
	}
	return w, nil
}

// resume takes a copy as far as its note says.
func (w *watcher) resume(f *setup.LogFile, entries [][]byte, note []byte) error {
	size := int64(0)
	if note != nil {
		c, _, err := w.policy.Open(note)
		if err != nil {
			return err
		}
		size = c.Size
	}
	if int64(len(entries)) > size { // a crash came before the note
		entries = entries[:size]
		if err := f.Truncate(entries); err != nil {
			return err
		}
	}
	if note == nil {
		return nil
	}
	found, err := w.watch.Extend(note, entries)
	w.found(context.Background(), found)
	return err
}

func (w *watcher) run(ctx context.Context) {
	defer w.client.CloseIdleConnections()
	for {
		w.read(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchPoll):
		}
	}
}

// read reads what is new in all logs.
func (w *watcher) read(ctx context.Context) {
	w.turn.Lock()
	defer w.turn.Unlock()
	if w.own != nil {
		w.lookAtOwn(ctx)
	}
	for _, url := range w.urls {
		if err := w.look(ctx, url); err != nil && ctx.Err() == nil {
			w.log.Debug("log not read", "server", url, "why", err)
		}
	}
}

// proof proves a document by any of the copies.
func (w *watcher) proof(m directory.Mark) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, err := w.watch.Prove(m)
	if err != nil {
		return nil, err
	}
	return p.Encode(), nil
}

// consistency proves that two sizes are of one log.
func (w *watcher) consistency(id string, from, to int64) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	hashes, err := w.watch.Consistency("nyx/"+w.policy.Network+"/log/"+id, from, to)
	return translog.AppendHashes(nil, hashes), err
}

func (w *watcher) size(origin string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watch.Size(origin)
}

func (w *watcher) extend(note []byte, entries [][]byte) ([]*translog.Evidence, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watch.Extend(note, entries)
}

func (w *watcher) lookAtOwn(ctx context.Context) {
	note, entries := w.own.since(w.size(w.own.origin))
	if note == nil {
		return
	}
	found, err := w.extend(note, entries)
	if err != nil {
		w.log.Warn("this authority's own log", "why", err)
	}
	w.found(ctx, found)
}

// look reads what is new in a server's log.
func (w *watcher) look(ctx context.Context, url string) error {
	note, err := ask(ctx, w.client, url, logPath+"checkpoint", translog.MaxCheckpointSize)
	if err != nil {
		return err
	}
	c, _, err := w.policy.Open(note)
	if err != nil {
		return err
	}
	from := w.size(c.Origin)
	entries, err := w.entries(ctx, url, from, c.Size)
	if err != nil {
		return err
	}
	found, err := w.extend(note, entries)
	w.found(ctx, found)
	if errors.Is(err, translog.ErrInconsistent) && len(found) == 0 {
		whole, _ := w.entries(ctx, url, 0, c.Size) // what it shows is what it shows
		w.mu.Lock()
		e, err := w.watch.Fork(note, whole)
		w.mu.Unlock()
		if err == nil {
			w.report.report(e)
		}
		return errors.Join(translog.ErrInconsistent, err)
	}
	if f := w.files[c.Origin]; err == nil && f != nil && len(entries) > 0 {
		if err := f.Append(entries...); err != nil {
			return err
		}
		return f.Keep(note)
	}
	return err
}

// entries fetches the entries of a log from one number up to another.
func (w *watcher) entries(ctx context.Context, url string, from, to int64) (out [][]byte, err error) {
	const width = 256
	for n := from / width; n*width < to && from < to; n++ {
		b, err := ask(ctx, w.client, url, logPath+translog.BundlePath(n, to), width*(2+translog.MaxEntrySize))
		if err != nil {
			return out, err
		}
		bundle, rest := translog.ParseEntries(b)
		if want := min(width, to-n*width); int64(len(bundle)) != want || len(rest) > 0 {
			return out, fmt.Errorf("%w: %d entries, not %d", translog.ErrMalformed, len(bundle), want)
		}
		out = append(out, bundle[max(from-n*width, 0):]...)
	}
	return out, nil
}

// found completes what was found with the signatures of the documents, where a
// server still has them, and tells of it.
func (w *watcher) found(ctx context.Context, all []*translog.Evidence) {
	for _, e := range all {
		for i := range e.Documents {
			e.Documents[i].Proposal = w.proposal(ctx, e.Documents[i].Header)
		}
		w.report.report(e)
	}
}

// proposal asks all servers for the signatures of a document.
func (w *watcher) proposal(ctx context.Context, header []byte) []byte {
	_, m, err := directory.ParseHeader(header)
	if err != nil {
		return nil
	}
	if w.own != nil {
		w.own.mu.Lock()
		b := w.own.proposals[m]
		w.own.mu.Unlock()
		if b != nil {
			return b
		}
	}
	for _, url := range w.urls {
		b, err := ask(ctx, w.client, url, logPath+"signed/"+markPath(m), directory.MaxProposalSize)
		if err != nil {
			continue
		}
		if d, err := directory.VerifyProposal(b, w.trust); err == nil && d.Mark() == m {
			return b
		}
	}
	return nil
}
