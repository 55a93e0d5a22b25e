package stream

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
	"pgregory.net/rapid"
)

// checkLanes checks what holds between any two calls: every stream that can send
// stands in exactly one queue, that of the lane it names, and the mask of waiting
// lanes is that of the queues.
func checkLanes(t tb, s *Session) {
	t.Helper()
	c := s.sched.lanes
	if c == nil {
		c = newLanes()
	}
	standing := map[*stream]bool{}
	for l := range Lane(MaxLanes) {
		q := &c.queue[l]
		if (q.head != nil) != (c.waiting>>l&1 == 1) {
			t.Fatalf("lane %d waits: %v, and is noted as %08b", l, q.head != nil, c.waiting)
		}
		for st := q.head; st != nil; st = st.next {
			if standing[st] || st.list != listSend || st.queued != l || st.dead {
				t.Fatalf("stream %d stands in lane %d, notes %d in list %d, dead %v, twice %v", st.id, l, st.queued, st.list, st.dead, standing[st])
			}
			if st.out.turn <= 0 || st.out.turn > turnBytes {
				t.Fatalf("stream %d waits with a turn of %d bytes", st.id, st.out.turn)
			}
			standing[st] = true
		}
	}
	for _, st := range s.streams.slots {
		if st != nil && (st.list == listSend) != standing[st] {
			t.Fatalf("stream %d notes list %d, standing %v", st.id, st.list, standing[st])
		}
		if st != nil && st.list == listNone && st.out.sendable() {
			t.Fatalf("stream %d can send and stands nowhere", st.id)
		}
	}
	if c.weights[PriorityNormal] == 0 {
		t.Fatal("the normal lane is gone")
	}
}

// gini is the Gini coefficient of shares: 0 if all are equal, near 1 if one has
// all.
func gini(shares []float64) float64 {
	slices.SortFunc(shares, func(a, b float64) int { return cmp.Compare(a, b) })
	sum, weighted := 0.0, 0.0
	for i, v := range shares {
		sum += v
		weighted += float64(2*i+1-len(shares)) * v
	}
	return weighted / (sum * float64(len(shares)))
}

// saturated returns a world whose route carries 2 MiB/s, and what its streams
// carry.
func saturated(t *testing.T, seed uint64, cfg Config) (*world, *app) {
	cfg.Congestion, cfg.FixedRate = congestion.Fixed, 2<<20
	w := established(t, seed, cfg, cfg)
	return w, newApp(w)
}

// Streams of one lane share it evenly, however many there are and whatever each
// writes at a time.
func TestStreamsOfALaneShareEvenly(t *testing.T) {
	w, a := saturated(t, 3, Config{})
	const streams = 110
	for range streams {
		a.open(1<<20, 1<<20, PriorityNormal)
	}
	w.run(10 * time.Second)
	var up, down []float64
	for _, id := range a.ids {
		up = append(up, float64(a.flows[id].upGot.Len()))
		down = append(down, float64(a.flows[id].downGot.Len()))
	}
	if u, d := gini(up), gini(down); u > 0.25 || d > 0.25 {
		t.Errorf("%d streams share with a Gini coefficient of %.3f up and %.3f down, want at most 0.25", streams, u, d)
	} else {
		t.Logf("Gini %.3f up, %.3f down", u, d)
	}
}

// The lane that an opener chose holds for what the other end sends, too.
func TestTheOpenersLaneHoldsForTheAnswer(t *testing.T) {
	for _, told := range []bool{true, false} {
		cfg := Config{}
		if !told {
			cfg.Without = []uint16{wire.CapPriorities}
		}
		w, a := saturated(t, 2, cfg)
		low, normal, high := a.open(10, 8<<20, PriorityLow), a.open(10, 8<<20, PriorityNormal), a.open(10, 8<<20, PriorityHigh)
		w.run(3 * time.Second)
		got := func(id uint64) float64 { return float64(a.flows[id].downGot.Len()) }
		toNormal, toLow := got(high)/got(normal), got(normal)/got(low)
		if even := toNormal < 1.1 && toLow < 1.1; even == told || told && (toNormal < 1.8 || toNormal > 2.2 || toLow < 3.6 || toLow > 4.4) {
			t.Errorf("peer told %v: high to normal %.2f, normal to low %.2f", told, toNormal, toLow)
		}
	}
}

// A peer that does not know of lanes is never sent a frame that it would not
// know, and the lanes of this side work all the same.
func TestLanesWithAPeerThatKnowsNone(t *testing.T) {
	cfg := Config{Congestion: congestion.Fixed, FixedRate: 2 << 20}
	old := cfg
	old.Without = []uint16{wire.CapPriorities}
	w := newWorld(t, 5, cfg, old)
	a := newApp(w)
	high, normal := a.open(4<<20, 10, PriorityHigh), a.open(4<<20, 10, PriorityNormal)
	w.run(time.Second)
	w.client.SetWeight(w.now, 5, 16, 0)
	w.client.SetLane(w.now, high, 5, 0)
	w.run(time.Second)
	if r := float64(a.flows[high].upGot.Len()) / float64(a.flows[normal].upGot.Len()); r < 2 {
		t.Errorf("high to normal %.2f", r)
	}
	a.finish(time.Minute)
}

// Lanes come, change weight and go while every stream sends and moves between
// them: each byte arrives once and in order.
func TestLanesChangeUnderTraffic(t *testing.T) {
	w, a := saturated(t, 7, Config{})
	w.routes[0] = route{delay: 10 * time.Millisecond, jitter: 5 * time.Millisecond, loss: 20_000, dup: 10_000}
	for i := range 40 {
		a.open(200_000, 200_000, Lane(i%3))
	}
	for step := range 200 {
		w.run(20 * time.Millisecond)
		side := []*Session{w.client, w.server}[step%2]
		if err := side.SetWeight(w.now, Lane(3+step%5), uint8(step*7%23), 0); err != nil {
			t.Fatal(err)
		}
		for k := range 5 {
			id := a.ids[(step*5+k*11)%len(a.ids)]
			if err := side.SetLane(w.now, id, Lane((step+k)%MaxLanes), 0); err != nil && !errors.Is(err, ErrStreamUnknown) {
				t.Fatal(err)
			}
		}
		checkLanes(t, w.client)
		checkLanes(t, w.server)
	}
	a.finish(2 * time.Minute)
}

// A lane that is added has its share from then on, and its streams have that of
// the normal lane's when it is gone.
func TestALaneThatComesAndGoes(t *testing.T) {
	w, a := saturated(t, 9, Config{})
	here, other := a.open(64<<20, 0, PriorityNormal), a.open(64<<20, 0, PriorityNormal)
	share := func() float64 {
		w.run(100 * time.Millisecond)
		h, o := a.flows[here].upGot.Len(), a.flows[other].upGot.Len()
		w.run(2 * time.Second)
		return float64(a.flows[here].upGot.Len()-h) / float64(a.flows[other].upGot.Len()-o)
	}
	if err := w.client.SetLane(w.now, here, 6, 0); err != nil {
		t.Fatal(err)
	}
	if r := share(); r < 0.95 || r > 1.05 {
		t.Errorf("in a lane that is not there it has %.2f of the other's, want 1", r)
	}
	if w.client.SetWeight(w.now, 6, 40, 0); share() < 9 {
		t.Error("a lane of ten times the weight has not ten times the bytes")
	}
	if w.client.SetWeight(w.now, 6, 0, 0); share() > 1.05 {
		t.Error("a lane that was removed is served")
	}
}

// However concurrent changes cross, get lost or come twice, both ends come to one
// state: for each value the one of the greatest version, and of equal versions
// the greatest.
func TestConcurrentChangesHaveOneOutcome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), Config{}, Config{})
		w.routes[0] = route{delay: 10 * time.Millisecond, jitter: 30 * time.Millisecond, loss: 200_000, dup: 100_000}
		w.until(10*time.Second, func() bool { return w.server != nil && w.server.confirmed && w.client.Established() })
		var ids []uint64
		for range 4 {
			id, _ := w.client.OpenStream(w.now, PriorityNormal)
			w.client.Write(w.now, id, []byte("open"))
			ids = append(ids, id)
		}
		w.until(30*time.Second, func() bool { // both ends know the streams
			return !slices.ContainsFunc(ids, func(id uint64) bool { return w.server.streams.get(id) == nil })
		})
		type value struct {
			version uint32
			v       uint8
		}
		want := map[string]value{}
		note := func(what string, version uint32, v uint8) {
			if have, ok := want[what]; !ok || later(version, v, have.version, have.v) {
				want[what] = value{version, v}
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "changes") {
			side := []*Session{w.client, w.server}[rapid.IntRange(0, 1).Draw(t, "side")]
			version := uint32(rapid.IntRange(1, 6).Draw(t, "version"))
			if rapid.Bool().Draw(t, "of a stream") {
				id, l := rapid.SampledFrom(ids).Draw(t, "stream"), Lane(rapid.IntRange(0, MaxLanes-1).Draw(t, "lane"))
				before, had, _ := side.Lane(id)
				err := side.SetLane(w.now, id, l, version)
				if stale := !later(version, uint8(l), had, uint8(before)) && !(l == before && version == had); stale != errors.Is(err, ErrLaneVersion) {
					t.Fatalf("version %d over %d: %v", version, had, err)
				}
				note(fmt.Sprint("stream ", id), version, uint8(l))
			} else {
				l, weight := Lane(rapid.IntRange(1, MaxLanes-1).Draw(t, "lane")), uint8(rapid.IntRange(0, 3).Draw(t, "weight"))
				side.SetWeight(w.now, l, weight, version)
				note(fmt.Sprint("lane ", l), version, weight)
			}
			w.run(time.Duration(rapid.IntRange(0, 20).Draw(t, "ms")) * time.Millisecond)
			checkLanes(t, w.client)
			checkLanes(t, w.server)
		}
		w.run(30 * time.Second)
		for _, s := range []*Session{w.client, w.server} {
			for _, id := range ids {
				l, version, err := s.Lane(id)
				if x, ok := want[fmt.Sprint("stream ", id)]; ok && (err != nil || x != value{version, uint8(l)}) {
					t.Fatalf("stream %d is in lane %d at version %d (%v), want %v", id, l, version, err, x)
				}
			}
			for l := range Lane(MaxLanes) {
				weight, version := s.Weight(l)
				if x, ok := want[fmt.Sprint("lane ", l)]; ok && (x != value{version, weight}) {
					t.Fatalf("lane %d weighs %d at version %d, want %v", l, weight, version, x)
				}
			}
		}
	})
}

// What a peer says of lanes costs this side no more than what it holds anyway,
// and no version can be passed that makes a lane's state grow or fail.
func TestAPeersChangesAreBounded(t *testing.T) {
	l := newLoop(t, Config{}, Config{})
	id, _ := l.client.OpenStream(l.now, PriorityNormal)
	l.client.Write(l.now, id, []byte("x"))
	for l.exchange() {
	}
	s := l.server
	frames := func(n uint32) []byte {
		b := wire.LaneFrame{Lane: 5, Weight: uint8(n), Version: n}.Append(nil)
		return wire.PriorityFrame{Stream: id, Lane: uint8(n % MaxLanes), Version: n}.Append(b)
	}
	n := uint32(0)
	if allocs := testing.AllocsPerRun(1000, func() {
		n++
		var b [64]byte
		if _, _, ok := s.frames(l.now, 0, append(b[:0], frames(n)...)); !ok {
			t.Fatal("refused")
		}
	}); allocs > 2 { // those of the test
		t.Errorf("%.0f allocations for a change", allocs)
	}
	if _, _, ok := s.frames(l.now, 0, frames(1<<32-1)); !ok {
		t.Fatal("refused")
	}
	if err := s.SetLane(l.now, id, 1, 0); !errors.Is(err, ErrLaneVersion) {
		t.Errorf("past the last version: %v", err)
	}
	if err := s.SetLane(l.now, id, MaxLanes, 0); !errors.Is(err, ErrLane) {
		t.Errorf("lane 8: %v", err)
	}
	if err := s.SetWeight(l.now, PriorityNormal, 0, 0); !errors.Is(err, ErrLane) {
		t.Errorf("the normal lane removed: %v", err)
	}
	if _, _, ok := s.frames(l.now, 0, wire.PriorityFrame{Stream: 1, Lane: 1, Version: 1}.Append(nil)); ok {
		t.Error("the lane of a stream that was never opened is taken")
	}
	before := l.counts[trace.PriorityConflict]
	l.client.SetLane(l.now, id, 1, 7)
	l.client.SetLane(l.now, id, 0, 7)
	if l.counts[trace.PriorityConflict] != before+1 {
		t.Error("a conflict was not counted")
	}
}

// A session at rest holds nothing of its lanes unless they were changed.
func TestLanesAreDroppedAtRest(t *testing.T) {
	for _, changed := range []bool{false, true} {
		w := established(t, 4, Config{}, Config{})
		a := newApp(w)
		a.open(1000, 1000, PriorityHigh)
		if changed {
			w.client.SetWeight(w.now, 5, 2, 0)
		}
		w.until(time.Second, a.done)
		w.run(20 * time.Second)
		for _, s := range []*Session{w.client, w.server} {
			if weight, _ := s.Weight(5); (s.sched.lanes != nil) != changed || (weight == 2) != changed {
				t.Errorf("changed %v: lanes are held %v, lane 5 weighs %d", changed, s.sched.lanes != nil, weight)
			}
		}
	}
}

// A packet that waits in a lane is not held up by how much the others have.
func TestAHighLaneHardlyWaits(t *testing.T) {
	w, a := saturated(t, 6, Config{})
	for range 20 {
		a.open(4<<20, 0, PriorityNormal)
		a.open(4<<20, 0, PriorityLow)
	}
	w.run(time.Second)
	begin := w.now
	id := a.open(500, 0, PriorityHigh)
	w.until(time.Second, func() bool { return a.flows[id].upEnd })
	// Four packets of 1,079 bytes at 2 MiB/s, a burst of the pacer and the route.
	if d := w.now.Sub(begin); d > 20*time.Millisecond {
		t.Errorf("a small message of the high lane took %v", d)
	}
	if !bytes.Equal(a.flows[id].up, a.flows[id].upGot.Bytes()) {
		t.Error("bytes differ")
	}
}

// A lane that had nothing to send is owed nothing for it: when it comes, it has
// its share and no more.
func TestALaneHasNoClaimOnThePast(t *testing.T) {
	w, a := saturated(t, 8, Config{})
	normal := a.open(64<<20, 0, PriorityNormal)
	w.run(5 * time.Second)
	low, before := a.open(64<<20, 0, PriorityLow), a.flows[normal].upGot.Len()
	w.run(time.Second)
	if r := float64(a.flows[normal].upGot.Len()-before) / float64(a.flows[low].upGot.Len()); r < 3.6 {
		t.Errorf("after five seconds without a byte of the low lane, normal to low is %.2f, want 4", r)
	}
}
