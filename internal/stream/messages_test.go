package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// takeMessages has the world's server count the messages that it reads, by
// their first four bytes, and compares each with what want returns.
func (w *world) takeMessages(want func(i int) []byte) (got map[int]int) {
	got = map[int]int{}
	b := make([]byte, wire.MaxMessageSize)
	w.on = func(s *Session, e Event) {
		for s == w.server && e.Kind == DatagramReadable {
			n, err := s.ReadDatagram(w.now, e.Stream, b)
			if err != nil {
				return
			}
			i := int(binary.BigEndian.Uint32(b))
			if got[i]++; !bytes.Equal(b[:n], want(i)) {
				w.t.Fatalf("message %d was damaged", i)
			}
		}
	}
	return got
}

func numbered(i, size int) []byte {
	b := pattern(size, uint64(i))
	binary.BigEndian.PutUint32(b, uint32(i))
	return b
}

// Of messages of four packets, in which one packet in eight is lost and others
// are doubled and overtaken, at most 0.3 % are missing, and none comes twice.
func TestMessagesThroughLoss(t *testing.T) {
	w := established(t, 3, Config{}, Config{})
	w.routes[0] = route{delay: 40 * time.Millisecond, jitter: 5 * time.Millisecond, loss: 120_000, dup: 20_000}
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	size := func(i int) int { return 4096 - i%1000 }
	got := w.takeMessages(func(i int) []byte { return numbered(i, size(i)) })
	const n = 2000
	for i := range n {
		if err := w.client.SendMessage(w.now, id, numbered(i, size(i))); err != nil {
			t.Fatal(i, err)
		}
		w.run(5 * time.Millisecond)
	}
	w.run(messageLife)
	missing := 0
	for i := range n {
		if got[i] > 1 {
			t.Errorf("message %d came %d times", i, got[i])
		} else if got[i] == 0 {
			missing++
		}
	}
	st := w.client.Stats()
	t.Logf("%d of %d missing, %d packets sent again", missing, n, st.Retransmitted)
	if missing*1000 > n*3 || st.Retransmitted < n/10 {
		t.Error("messages are not repaired")
	}
	if st.MessagesSent+st.MessagesLost != n || st.Backlog != 0 {
		t.Errorf("%d arrived and %d lost of %d, %d bytes wait", st.MessagesSent, st.MessagesLost, n, st.Backlog)
	}
}

func TestMessagesOfEverySize(t *testing.T) {
	w := established(t, 4, Config{}, Config{})
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	sizes := []int{4, 5, 1000, 1040, 1041, 1050, 2090, 65_507, wire.MaxMessageSize - 1, wire.MaxMessageSize}
	got := w.takeMessages(func(i int) []byte { return numbered(i, sizes[i]) })
	for i, size := range sizes {
		if err := w.client.SendMessage(w.now, id, numbered(i, size)); err != nil {
			t.Fatal(err)
		}
		w.run(time.Second)
		if got[i] != 1 {
			t.Errorf("message of %d bytes came %d times", size, got[i])
		}
	}
	for _, size := range []int{0, wire.MaxMessageSize + 1} {
		if err := w.client.SendMessage(w.now, id, make([]byte, size)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("message of %d bytes: %v", size, err)
		}
	}
	w.client.common &^= setOf([]uint16{wire.CapMessages}) // as with a peer that did not announce them
	if err := w.client.SendMessage(w.now, id, make([]byte, 5000)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("to who takes no messages: %v", err)
	}
}

func TestSmallBufferKeepsTheMessage(t *testing.T) {
	w := established(t, 5, Config{}, Config{})
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	w.client.SendMessage(w.now, id, numbered(1, 3000))
	w.run(time.Second)
	if n, err := w.server.ReadDatagram(w.now, id, make([]byte, 2999)); n != 3000 || !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("%d, %v", n, err)
	}
	b := make([]byte, 3000)
	if n, err := w.server.ReadDatagram(w.now, id, b); n != 3000 || err != nil || !bytes.Equal(b, numbered(1, 3000)) {
		t.Errorf("%d, %v", n, err)
	}
}

// What cannot leave is bounded, and is given up when its time is over.
func TestOutboxIsBounded(t *testing.T) {
	w := established(t, 6, Config{}, Config{})
	w.routes[0].down = true
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	for _, size := range []int{100, 50_000} {
		n := uint64(0)
		for w.client.SendMessage(w.now, id, make([]byte, size)) == nil {
			n++
		}
		if err := w.client.SendMessage(w.now, id, make([]byte, size)); !errors.Is(err, ErrWouldBlock) {
			t.Fatal(err)
		}
		o := w.client.outbox()
		if n > outboxCount || o.bytes > outboxBytes || n < outboxCount && o.bytes < outboxBytes*9/10 {
			t.Errorf("%d messages of %d bytes wait, %d bytes", n, size, o.bytes)
		}
		before := w.client.Stats().MessagesLost
		w.run(messageLife)
		if lost := w.client.Stats().MessagesLost - before; lost != n || len(o.messages) != 0 || o.bytes != 0 || o.backlog != 0 {
			t.Errorf("%d of %d given up; %d bytes kept, %d of them wait", lost, n, o.bytes, o.backlog)
		}
	}
}

// fragment hands the server a fragment as if a packet had brought it.
func (w *world) fragment(flow, number uint64, offset, size int, end bool) bool {
	return w.server.handleMessage(w.now, &wire.MessageFrame{Flow: flow, Number: number, Offset: offset, Data: make([]byte, size), End: end})
}

// A peer that begins messages and ends none costs bounded memory, for a bounded
// time, and whole messages still come through.
func TestInboxIsBounded(t *testing.T) {
	w := established(t, 7, Config{}, Config{})
	held := func() (n int) {
		for _, p := range append(w.server.inbox().partials, w.server.inbox().spare...) {
			n += cap(p.b)
		}
		return n
	}
	number := uint64(0)
	for i := range 3000 {
		number += uint64(i % 3)
		offset := []int{wire.MaxMessageSize - 10, 10, 5000}[i%3]
		if !w.fragment(0, number, offset, 10, i%3 == 0) && w.server.Ending() {
			t.Fatal("a fragment ended the session")
		}
		in := w.server.inbox()
		if h := held(); h > inboxBytes || h != in.bytes || len(in.partials) > inboxCount {
			t.Fatalf("%d bytes held, %d counted, %d messages", h, in.bytes, len(in.partials))
		}
	}
	for range inboxCount + 10 {
		number++
		w.fragment(0, number, 1, 1, false)
	}
	if n := len(w.server.inbox().partials); n != inboxCount {
		t.Errorf("%d messages are being put together", n)
	}
	number++
	for i := range 2*partialPieces + 2 {
		w.fragment(0, number, 2*i, 1, false)
	}
	if w.server.inbox().find(number) != nil || w.server.inbox().wanted(number) {
		t.Error("a message in too many pieces is kept")
	}
	errs := w.scounts[trace.FragmentError]
	if !w.fragment(0, number+1, 0, 100, true) || w.scounts[trace.MessageReassembled] == 0 {
		t.Error("a whole message does not come through")
	}
	w.run(partialLife)
	if left := len(w.server.inbox().partials); left != 0 || w.scounts[trace.FragmentError] <= errs {
		t.Errorf("%d messages are put together for ever", left)
	}
	w.run(2 * sweepAfter)
	if in := w.server.inbox(); in.bytes != 0 || in.spare != nil {
		t.Errorf("%d bytes are kept at rest", in.bytes)
	}
}

// Numbers far apart, far back and seen before are told from new ones.
func TestInboxWindow(t *testing.T) {
	in := &inbox{}
	for _, c := range []struct {
		number uint64
		wanted bool
	}{
		{5, true}, {5, false}, {0, true}, {0, false}, {inboxWindow, true}, {0, false}, {1, true},
		{wire.MaxVarint, true}, {5, false}, {wire.MaxVarint - inboxWindow, false},
		{wire.MaxVarint - inboxWindow + 1, true}, {wire.MaxVarint, false},
	} {
		if got := in.wanted(c.number); got != c.wanted {
			t.Errorf("message %d wanted: %v", c.number, got)
		}
		in.setDone(c.number)
	}
}

func TestFragmentsThatDoNotAgree(t *testing.T) {
	for name, second := range map[string]func(w *world) bool{
		"another end":     func(w *world) bool { return w.fragment(0, 1, 100, 60, true) },
		"beyond the end":  func(w *world) bool { return w.fragment(0, 1, 150, 10, false) },
		"before an early": func(w *world) bool { return w.fragment(0, 2, 0, 10, true) },
		"another flow":    func(w *world) bool { return w.fragment(4, 1, 0, 10, false) },
	} {
		w := established(t, 8, Config{}, Config{})
		if !w.fragment(0, 1, 100, 50, true) || !w.fragment(0, 2, 100, 50, false) {
			t.Fatal("a fragment was refused")
		}
		if second(w) || !w.server.Ending() {
			t.Errorf("%s: the session goes on", name)
		}
	}
}

// Messages and streams share what leaves.
func TestMessagesAndStreamsShare(t *testing.T) {
	cfg := Config{Congestion: congestion.Fixed, FixedRate: 5 << 20}
	w := established(t, 9, cfg, cfg)
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	flow, _ := w.client.OpenStream(w.now, PriorityNormal)
	buf := make([]byte, 1<<20)
	for range 200 {
		w.client.Write(w.now, id, buf)
		w.server.Read(w.now, id, buf)
		for w.client.SendMessage(w.now, flow, make([]byte, 4000)) == nil {
		}
		w.run(5 * time.Millisecond)
	}
	bytes := w.server.streams.get(id).in.top
	messages := w.scounts[trace.MessageReassembled] * 4000
	if bytes*2 < messages || messages*2 < bytes {
		t.Errorf("%d bytes of a stream and %d of messages", bytes, messages)
	}
}

func TestMessagesDoNotAllocate(t *testing.T) {
	l := newLoop(t, Config{}, Config{})
	id, _ := l.client.OpenStream(l.now, PriorityNormal)
	msg, buf := make([]byte, 9000), make([]byte, wire.MaxMessageSize)
	move := func() {
		for range 8 {
			l.client.SendMessage(l.now, id, msg)
		}
		for got := 0; got < 8; {
			l.exchange()
			for {
				if _, err := l.server.ReadDatagram(l.now, id, buf); err != nil {
					break
				}
				got++
			}
			drain(l.client)
			drain(l.server)
		}
	}
	for range 200 {
		move()
	}
	if n := testing.AllocsPerRun(100, move); n > 0 {
		t.Errorf("%.2f allocations for 8 messages of 9 packets", n)
	}
}
