package stream

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"
)

// app is the application side of a world: streams that each carry bytes from
// the client and other bytes back, checked byte for byte.
type app struct {
	w       *world
	flows   map[uint64]*flow
	ids     []uint64
	lag     func(s *Session) bool // true: do not read now
	closed  map[*Session]Event
	seen    map[EventKind]int
	answers bool // the server answers only after the client's end
}

type flow struct {
	up, down         []byte
	upSent, downSent int
	upGot, downGot   bytes.Buffer
	upEnd, downEnd   bool
	upErr, downErr   error
}

func newApp(w *world) *app {
	a := &app{w: w, flows: map[uint64]*flow{}, closed: map[*Session]Event{}, seen: map[EventKind]int{}}
	w.on = a.event
	return a
}

func (a *app) open(up, down int, lane Lane) uint64 {
	a.w.t.Helper()
	id, err := a.w.client.OpenStream(a.w.now, lane)
	if err != nil {
		a.w.t.Fatal(err)
	}
	a.flows[id] = &flow{up: pattern(up, id*2+100), down: pattern(down, id*2+101)}
	a.ids = append(a.ids, id)
	a.pushUp(id)
	return id
}

func (a *app) pushUp(id uint64) {
	f := a.flows[id]
	if f.upErr == nil && push(a.w.client, a, id, f.up, &f.upSent, &f.upErr) {
		a.w.client.CloseWrite(a.w.now, id)
	}
}

func (a *app) pushDown(id uint64) {
	f := a.flows[id]
	if a.answers && !f.upEnd {
		return
	}
	if f.downErr == nil && push(a.w.server, a, id, f.down, &f.downSent, &f.downErr) {
		a.w.server.CloseWrite(a.w.now, id)
	}
}

func push(s *Session, a *app, id uint64, b []byte, sent *int, failed *error) bool {
	for *sent < len(b) {
		n, err := s.Write(a.w.now, id, b[*sent:])
		*sent += n
		if errors.Is(err, ErrWouldBlock) {
			return false
		}
		if err != nil {
			*failed = err
			return false
		}
	}
	return true
}

func (a *app) event(s *Session, e Event) {
	a.seen[e.Kind]++
	switch e.Kind {
	case Closed:
		if _, twice := a.closed[s]; twice {
			a.w.t.Error("Closed was told twice")
		}
		a.closed[s] = e
	case StreamOpened:
		if a.flows[e.Stream] == nil {
			a.w.t.Errorf("stream %d came from nowhere", e.Stream)
			return
		}
		a.pushDown(e.Stream)
	case Writable:
		if s == a.w.client {
			a.pushUp(e.Stream)
		} else {
			a.pushDown(e.Stream)
		}
	case Readable:
		if a.lag == nil || !a.lag(s) {
			a.read(s, e.Stream)
		}
	}
}

func (a *app) read(s *Session, id uint64) {
	f := a.flows[id]
	if s == a.w.client {
		if err := readAll(s, a.w.now, id, &f.downGot); err == io.EOF {
			f.downEnd = true
		} else if err != ErrWouldBlock && !f.downEnd {
			f.downErr = err
		}
		return
	}
	if err := readAll(s, a.w.now, id, &f.upGot); err == io.EOF {
		f.upEnd = true
		a.pushDown(id)
	} else if err != ErrWouldBlock && !f.upEnd {
		f.upErr = err
	}
}

func (a *app) done() bool {
	for _, id := range a.ids {
		if f := a.flows[id]; !f.upEnd || !f.downEnd {
			return false
		}
	}
	return true
}

func (a *app) check() {
	a.w.t.Helper()
	for _, id := range a.ids {
		f := a.flows[id]
		if !bytes.Equal(f.up, f.upGot.Bytes()) {
			a.w.t.Errorf("stream %d: %d of %d bytes up, or not the same", id, f.upGot.Len(), len(f.up))
		}
		if !bytes.Equal(f.down, f.downGot.Bytes()) {
			a.w.t.Errorf("stream %d: %d of %d bytes down, or not the same", id, f.downGot.Len(), len(f.down))
		}
	}
}

// finish runs until everything has arrived, checks it, and checks that nothing
// is left behind.
func (a *app) finish(limit time.Duration) {
	a.w.t.Helper()
	a.w.until(limit, a.done)
	a.check()
	a.w.run(5 * time.Second)
	for _, s := range []*Session{a.w.client, a.w.server} {
		if st := s.Stats(); st.Streams != 0 || st.Backlog != 0 || s.send.buffered != 0 || st.InFlight != 0 {
			a.w.t.Errorf("left behind: %d streams, %d backlog, %d buffered, %d in flight", st.Streams, st.Backlog, s.send.buffered, st.InFlight)
		}
	}
}

func TestManyStreamsThroughLossAndReordering(t *testing.T) {
	for seed := range uint64(3) {
		w := newWorld(t, seed, Config{}, Config{})
		for i := range w.routes {
			w.routes[i] = route{delay: 15 * time.Millisecond, jitter: 25 * time.Millisecond, loss: 100_000, dup: 10_000}
		}
		a := newApp(w)
		for i := range 200 {
			a.open(5_000+i*37, 20_000+i*101, Lane(i%3))
		}
		a.finish(2 * time.Minute)
		c, s := w.client.Stats(), w.server.Stats()
		t.Logf("seed %d: %v; client lost %d spurious %d of %d; server lost %d spurious %d of %d", seed, time.Duration(w.now),
			c.Lost, c.Spurious, c.PacketsSent, s.Lost, s.Spurious, s.PacketsSent)
	}
}
