package daemon

import (
	"errors"
	"log/slog"
	"sync/atomic"
)

// duty is one of the things that a node must do to work fully. Each succeeds and
// fails by itself, so that what goes well says nothing of another.
type duty int

const (
	rotating   duty = iota // having the keys that are due
	recording              // having accepted set-ups on record
	publishing             // having its descriptor with the directory
	following              // having the newest document
	listing                // standing in it
	deciding               // having decisions of the control plane
	sharing                // having the fleet's session records say what becomes of sessions
	verifying              // having the issuer's keys of unlinkable tokens
	spending               // having spent tokens on record
	numDuties
)

// errNotListed is the state of a node that no document names.
var errNotListed = errors.New("the directory does not list this node yet")

// health is what became of each duty last.
type health struct {
	log  *slog.Logger
	errs [numDuties]atomic.Pointer[error]
}

// note takes why a duty could not be done, or nil because it was, and logs what
// is new.
func (h *health) note(d duty, err error) {
	last := h.errs[d].Swap(&err)
	failed := last != nil && *last != nil
	switch {
	case err != nil && (!failed || (*last).Error() != err.Error()):
		h.log.Warn("the node does not work fully", "why", err)
	case err == nil && failed && h.Err() == nil:
		h.log.Info("the node works fully")
	}
}

// Err is why the node cannot work fully, or nil.
func (h *health) Err() error {
	for d := range h.errs {
		if p := h.errs[d].Load(); p != nil && *p != nil {
			return *p
		}
	}
	return nil
}
