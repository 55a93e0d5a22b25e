package ledger

import "github.com/nyxnet/nyx/internal/audit"

// window knows the newest IDs.
type window struct {
	known map[audit.ID]struct{}
	ring  []audit.ID
	next  int
}

func newWindow(most int) window {
	return window{known: make(map[audit.ID]struct{}), ring: make([]audit.ID, 0, most)}
}

// add takes an ID and reports whether it is new. Beyond the window the oldest is
// forgotten.
func (w *window) add(id audit.ID) bool {
	if _, twice := w.known[id]; twice {
		return false
	}
	w.known[id] = struct{}{}
	if len(w.ring) < cap(w.ring) {
		w.ring = append(w.ring, id)
		return true
	}
	delete(w.known, w.ring[w.next])
	w.ring[w.next] = id
	w.next = (w.next + 1) % len(w.ring)
	return true
}
