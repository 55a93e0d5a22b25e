package daemon

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/setup"
)

// reporter tells of evidence: a file, a line in the log, and a counter. Of each
// finding it tells once.
type reporter struct {
	trust *directory.Trust
	dir   string // "": no file
	log   *slog.Logger
	tell  func(name string, proven bool) // nil: no control plane

	mu    sync.Mutex
	found map[string]bool
	last  string
}

func newReporter(trust *directory.Trust, dir string, log *slog.Logger) *reporter {
	return &reporter{trust: trust, dir: dir, log: logOrNone(log), found: map[string]bool{}}
}

// report tells of evidence that holds.
func (r *reporter) report(e *translog.Evidence) {
	f, err := e.Judge(translog.NewPolicy(r.trust), r.trust)
	if err != nil {
		r.log.Warn("evidence that shows nothing", "why", err)
		return
	}
	name := e.Name()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found[name] {
		return
	}
	r.found[name], r.last = true, f.Says
	file := "none"
	if r.dir != "" {
		file = filepath.Join(r.dir, "evidence-"+name+".json")
		if err := setup.SaveEvidence(file, e.Encode()); err != nil {
			file = err.Error()
		}
	}
	if r.tell != nil {
		r.tell(name, f.Proven)
	}
	r.log.Error("directory: "+f.Says, "proven", f.Proven, "accused", f.Accused, "evidence", file)
}

// documents tells of two documents of one number.
func (r *reporter) documents(a, b *directory.Document) {
	if a == nil || b == nil || !a.Mark().Conflicts(b.Mark()) {
		return
	}
	e := &translog.Evidence{Kind: translog.KindDocuments, Network: r.trust.Network}
	for _, d := range []*directory.Document{a, b} {
		e.Documents = append(e.Documents, translog.Testimony{Header: d.SignedHeader(), Proposal: d.Proposal()})
	}
	r.report(e)
}

// fork tells of two checkpoints of a log for which no proof was given.
func (r *reporter) fork(p *translog.Policy, a, b []byte) {
	first, _, err1 := p.Open(a)
	second, _, err2 := p.Open(b)
	if err1 != nil || err2 != nil {
		return
	}
	if first.Size > second.Size {
		a, b = b, a
	}
	r.report(&translog.Evidence{Kind: translog.KindLog, Network: p.Network, Checkpoints: []string{string(a), string(b)}})
}

// count is how much was found.
func (r *reporter) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.found)
}

// Err is what was found last, or nil.
func (r *reporter) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == "" {
		return nil
	}
	return fmt.Errorf("directory: %s", r.last)
}
