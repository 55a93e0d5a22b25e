package stream

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
	"pgregory.net/rapid"
)

func TestSpansAgainstASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spans
		var model [200]bool
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			lo := rapid.IntRange(0, 199).Draw(t, "lo")
			hi := rapid.IntRange(lo, 199).Draw(t, "hi")
			put := rapid.Bool().Draw(t, "add")
			changed := uint64(0)
			for i := lo; i < hi; i++ {
				if model[i] != put {
					changed++
				}
				model[i] = put
			}
			got := uint64(0)
			if put {
				got = s.add(uint64(lo), uint64(hi))
			} else {
				got = s.remove(uint64(lo), uint64(hi))
			}
			if got != changed {
				t.Fatalf("%d numbers changed, want %d", got, changed)
			}
			var back [200]bool
			for i, v := range s {
				if v.lo >= v.hi || i > 0 && s[i-1].hi >= v.lo {
					t.Fatalf("spans out of order: %v", s)
				}
				for n := v.lo; n < v.hi; n++ {
					back[n] = true
				}
			}
			if back != model {
				t.Fatalf("spans %v are another set", s)
			}
		}
	})
}

func TestTableAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tab table
		model := map[uint64]*stream{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			id := rapid.Uint64Range(0, 60).Draw(t, "id")
			st := model[id]
			if got := tab.get(id); got != st {
				t.Fatalf("stream %d: got %p, want %p", id, got, st)
			}
			if st == nil {
				st = &stream{id: id}
				model[id] = st
				tab.put(st)
			} else if rapid.Bool().Draw(t, "remove") {
				delete(model, id)
				tab.remove(st)
			}
			if tab.n != len(model) {
				t.Fatalf("%d streams, want %d", tab.n, len(model))
			}
		}
		for id, st := range model {
			if tab.get(id) != st {
				t.Fatalf("stream %d is gone", id)
			}
		}
	})
}

// In whatever order packets arrive, each is told in the acknowledgements that
// follow, most of them more than once, and nothing is told that did not arrive.
func TestEveryArrivalIsAcknowledged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a arrivals
		a.largest = ^uint64(0)
		arrived, told := map[uint64]bool{}, map[uint64]int{}
		base := uint64(0)
		now := machine.Time(0)
		for range rapid.IntRange(1, 60).Draw(t, "acks") {
			for range rapid.IntRange(1, 24).Draw(t, "packets") {
				pn := base + rapid.Uint64Range(0, 150).Draw(t, "pn")
				if a.seen(pn) != arrived[pn] {
					t.Fatalf("packet %d: seen %v, arrived %v", pn, a.seen(pn), arrived[pn])
				}
				if !arrived[pn] {
					arrived[pn] = true
					a.add(now, pn)
				}
			}
			base += rapid.Uint64Range(0, 30).Draw(t, "on")
			now = now.Add(time.Millisecond)
			b, complete := a.appendAcks(now, make([]byte, 0, wire.SessionPayloadSize), wire.SessionPayloadSize, ackFramesAlone, false)
			a.told(complete)
			for len(b) > 0 {
				var f wire.AckFrame
				n, err := f.Parse(b)
				if err != nil {
					t.Fatal(err)
				}
				b = b[n:]
				for _, r := range f.Ranges[:f.N] {
					for pn := r.Lo; pn <= r.Hi; pn++ {
						told[pn]++
						if !arrived[pn] {
							t.Fatalf("packet %d was told and did not arrive", pn)
						}
					}
				}
			}
			for pn := range arrived {
				if told[pn] == 0 {
					t.Fatalf("packet %d was not told", pn)
				}
			}
		}
	})
}

// The record of arrivals is bounded, and what it forgets counts as seen.
func TestArrivalsAreBounded(t *testing.T) {
	var a arrivals
	for i := range uint64(3 * runsMax) {
		if pn := 2 * i; a.seen(pn) {
			t.Fatalf("packet %d was not there", pn)
		} else {
			a.add(0, pn)
		}
	}
	if len(a.runs) > runsMax || !a.seen(1) || a.seen(6*runsMax-3) {
		t.Errorf("%d runs, floor %d", len(a.runs), a.floor)
	}
	b, _ := a.appendAcks(0, make([]byte, 0, wire.SessionPayloadSize), ackRoomWithData, 1, false)
	if len(b) > ackRoomWithData {
		t.Errorf("acknowledgement of %d bytes", len(b))
	}
}

// An acknowledgement that does not fit beside data is followed by one alone.
func TestAckThatDoesNotFitIsCompleted(t *testing.T) {
	w := established(t, 1, Config{}, Config{})
	a := newApp(w)
	base := w.server.arrived.largest
	for i := range uint64(200) {
		w.server.arrived.add(w.now, base+2+3*i)
	}
	w.server.arrived.owe(w.now, 1, 0)
	a.open(0, 5000, PriorityNormal)
	id, _ := w.server.OpenStream(w.now, PriorityNormal)
	w.server.Write(w.now, id, make([]byte, 3000))
	var b [wire.SessionPacketSize]byte
	n := 0
	for w.server.PollPacket(w.now, 0, b[:]) {
		if n++; n > 20 {
			t.Fatal("acknowledgements without end")
		}
	}
	if w.server.arrived.pending != 0 || n < 4 {
		t.Errorf("%d packets, %d pending", n, w.server.arrived.pending)
	}
}

func TestSentLogKeepsPacketsAcrossGrowth(t *testing.T) {
	var l sentLog
	l.start(1000)
	for i := range uint64(5000) {
		l.addChunk(chunk{at: 1000 + i})
		l.push(l.chunkNext - 1)
		if i%3 != 0 {
			l.setOpen()
		}
	}
	n := 0
	for pn, ok := l.nextOpen(0, l.next); ok; pn, ok = l.nextOpen(pn+1, l.next) {
		r := l.at(pn)
		if (pn-1000)%3 == 0 || r.chunks != 1 || l.chunkAt(r.chunk).at != pn {
			t.Fatalf("packet %d has %d chunks, first %d", pn, r.chunks, l.chunkAt(r.chunk).at)
		}
		n++
		l.settle(pn, r)
	}
	if l.advance(); n != l.waiting+n || l.tail != l.next || l.chunkTail != l.chunkNext {
		t.Errorf("%d settled, %d waiting, tail %d of %d", n, l.waiting, l.tail, l.next)
	}
}
