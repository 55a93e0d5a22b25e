package exit

import "sync"

// lookupsMax bounds the look-ups of all flows: a goroutine and a socket each.
const lookupsMax = 512

// lookups counts what is being looked up for messages, by session. A session
// may have no more look-ups than are still free. So one that takes all it can
// has half and leaves half, n of them leave as much as each of them has, and
// nobody is shut out by fewer than lookupsMax sessions: a session costs a route
// and its key work, a flow only a frame. The zero lookups is ready.
type lookups struct {
	mu  sync.Mutex
	all int
	of  map[uint32]int
}

// begin takes a place for a look-up, or reports false.
func (l *lookups) begin(session uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[session] >= lookupsMax-l.all {
		return false
	}
	if l.of == nil {
		l.of = map[uint32]int{}
	}
	l.of[session]++
	l.all++
	return true
}

// end gives a place back.
func (l *lookups) end(session uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.of[session]--; l.of[session] == 0 {
		delete(l.of, session)
	}
}
