// Package inbox is a bounded queue of received datagrams with one reader that
// waits for datagrams, for a time, or for a wake-up. The in-memory carrier and
// the portable UDP carrier are built on it.
package inbox

import (
	"net/netip"
	"sync"
	"time"
)

// SlotSize is the room for one datagram. It is more than any datagram of the
// network (1280 bytes), so that an oversized one is seen as such and dropped
// by the machine instead of being cut to a valid size here.
const SlotSize = 1536

// slab is how many slots one allocation makes: an idle inbox holds one slab.
const slab = 8

type slot struct {
	b    []byte // full slot
	n    int
	from netip.AddrPort
}

// Inbox is a bounded queue of datagrams. Put, Wake and Close may be called
// from any goroutine; Read and At belong to the one reader.
type Inbox struct {
	mu     sync.Mutex
	queue  []slot // datagrams waiting
	free   []slot // slots without content
	made   int    // slots that exist
	max    int    // most slots that may exist
	woken  bool
	closed error
	room   sync.Cond // signalled when slots become free or the inbox closes

	notify chan struct{} // one token: something changed since the reader looked
	timer  *time.Timer   // the reader's
	batch  []slot        // what the last Read took, owned by the reader until the next
}

// New returns an empty inbox that holds at most max datagrams, counted with
// those that the reader took by its last Read.
func New(max int) *Inbox {
	in := &Inbox{max: max, notify: make(chan struct{}, 1)}
	in.room.L = &in.mu
	return in
}

// Put appends a copy of b. It reports false, and keeps nothing, if the inbox
// is full or closed, or b is larger than a slot.
func (in *Inbox) Put(b []byte, from netip.AddrPort) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed != nil || len(b) > SlotSize || !in.roomLocked() {
		return false
	}
	s := in.takeLocked()
	s.n, s.from = copy(s.b, b), from
	in.appendLocked(s)
	return true
}

// Reserve blocks until there is room and returns a slot of SlotSize bytes to
// read into, to be given back by Deliver; nil means that the inbox is closed.
func (in *Inbox) Reserve() []byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.closed == nil && !in.roomLocked() {
		in.room.Wait()
	}
	if in.closed != nil {
		return nil
	}
	return in.takeLocked().b
}

// Deliver queues a slot that Reserve returned, with n bytes of content.
func (in *Inbox) Deliver(b []byte, n int, from netip.AddrPort) {
	in.mu.Lock()
	in.appendLocked(slot{b: b, n: n, from: from})
	in.mu.Unlock()
}

func (in *Inbox) roomLocked() bool { return len(in.free) > 0 || in.made < in.max }

func (in *Inbox) takeLocked() slot {
	if len(in.free) == 0 {
		n := min(slab, in.max-in.made)
		buf := make([]byte, n*SlotSize)
		for i := range n {
			in.free = append(in.free, slot{b: buf[i*SlotSize : (i+1)*SlotSize : (i+1)*SlotSize]})
		}
		in.made += n
	}
	s := in.free[len(in.free)-1]
	in.free = in.free[:len(in.free)-1]
	return s
}

func (in *Inbox) appendLocked(s slot) {
	in.queue = append(in.queue, s)
	if len(in.queue) == 1 {
		in.signal()
	}
}

func (in *Inbox) signal() {
	select {
	case in.notify <- struct{}{}:
	default:
	}
}

// Wake makes a waiting Read, or else the next one that would wait, return.
func (in *Inbox) Wake() {
	in.mu.Lock()
	if !in.woken {
		in.woken = true
		in.signal()
	}
	in.mu.Unlock()
}

// Close makes every later Read return err and every Put fail. The first error
// stays.
func (in *Inbox) Close(err error) {
	in.mu.Lock()
	if in.closed == nil {
		in.closed = err
		in.room.Broadcast()
		in.signal()
	}
	in.mu.Unlock()
}

// Read takes what is queued, waiting up to wait for the first datagram: zero
// does not wait, a negative wait has no end. It returns 0 and no error when
// the time is over or Wake was called.
func (in *Inbox) Read(wait time.Duration) (int, error) {
	if n, done, err := in.take(wait == 0); done {
		return n, err
	}
	var expired <-chan time.Time
	if wait > 0 {
		if in.timer == nil {
			in.timer = time.NewTimer(wait)
		} else {
			in.timer.Reset(wait)
		}
		expired = in.timer.C
	}
	for {
		select {
		case <-in.notify:
			if n, done, err := in.take(false); done {
				if wait > 0 {
					in.timer.Stop()
				}
				return n, err
			}
		case <-expired:
			n, _, err := in.take(true)
			return n, err
		}
	}
}

// take moves the queue to the reader's batch. It is done if there is anything
// to tell the reader, or if it must not wait.
func (in *Inbox) take(force bool) (n int, done bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.batch) > 0 {
		in.free = append(in.free, in.batch...)
		in.batch = in.batch[:0]
		in.room.Broadcast()
	}
	if in.closed != nil {
		return 0, true, in.closed
	}
	done = force || in.woken || len(in.queue) > 0
	in.woken = false
	in.batch, in.queue = in.queue, in.batch
	return len(in.batch), done, nil
}

// At returns datagram i of the last Read. The bytes may be overwritten by the
// reader and are valid until its next Read.
func (in *Inbox) At(i int) ([]byte, netip.AddrPort) {
	s := &in.batch[i]
	return s.b[:s.n], s.from
}

// Len is the number of datagrams that wait to be read.
func (in *Inbox) Len() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.queue)
}
