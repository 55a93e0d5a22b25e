package stream

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"pgregory.net/rapid"
)

// pipe is the model of one direction of a stream: what was written, and how
// far it was read.
type pipe struct {
	written []byte
	read    int
	closed  bool // CloseWrite
	ended   bool // io.EOF was read
}

// Whatever the order of calls, and whatever the routes do, each direction of
// each stream is a reliable byte pipe: what is read is what was written, in
// order, and the end comes after the last byte.
func TestModelReliablePipe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, pipes: map[uint64]*[2]pipe{}}
		m.w = newWorld(t, rapid.Uint64().Draw(t, "seed"), Config{}, Config{})
		m.w.client.AddPath(0, 1)
		for i := range m.w.routes {
			m.w.routes[i] = route{
				delay:  time.Duration(rapid.IntRange(0, 40).Draw(t, "delay")) * time.Millisecond,
				jitter: time.Duration(rapid.IntRange(0, 25).Draw(t, "jitter")) * time.Millisecond,
				loss:   uint64(rapid.IntRange(0, 200_000).Draw(t, "loss")),
				dup:    uint64(rapid.IntRange(0, 100_000).Draw(t, "dup")),
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"open": m.open, "write": m.write, "write big": m.writeBig, "close": m.closeWrite, "read": m.read,
			"lane": m.lane, "weight": m.weight, "run": m.run, "move": m.move, "break": m.breakPath, "": m.check,
		})
		m.settle()
	})
}

type model struct {
	t     *rapid.T
	w     *world
	ids   []uint64
	pipes map[uint64]*[2]pipe
	salt  uint64
}

func (m *model) sides() [2]*Session { return [2]*Session{m.w.client, m.w.server} }

func (m *model) open(t *rapid.T) {
	side := rapid.IntRange(0, 1).Draw(t, "side")
	s := m.sides()[side]
	if s == nil || len(m.ids) > 40 {
		return
	}
	id, err := s.OpenStream(m.w.now, Lane(rapid.IntRange(0, 2).Draw(t, "priority")))
	if err != nil {
		t.Fatal(err)
	}
	m.ids = append(m.ids, id)
	m.pipes[id] = &[2]pipe{}
}

func (m *model) pick(t *rapid.T) (s *Session, id uint64, out, in *pipe) {
	if len(m.ids) == 0 {
		return nil, 0, nil, nil
	}
	side := rapid.IntRange(0, 1).Draw(t, "side")
	id = rapid.SampledFrom(m.ids).Draw(t, "stream")
	p := m.pipes[id]
	return m.sides()[side], id, &p[side], &p[1-side]
}

func (m *model) put(t *rapid.T, size int) {
	s, id, out, _ := m.pick(t)
	if s == nil {
		return
	}
	m.salt++
	b := make([]byte, size)
	prng.FromUint64(m.salt).Stream("bytes").Read(b)
	n, err := s.Write(m.w.now, id, b)
	switch {
	case err == nil:
		if out.closed {
			t.Fatal("Write after CloseWrite worked")
		}
		out.written = append(out.written, b[:n]...)
	case errors.Is(err, ErrWriteClosed) && out.closed, errors.Is(err, ErrWouldBlock), errors.Is(err, ErrStreamUnknown):
	default:
		t.Fatalf("Write: %v", err)
	}
}

func (m *model) write(t *rapid.T)    { m.put(t, rapid.IntRange(0, 3000).Draw(t, "size")) }
func (m *model) writeBig(t *rapid.T) { m.put(t, rapid.IntRange(0, 400_000).Draw(t, "size")) }

func (m *model) closeWrite(t *rapid.T) {
	s, id, out, _ := m.pick(t)
	if s != nil && s.CloseWrite(m.w.now, id) == nil {
		out.closed = true
	}
}

func (m *model) read(t *rapid.T) {
	s, id, _, in := m.pick(t)
	if s != nil {
		m.take(s, id, in, rapid.IntRange(1, 100_000).Draw(t, "size"))
	}
}

func (m *model) take(s *Session, id uint64, in *pipe, size int) bool {
	b := make([]byte, size)
	n, err := s.Read(m.w.now, id, b)
	if in.read+n > len(in.written) || !bytes.Equal(b[:n], in.written[in.read:in.read+n]) {
		m.t.Fatalf("stream %d: %d bytes read at %d are not those written", id, n, in.read)
	}
	in.read += n
	if err == io.EOF {
		if !in.closed || in.read != len(in.written) {
			m.t.Fatalf("stream %d: end after %d of %d bytes, closed %v", id, in.read, len(in.written), in.closed)
		}
		in.ended = true
	}
	return n > 0
}

func (m *model) lane(t *rapid.T) {
	if s, id, _, _ := m.pick(t); s != nil {
		s.SetLane(m.w.now, id, Lane(rapid.IntRange(0, MaxLanes-1).Draw(t, "lane")), uint32(rapid.IntRange(0, 4).Draw(t, "version")))
	}
}

func (m *model) weight(t *rapid.T) {
	if s := m.sides()[rapid.IntRange(0, 1).Draw(t, "side")]; s != nil {
		s.SetWeight(m.w.now, Lane(rapid.IntRange(0, MaxLanes-1).Draw(t, "lane")), uint8(rapid.IntRange(0, 9).Draw(t, "weight")),
			uint32(rapid.IntRange(0, 4).Draw(t, "version")))
	}
}

func (m *model) run(t *rapid.T) {
	m.w.run(time.Duration(rapid.IntRange(0, 100).Draw(t, "ms")) * time.Millisecond)
}

func (m *model) move(t *rapid.T) {
	m.w.client.SetActivePath(m.w.now, uint8(rapid.IntRange(0, 1).Draw(t, "path")))
}

func (m *model) breakPath(t *rapid.T) {
	r := &m.w.routes[rapid.IntRange(0, 1).Draw(t, "path")]
	r.down = !r.down
}

func (m *model) check(t *rapid.T) {
	for side, s := range m.sides() {
		if s != nil && (s.state == stateClosing || s.state == stateClosed) {
			t.Fatalf("side %d closed: %v", side, s.closedError())
		}
		if s != nil {
			checkLanes(t, s)
		}
	}
}

// settle repairs the routes, ends every direction and reads everything.
func (m *model) settle() {
	for i := range m.w.routes {
		m.w.routes[i].down = false
	}
	left := func() bool {
		m.check(m.t)
		if m.w.server == nil {
			return len(m.ids) > 0
		}
		all := true
		for _, id := range m.ids {
			for side, s := range m.sides() {
				out, in := &m.pipes[id][side], &m.pipes[id][1-side]
				if !out.closed && s.CloseWrite(m.w.now, id) == nil {
					out.closed = true
				}
				for !in.ended && m.take(s, id, in, 50_000) {
				}
				all = all && in.ended
			}
		}
		return !all
	}
	for end := m.w.now.Add(3 * time.Minute); left(); {
		if !m.w.step(end) {
			m.t.Fatal("not everything arrived in 3 minutes")
		}
	}
	m.w.run(20 * time.Second)
	for l := range Lane(MaxLanes) {
		weight, version := m.w.client.Weight(l)
		if m.w.server != nil {
			if w, v := m.w.server.Weight(l); w != weight || v != version {
				m.t.Fatalf("lane %d weighs %d at version %d here and %d at %d there", l, weight, version, w, v)
			}
		}
	}
	for _, s := range m.sides() {
		if s != nil && (s.streams.n != 0 || s.send.buffered != 0 || s.send.backlog != 0 || s.recv.used != s.recv.win.eaten) {
			m.t.Fatalf("left behind: %d streams, %d buffered, %d backlog, %d of %d credited",
				s.streams.n, s.send.buffered, s.send.backlog, s.recv.win.eaten, s.recv.used)
		}
	}
}
