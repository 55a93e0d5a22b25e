package link

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// lossy is a client that keeps its cells, and an entry, in use.
func lossy(t testing.TB, keep time.Duration) (w *world, c, n *host, ic ID) {
	t.Helper()
	w = newWorld(t)
	w.latency = 10 * time.Millisecond
	c, n = w.add(1, false, Config{Keep: keep}), w.node(2)
	ic = c.dial(n)
	w.run(time.Second)
	c.wantUp(ic)
	c.stream(ic, 20)
	n.got = nil
	return w, c, n, ic
}

// stream sends cells, one each 10 ms, and runs until they are there.
func (h *host) stream(id ID, count int) {
	for i := range count {
		h.push(id, fmt.Sprint(i))
		h.w.run(10 * time.Millisecond)
	}
	h.w.run(100 * time.Millisecond)
}

// missed are the cells that the client is to send again.
func (h *host) missed() (texts []string, late []time.Duration) {
	for {
		_, f, d, ok := h.PollMissing(h.w.now)
		if !ok {
			return texts, late
		}
		texts, late = append(texts, string(f.B[1:2])), append(late, d)
		h.pool.Put(f)
	}
}

// lose drops the cells of the client of these numbers, counted from now.
func (w *world) lose(from *host, which ...int) {
	k := -1
	w.tap = func(at, _ netip.AddrPort, _ []byte) bool {
		if at != from.addr {
			return true
		}
		k++
		return !slices.Contains(which, k)
	}
}

// The entry says at once which datagrams of a client did not come, and the client
// finds what was in them.
func TestWhatIsMissingIsTold(t *testing.T) {
	for _, lost := range [][]int{{3}, {2, 4}, {1, 2}} {
		w, c, n, ic := lossy(t, 50*time.Millisecond)
		w.lose(c, lost...)
		var want, got []string
		var late []time.Duration
		for i := range 8 {
			if slices.Contains(lost, i) {
				want = append(want, fmt.Sprint(i))
			}
			c.push(ic, fmt.Sprint(i))
			w.run(10 * time.Millisecond)
			texts, d := c.missed()
			got, late = append(got, texts...), append(late, d...)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || n.counts[trace.LinkMissingTold] == 0 {
			t.Fatalf("lost %v, told %v; %v", want, got, n.drops())
		}
		for _, d := range late { // the next cell, the pause, and there and back; polled at most 10 ms later
			if least := 33 * time.Millisecond; d < least || d > least+20*time.Millisecond {
				t.Errorf("lost %v: told after %v", lost, d)
			}
		}
	}
}

// Nothing is told of what comes a little later than a newer one, nor to who did
// not ask, nor to nodes.
func TestWhatIsNotTold(t *testing.T) {
	w, c, n, ic := lossy(t, 50*time.Millisecond)
	var held []byte
	k := 0
	w.tap = func(from, to netip.AddrPort, b []byte) bool {
		if from != c.addr {
			return true
		}
		if k++; k == 3 {
			held = slices.Clone(b)
			w.wires = append(w.wires, flight{w.now.Add(w.latency + 12*time.Millisecond), from, to, held})
			return false
		}
		return true
	}
	c.stream(ic, 8)
	if texts, _ := c.missed(); len(texts) > 0 || n.counts[trace.LinkMissingTold] > 0 || len(n.got) != 8 {
		t.Errorf("told of %v, which came; %d came", texts, len(n.got))
	}

	w, c, n, ic = lossy(t, 0)
	w.lose(c, 3)
	if c.stream(ic, 8); n.counts[trace.LinkMissingTold] > 0 || len(n.got) != 7 {
		t.Errorf("told to who did not ask; %d came", len(n.got))
	}

	w = newWorld(t)
	a, b := w.add(1, true, Config{Keep: 50 * time.Millisecond}), w.node(2)
	ia := a.dial(b)
	w.run(time.Second)
	w.lose(a, 3)
	if a.stream(ia, 8); b.counts[trace.LinkMissingTold] > 0 || len(b.got) != 7 {
		t.Errorf("told to a node; %d came", len(b.got))
	}
}

// What is kept is bounded in time, and what is sent again in its share, whatever the
// peer says; all of it goes back to the pool.
func TestWhatIsKeptIsBounded(t *testing.T) {
	w, c, n, ic := lossy(t, 50*time.Millisecond)
	c.stream(ic, 400)
	tell := func(m wire.LinkMissing) {
		l := n.links[n.upLink()]
		l.cur.hot.gaps.tell = m
		n.flag(l, flagMissing)
		w.run(11 * time.Millisecond)
	}
	sent := func() uint64 { return c.links[ic].cur.sent }
	all := 0
	for range 100 {
		c.push(ic, "x")
		w.run(10 * time.Millisecond)
		tell(wire.LinkMissing{Last: sent() - 1, More: ^uint64(0)})
		texts, _ := c.missed()
		all += len(texts)
	}
	if most := againBurst + 100/againShare; all < againBurst || all > most+1 {
		t.Errorf("%d of 100 cells were taken to be sent again, at most %d", all, most)
	}
	if kept := c.links[ic].kept.cells.n; kept > 6 {
		t.Errorf("%d cells are kept, of 50 ms", kept)
	}
	old := sent() - 1
	w.run(60 * time.Millisecond)
	c.links[ic].kept.credit = againShare
	tell(wire.LinkMissing{Last: old})
	if texts, _ := c.missed(); len(texts) > 0 {
		t.Error("a cell came out of the ring after its time")
	}
	w.run(coolAfter + time.Second)
	if c.pool.Out != 0 || c.links[ic].kept != nil {
		t.Errorf("%d frames are out when nothing is sent", c.pool.Out)
	}
	c.push(ic, "y")
	w.run(20 * time.Millisecond)
	c.Close(w.now, ic)
	if w.run(time.Second); c.pool.Out != 0 {
		t.Errorf("%d frames are out after the link's end", c.pool.Out)
	}
}

// After a change of keys counters begin anew, and none is taken for another's.
func TestNothingIsKeptAcrossARekey(t *testing.T) {
	w, c, _, ic := lossy(t, time.Hour)
	if c.links[ic].kept.cells.n == 0 {
		t.Fatal("nothing is kept")
	}
	c.links[ic].rekeyAt = w.now
	c.reschedule(c.links[ic])
	w.run(time.Second)
	if l := c.links[ic]; c.counts[trace.LinkRekeys] != 1 || l.kept != nil || c.pool.Out != 0 {
		t.Errorf("%d rekeys, %d frames out", c.counts[trace.LinkRekeys], c.pool.Out)
	}
}

// A hostile jump of the counter costs no more than a window.
func TestAJumpIsToldInOneFrame(t *testing.T) {
	w, c, n, ic := lossy(t, 50*time.Millisecond)
	c.links[ic].cur.sent += 1 << 40
	c.push(ic, "far")
	w.run(100 * time.Millisecond)
	if got := n.counts[trace.LinkMissingTold]; got != 1 {
		t.Errorf("told %d times", got)
	}
	if texts, _ := c.missed(); len(texts) > 0 {
		t.Errorf("%v were never sent", texts)
	}
}

func TestLossesAllocateNothing(t *testing.T) {
	w, c, n, ic := lossy(t, 50*time.Millisecond)
	b := make([]byte, wire.DatagramSize)
	k := 0
	pass := func(from, to *host) {
		for {
			_, _, ok := from.PollTransmit(w.now, b)
			if !ok {
				return
			}
			if k++; from == n || k%9 != 0 {
				to.HandleDatagram(w.now, from.addr, b)
			}
		}
	}
	again := 0
	step := func() {
		for range 10 {
			c.push(ic, "cell")
			pass(c, n)
			w.now = w.now.Add(5 * time.Millisecond)
			n.HandleTimer(w.now)
			pass(n, c)
			for {
				_, f, _, ok := c.PollMissing(w.now)
				if !ok {
					break
				}
				c.pool.Put(f)
				again++
			}
		}
	}
	for range 20 {
		step()
	}
	if per := testing.AllocsPerRun(100, step); per > 0 || again < 50 {
		t.Errorf("%v allocations for ten cells, %d of them sent again", per, again)
	}
}

// It is told twice, since the way back loses datagrams as well.
func TestAWordThatIsLostIsSaidAgain(t *testing.T) {
	w, c, n, ic := lossy(t, 50*time.Millisecond)
	w.lose(c, 3)
	cells, words := w.tap, 0
	w.tap = func(from, to netip.AddrPort, b []byte) bool {
		if from == n.addr {
			words++
			return words > 1
		}
		return cells(from, to, b)
	}
	for i := range 8 {
		c.push(ic, fmt.Sprint(i))
		w.run(10 * time.Millisecond)
	}
	if texts, _ := c.missed(); !slices.Equal(texts, []string{"3"}) || words != 2 {
		t.Errorf("told of %v in %d datagrams, of which the first was lost", texts, words)
	}
}

// Who sends datagrams with gaps between them is not sent more than came.
func TestWordsDoNotOutnumberDatagrams(t *testing.T) {
	w, c, n, ic := lossy(t, 50*time.Millisecond)
	sent, words := 0, 0
	w.tap = func(from, to netip.AddrPort, b []byte) bool {
		if from == n.addr {
			words++
			return true
		}
		sent++
		return sent%2 == 1
	}
	for i := range 400 {
		c.push(ic, fmt.Sprint(i))
		w.run(5 * time.Millisecond)
	}
	if came := (sent + 1) / 2; words > came+wordsMax || words < came/2 {
		t.Errorf("%d datagrams came, and %d went back", came, words)
	}
}
