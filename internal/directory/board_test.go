package directory

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func testBoard(t testing.TB, trust *Trust) *Board {
	t.Helper()
	o, err := NewBoard(*trust)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// boardWorld is three authorities, of which two must agree, over a view.
type boardWorld struct {
	t     *testing.T
	board *Board
	view  *View
}

func newBoardWorld(t *testing.T) *boardWorld {
	v := testView(t, testNodes(3, 6))
	return &boardWorld{t: t, view: v, board: testBoard(t, &testAuthorities(t, 2, 3).trust)}
}

// says has an authority post a bulletin for the round of wall.
func (w *boardWorld) says(authority int, wall int64, change func(*Bulletin)) error {
	w.t.Helper()
	m := &Bulletin{Network: testNetwork, Document: w.view.doc.Hash(), Round: RoundAt(wall)}
	if change != nil {
		change(m)
	}
	_, err := w.board.Accept(signedBulletin(w.t, 1000+uint64(authority), m))
	return err
}

func (w *boardWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func of(node int, s State) func(*Bulletin) {
	return func(m *Bulletin) { m.Nodes = []NodeState{{ShortOf(id(node)), s}} }
}

// Neither a flag nor a figure moves by the word of one authority of three, in
// either direction, whether the third speaks or not.
func TestOneAuthorityMovesNothing(t *testing.T) {
	bad := State{Flags: allFlags, Score: 0, Load: LoadMax, Queue: QueueMax}
	for _, third := range []bool{false, true} {
		w := newBoardWorld(t)
		w.must(w.says(0, testWall, func(m *Bulletin) {
			m.Nodes = []NodeState{{ShortOf(id(4)), bad}}
			m.Delays = []Delay{{"eu", "eu", 1}}
		}))
		w.must(w.says(1, testWall, nil))
		if third {
			w.must(w.says(2, testWall, nil))
		}
		c, _ := w.board.Conditions(w.view, testWall)
		if c == nil || c.State(id(4)) != quiet || c.Leaves(id(4)) || c.delay != nil {
			t.Errorf("third %v: one authority alone says %+v", third, c.State(id(4)))
		}
		// Control: two of them do.
		w.must(w.says(1, testWall+10, of(4, bad)))
		c, _ = w.board.Conditions(w.view, testWall+10)
		if c.State(id(4)) != bad || !c.Leaves(id(4)) || c.open(4, true) {
			t.Errorf("third %v: two authorities say %+v", third, c.State(id(4)))
		}
	}
}

func TestFiguresAreMedians(t *testing.T) {
	w := newBoardWorld(t)
	for i, s := range []State{{Score: 80, Load: 3, Queue: 10}, {Score: 60, Load: 9, Queue: 500}, {Score: 10, Load: 5, Queue: 40}} {
		w.must(w.says(i, testWall, func(m *Bulletin) {
			m.Nodes = []NodeState{{ShortOf(id(2)), s}}
			m.Delays = []Delay{{"eu", "eu", uint16(10 * (i + 1))}}
		}))
	}
	c, _ := w.board.Conditions(w.view, testWall)
	if got, want := c.State(id(2)), (State{Score: 60, Load: 5, Queue: 40}); got != want {
		t.Errorf("combined %+v, want %+v", got, want)
	}
	if c.delay[0] != 20 {
		t.Errorf("delay %d, want 20", c.delay[0])
	}
}

// A bulletin counts for a minute. Where fewer than the threshold do there are no
// conditions at all, rather than those of one authority.
func TestBulletinsAge(t *testing.T) {
	w := newBoardWorld(t)
	bad := of(4, State{Flags: Overloaded, Score: ScoreMax})
	if c, _ := w.board.Conditions(w.view, testWall); c != nil {
		t.Error("conditions of nothing")
	}
	w.must(w.says(0, testWall, bad))
	if c, _ := w.board.Conditions(w.view, testWall); c != nil {
		t.Error("conditions of one authority of two")
	}
	w.must(w.says(1, testWall+10, bad))
	c, left := w.board.Conditions(w.view, testWall+30)
	if c == nil || c.open(4, false) || left != 30*time.Second {
		t.Errorf("after 30 s: %v for %v", c, left)
	}
	if c, _ := w.board.Conditions(w.view, testWall+59); c == nil {
		t.Error("gone before its minute is over")
	}
	if c, _ := w.board.Conditions(w.view, testWall+60); c != nil {
		t.Error("counts after its minute is over")
	}
	// A clock that is late by an hour is put right by two authorities.
	if c, _ := w.board.Conditions(w.view, testWall-hour); c == nil {
		t.Error("a late clock finds nothing")
	}
}

// Of one authority the newest round counts, once.
func TestBulletinsAreInOrder(t *testing.T) {
	w := newBoardWorld(t)
	w.must(w.says(0, testWall+10, nil))
	if err := w.says(0, testWall, nil); !errors.Is(err, ErrRollback) {
		t.Errorf("an older one: %v", err)
	}
	if err := w.says(0, testWall+10, nil); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := w.says(0, testWall+10, of(1, State{Score: 5})); !errors.Is(err, ErrConflict) {
		t.Errorf("another of the same round: %v", err)
	}
}

func TestBulletinsOfOthers(t *testing.T) {
	w := newBoardWorld(t)
	if err := w.says(7, testWall, nil); !errors.Is(err, ErrThreshold) {
		t.Errorf("an unknown authority: %v", err)
	}
	if err := w.says(0, testWall, func(m *Bulletin) { m.Network = "other" }); !errors.Is(err, ErrNetwork) {
		t.Errorf("another network: %v", err)
	}
	b := signedBulletin(t, 1000, &Bulletin{Network: testNetwork, Document: w.view.doc.Hash(), Round: RoundAt(testWall)})
	b[len(b)-1] ^= 1
	if _, err := w.board.Accept(b); !errors.Is(err, ErrSignature) {
		t.Errorf("a broken signature: %v", err)
	}
}

// What was said of nodes holds over a new document, in which they stand in other
// places; what it says of nodes and regions that are not there means nothing.
func TestConditionsOutliveADocument(t *testing.T) {
	w := newBoardWorld(t)
	for i := range 2 {
		w.must(w.says(i, testWall, func(m *Bulletin) {
			m.Nodes = []NodeState{{ShortOf(id(4)), State{Flags: Draining, Score: ScoreMax}}, {ShortOf(id(99)), State{Score: 1}}}
			m.Delays = []Delay{{"eu", "nowhere", 5}}
		}))
	}
	newer := testView(t, testNodes(3, 6)[2:])
	c, _ := w.board.Conditions(newer, testWall)
	if !c.Leaves(id(4)) || c.Leaves(id(2)) {
		t.Error("the state went to another node")
	}
	// Those of the other document say nothing of a draw on this one.
	old, _ := w.board.Conditions(w.view, testWall)
	d := drawing{index: newer.index, req: Request{Conditions: old}}
	if d.conditions() != nil {
		t.Error("conditions of another document are used")
	}
}

// Of each authority the last proposal of a plan is held, however old its bulletin is.
func TestBoardHoldsPlans(t *testing.T) {
	w := newBoardWorld(t)
	for i, epoch := range []uint32{7, 8, 9} {
		w.must(w.says(i%2, testWall+10*int64(i), func(m *Bulletin) { m.Plan = testPlan(epoch) }))
	}
	w.must(w.says(2, testWall+3600, nil))
	plans := w.board.Plans()
	if len(plans) != 2 || plans[0].Epoch != 9 || plans[1].Epoch != 8 {
		t.Errorf("%d plans: %+v", len(plans), plans)
	}
	if seats, threshold := w.board.Seats(); seats != 3 || threshold != 2 {
		t.Errorf("%d of %d", threshold, seats)
	}
}

// A bundle is taken whole or not at all, and no authority can have a server refused
// for what it signed twice.
func TestBundleTakenWhole(t *testing.T) {
	w := newBoardWorld(t)
	signed := func(authority int, wall int64, change func(*Bulletin)) []byte {
		m := &Bulletin{Network: testNetwork, Document: w.view.doc.Hash(), Round: RoundAt(wall)}
		if change != nil {
			change(m)
		}
		return signedBulletin(t, 1000+uint64(authority), m)
	}
	take := func(all ...[]byte) (bool, error) { return w.board.AcceptBundle(EncodeBundle(all)) }
	first, second := signed(0, testWall, nil), signed(1, testWall, nil)
	if _, err := take(first); !errors.Is(err, ErrThreshold) {
		t.Errorf("of one authority of two: %v", err)
	}
	if _, err := take(first, first); !errors.Is(err, ErrThreshold) {
		t.Errorf("of one, twice: %v", err)
	}
	if _, err := take(first, second, signed(7, testWall, nil)); !errors.Is(err, ErrThreshold) {
		t.Errorf("of a stranger: %v", err)
	}
	bad := slices.Clone(second)
	bad[len(bad)-1] ^= 1
	if _, err := take(first, bad); !errors.Is(err, ErrSignature) {
		t.Errorf("with a signature that does not verify: %v", err)
	}
	if n := len(w.board.Bulletins()); n != 0 || !w.board.Late(testWall) {
		t.Errorf("%d bulletins of bundles that were refused", n)
	}
	if news, err := take(first, second); err != nil || !news {
		t.Errorf("of two: %v, %v", news, err)
	}
	if news, err := take(first, second); err != nil || news {
		t.Errorf("the same again: %v, %v", news, err)
	}
	if news, err := take(signed(0, testWall, of(2, State{Flags: Overloaded, Score: ScoreMax})), signed(1, testWall+10, nil)); err != nil || !news {
		t.Errorf("with another of a round that was had: %v, %v", news, err)
	}
	if news, err := take(signed(0, testWall+10, nil), second); err != nil || !news {
		t.Errorf("with an older one of one authority: %v, %v", news, err)
	}
	if w.board.Late(testWall+69) || !w.board.Late(testWall+70) {
		t.Error("a minute after the last round of two authorities it is not late, or before")
	}
	for i := range 2 {
		w.must(w.says(i, testWall+80, nil))
	}
	if _, err := take(first, second); !errors.Is(err, ErrRollback) {
		t.Errorf("of 80 s before: %v", err)
	}
}
