package link

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/trace"
)

// busyPair is a pair whose node has the link in use.
func busyPair(t testing.TB) (w *world, c, n *host, ic ID) {
	w, c, n, ic, _ = pair(t)
	for i := range 2 * beatFrames {
		n.receive(c.addr, sealOne(c, ic, fmt.Sprint(i)))
	}
	n.got = nil
	return w, c, n, ic
}

func (h *host) receiveOpened(from *host, b []byte, o *Opened) bool {
	_, frame, ok := h.HandleOpened(h.w.now, from.addr, b, o)
	if ok {
		text, _, _ := bytes.Cut(frame[1:], []byte{0})
		h.got = append(h.got, string(text))
	}
	return ok
}

// What is opened in any order is received in the order in which it is handled,
// once, and opening alone leaves no trace.
func TestOpenedAheadIsReceivedInTurn(t *testing.T) {
	_, c, n, ic := busyPair(t)
	var batch [][]byte
	for i := range 8 {
		batch = append(batch, sealOne(c, ic, fmt.Sprint("cell ", i)))
	}
	batch[6][700] ^= 1
	batch = append(batch, slices.Clone(batch[2]), batch[3][:900])
	before, bytesBefore := *n.counts, slices.Concat(batch...)
	results := make([]Opened, len(batch))
	for i := range batch {
		i = len(batch) - 1 - i
		if _, frame, ok := n.Open(&results[i], batch[i]); ok != (i != 6 && i != 9) || ok && string(frame[1:5]) != "cell" {
			t.Errorf("datagram %d opened: %v", i, ok)
		}
	}
	if *n.counts != before || !bytes.Equal(slices.Concat(batch...), bytesBefore) {
		t.Error("opening changed a counter or a datagram")
	}
	for i, b := range batch {
		if ok := n.receiveOpened(c, b, &results[i]); ok != (i != 6 && i < 8) {
			t.Errorf("datagram %d received: %v", i, ok)
		}
	}
	n.wantGot("cell 0", "cell 1", "cell 2", "cell 3", "cell 4", "cell 5", "cell 7")
	for drop, want := range map[trace.Counter]uint64{trace.DropLinkAuth: 1, trace.DropLinkReplay: 1, trace.DropSize: 1} {
		if got := n.counts[drop] - before[drop]; got != want {
			t.Errorf("%v is %d, want %d", drop, got, want)
		}
	}
}

// A result is of one datagram under one link's keys: for another datagram it is
// forgotten, and after the keys are gone it is nothing.
func TestResultsDoNotOutliveTheirDatagram(t *testing.T) {
	w, c, n, ic := busyPair(t)
	first, second := sealOne(c, ic, "first"), sealOne(c, ic, "second")
	var o Opened
	n.Open(&o, first)
	o.Reset()
	if !n.receiveOpened(c, second, &o) {
		t.Fatalf("the second was dropped: %s", n.drops())
	}
	n.wantGot("second")
	n.Open(&o, first)
	n.Close(w.now, n.upLink())
	if n.receiveOpened(c, first, &o) {
		t.Error("a datagram of a closed link was received")
	}
}

// Links at rest and handshakes are left to their turn.
func TestOpenLeavesLinksAtRest(t *testing.T) {
	_, c, n, ic, _ := pair(t)
	b := sealOne(c, ic, "first")
	var o Opened
	if _, _, ok := n.Open(&o, b); ok {
		t.Error("a datagram of a link at rest was opened ahead")
	}
	if !n.receiveOpened(c, b, &o) {
		t.Errorf("it was not received in its turn: %s", n.drops())
	}
	n.wantGot("first")
}

func TestOpenAllocatesNothing(t *testing.T) {
	_, c, n, ic := busyPair(t)
	b := sealOne(c, ic, "cell")
	var o Opened
	if allocs := testing.AllocsPerRun(100, func() {
		if _, _, ok := n.Open(&o, b); !ok {
			t.Fatal("not opened")
		}
	}); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}
