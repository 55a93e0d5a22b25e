package mix

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
	"pgregory.net/rapid"
)

func (n *testNet) train(seed uint64) *Train {
	n.t.Helper()
	_, train, err := Build(n.specs(0), wire.Fast, time.Minute, []byte("hello"), prng.FromUint64(seed))
	if err != nil {
		n.t.Fatal(err)
	}
	return train
}

// Any three of the twelve frames may be lost on every link.
func TestTrainSurvivesThreeLossesOnEachLink(t *testing.T) {
	n := newNet(t, 4, Limits{})
	rng := prng.FromUint64(1).Stream("loss")
	for round := range uint64(20) {
		lost := map[[2]int]bool{}
		for at := range n.nodes {
			for count := 0; count < 3; {
				k := [2]int{at, rng.IntN(wire.TrainFrames)}
				if !lost[k] {
					lost[k] = true
					count++
				}
			}
		}
		n.tap = func(at int, out bool, f []byte) bool { return !lost[[2]int{at, int(f[5])}] }
		n.sendTrain(n.train(round))
		n.run()
		for i := range n.nodes {
			n.wantCount(i, trace.SetupDone, round+1)
		}
	}
	d := n.end().deliveries
	if len(d) != 20 || !bytes.Equal(d[19].Packet, []byte("hello")) {
		t.Errorf("%d routes of 20 arrived", len(d))
	}
	n.settled()
}

func TestTrainThatLosesFourExpires(t *testing.T) {
	n := newNet(t, 3, Limits{})
	n.tap = func(at int, out bool, f []byte) bool { return f[5] >= 4 }
	train := n.train(1)
	n.sendTrain(train)
	n.run()
	if n.nodes[0].trains.unfinished != 1 || n.nodes[0].NextTimer() != machine.Time(trainTimeout) {
		t.Errorf("%d trains wait until %v", n.nodes[0].trains.unfinished, n.nodes[0].NextTimer())
	}
	n.advance(trainTimeout)
	n.wantCount(0, trace.DropSetupExpired, 1)
	if n.nodes[0].trains.unfinished != 0 || n.nodes[0].trains.head != nil || n.nodes[0].links[toward(0)].trains != 0 {
		t.Error("an unfinished train is kept")
	}
	// Nothing was recorded: the same set-up may be sent again.
	n.tap = nil
	n.sendTrain(train)
	n.run()
	n.wantCount(2, trace.SetupDone, 1)
}

func TestLateAndRepeatedFramesOfATrain(t *testing.T) {
	n := newNet(t, 3, Limits{})
	train := n.train(1)
	var f wire.Frame
	for i := range 8 {
		for range 3 {
			train.Frame(i, &f)
			n.carry(0, true, f.B[:])
		}
	}
	n.wantCount(0, trace.SetupIn, 0)
	for i := 8; i < wire.TrainFrames; i++ {
		train.Frame(i, &f)
		n.carry(0, true, f.B[:])
	}
	n.run()
	n.wantCount(0, trace.SetupIn, 1)
	n.wantCount(0, trace.SetupDone, 1)
	if n.drops(0) != 0 {
		t.Errorf("late frames made %d drops", n.drops(0))
	}
	n.advance(trainTimeout)
	n.sendTrain(train)
	n.wantCount(0, trace.DropSetupReplay, wire.TrainFrames)
	train.Frame(0, &f)
	f.B[5] = wire.TrainFrames
	n.carry(0, true, f.B[:])
	n.wantCount(0, trace.DropSetupMalformed, 1)
}

// The set-up waits an exponential time at each mix, as drawn by the client.
func TestSetupsAreMixed(t *testing.T) {
	n := newNet(t, 5, Limits{})
	var total time.Duration
	const routes = 300
	for i := range uint64(routes) {
		start := n.now
		n.open(wire.Extreme, nil, 100+i)
		total += n.now.Sub(start)
	}
	if mean, want := total/routes, 3*wire.Extreme.MixDelay(); mean < want*85/100 || mean > want*115/100 {
		t.Errorf("set-ups take %v, want %v", mean, want)
	}
}

func TestOnionKeysRotateWithAnOverlap(t *testing.T) {
	n := newNet(t, 3, Limits{})
	old := n.train(1)
	waiting := n.train(2)
	stale := n.train(3)
	n.nodes[0].RotateOnion(n.now, testKey(t, 50))
	n.sendTrain(old)
	n.run()
	n.wantCount(0, trace.SetupDone, 1)
	n.nodes[0].private = testKey(t, 50)
	n.sendTrain(n.train(4))
	n.run()
	n.wantCount(0, trace.SetupDone, 2)

	n.sendTrain(waiting) // its job is under way when the key goes
	j, _ := n.nodes[0].PollJob()
	n.nodes[0].DropPrevious()
	j.Run()
	n.nodes[0].HandleJob(n.now, j)
	n.nodes[0].HandleJob(n.now, nil)
	n.wantCount(0, trace.DropSetupExpired, 1)
	n.sendTrain(stale)
	n.run()
	n.wantCount(0, trace.DropSetupAuth, 1)
	n.wantCount(0, trace.SetupDone, 2)
}

// The key of the next period is accepted before its time, by who has a clock that
// is late, and what was accepted under it is not accepted again in its time.
func TestOnionKeysAreAcceptedAhead(t *testing.T) {
	n := newNet(t, 3, Limits{})
	present, next := n.nodes[0].private, testKey(t, 50)
	n.nodes[0].private = next
	early, ahead := n.train(1), n.train(2)
	n.sendTrain(early) // control: not before it is near
	n.run()
	n.wantCount(0, trace.DropSetupAuth, 1)
	n.nodes[0].AcceptNext(next)
	n.sendTrain(ahead)
	n.run()
	n.wantCount(0, trace.SetupDone, 1)
	n.nodes[0].AcceptNext(next) // again changes nothing
	n.nodes[0].RotateOnion(n.now, next)
	ahead.id++ // another train of the same set-up
	n.sendTrain(ahead)
	n.run()
	n.wantCount(0, trace.DropSetupReplay, 1)
	n.nodes[0].private = present
	n.sendTrain(n.train(3))
	n.run()
	n.wantCount(0, trace.SetupDone, 2)
	n.wantCount(0, trace.KeyRotations, 1)
}

func TestSetupLimits(t *testing.T) {
	t.Run("rate per link", func(t *testing.T) {
		n := newNet(t, 3, Limits{SetupsPerLink: 2, RoutesPerLink: 100})
		for i := range uint64(10) {
			n.sendTrain(n.train(i))
		}
		n.run()
		n.wantCount(0, trace.SetupDone, 4)
		n.advance(time.Second)
		for i := range uint64(10) {
			n.sendTrain(n.train(20 + i))
		}
		n.run()
		n.wantCount(0, trace.SetupDone, 6)
		n.wantCount(0, trace.DropSetupLimit, 14*wire.TrainFrames)
	})
	t.Run("a node's link has the total rate", func(t *testing.T) {
		n := newNet(t, 3, Limits{SetupsPerLink: 1, Setups: 3})
		for _, node := range n.nodes {
			node.cfg.Node = func(link.ID) bool { return true }
		}
		for i := range uint64(10) {
			n.sendTrain(n.train(i))
		}
		n.run()
		n.wantCount(0, trace.SetupDone, 6)
	})
	t.Run("routes", func(t *testing.T) {
		n := newNet(t, 3, Limits{RoutesPerLink: 3})
		n.nodes[1].cfg.Limits.Routes = 2
		for i := range uint64(5) {
			n.sendTrain(n.train(i))
			n.run()
		}
		n.wantCount(0, trace.SetupDone, 3)
		n.wantCount(1, trace.SetupDone, 2)
	})
	t.Run("unfinished trains", func(t *testing.T) {
		n := newNet(t, 3, Limits{})
		var f wire.Frame
		for i := range uint32(trainsMax + 100) {
			wire.PutShardHeader(f.B[:], i, 0)
			n.nodes[0].HandleFrame(n.now, toward(int(i%100)), f.B[:])
		}
		if got := n.nodes[0].trains.unfinished; got != trainsMax {
			t.Errorf("%d trains are kept", got)
		}
		for i := range uint32(trainsPerLinkMax + 1) {
			wire.PutShardHeader(f.B[:], 5000+i, 0)
			n.nodes[1].HandleFrame(n.now, toward(1), f.B[:])
		}
		n.wantCount(1, trace.DropSetupLimit, 1)
		n.nodes[0].LinkDown(n.now, toward(7))
		if got := n.nodes[0].trains.unfinished; got >= trainsMax {
			t.Error("trains of a lost link are kept")
		}
	})
	t.Run("jobs", func(t *testing.T) {
		n := newNet(t, 3, Limits{Setups: 1 << 20, SetupsPerLink: 1 << 20})
		train := n.train(1)
		for range jobsMax + 5 {
			train.id++
			n.sendTrain(train)
		}
		n.wantCount(0, trace.DropSetupLimit, 5)
	})
	t.Run("record", func(t *testing.T) {
		n := newNet(t, 3, Limits{ReplaysPerOnion: 2})
		for i := range uint64(3) {
			n.sendTrain(n.train(i))
			n.run()
		}
		n.wantCount(0, trace.SetupDone, 2)
		n.wantCount(0, trace.DropSetupLimit, 1)
	})
	t.Run("records that nobody takes", func(t *testing.T) {
		n := newNet(t, 3, Limits{})
		for range unsavedMax {
			n.nodes[1].unsaved.push(ReplayTag{})
		}
		n.sendTrain(n.train(1))
		n.run()
		n.wantCount(1, trace.DropSetupLimit, 1)
		n.nodes[1].PollReplay()
		n.sendTrain(n.train(2))
		n.run()
		n.wantCount(2, trace.SetupDone, 1)
	})
	t.Run("queue", func(t *testing.T) {
		n := newNet(t, 3, Limits{Queue: wire.TrainFrames - 1})
		n.sendTrain(n.train(1))
		n.run()
		n.wantCount(0, trace.DropSetupLimit, 1)
	})
}

func TestSetupsThatLeadNowhere(t *testing.T) {
	n := newNet(t, 3, Limits{})
	n.nodes[2].cfg.EndOfRoute = false
	n.sendTrain(n.train(1))
	n.run()
	n.wantCount(2, trace.DropSetupPeer, 1)

	specs := n.specs(0)
	specs[1].ID = wire.NodeID{99}
	_, train, _ := Build(specs, wire.Fast, time.Minute, nil, prng.FromUint64(2))
	n.sendTrain(train)
	n.run()
	n.wantCount(0, trace.DropSetupPeer, 1)

	n.sendTrain(n.train(3)) // the link goes while the job is under way
	j, _ := n.nodes[0].PollJob()
	j.Run()
	n.nodes[0].LinkDown(n.now, toward(0))
	n.nodes[0].HandleJob(n.now, j)
	n.wantCount(0, trace.DropSetupPeer, 2)

	// Two routes with one id on a link: the second is refused.
	a, b := n.train(4), n.train(5)
	b.id = a.id
	n.sendTrain(a)
	n.run()
	n.advance(trainTimeout)
	n.sendTrain(b)
	n.wantCount(0, trace.DropSetupReplay, wire.TrainFrames)
	n.nodes[1].LinkDown(n.now, toward(2))
	n.sendTrain(n.train(7))
	n.run()
	n.wantCount(1, trace.DropSetupPeer, 1)
	n.nodes[1].cfg.Next = nil
	n.sendTrain(n.train(6))
	n.run()
	n.wantCount(1, trace.DropSetupPeer, 2)
	n.settled()
}

// spoiltTrain is a set-up that authenticates and says what no client may say.
func (n *testNet) spoiltTrain(seed uint64, spoil func(steps []wrapStep)) *Train {
	specs, rng := n.specs(0), prng.FromUint64(seed)
	r := &Route{ttl: time.Minute, hops: make([]clientHop, len(specs))}
	steps := make([]wrapStep, len(specs))
	for i := range specs {
		if err := r.prepare(i, &specs[i], &steps[i], rng.Child(string(rune(i)))); err != nil {
			n.t.Fatal(err)
		}
		if steps[i].routing.Last = i == len(specs)-1; !steps[i].routing.Last {
			steps[i].routing.Next, steps[i].routing.NextRoute = specs[i+1].ID, uint32(i)+77
		}
	}
	spoil(steps)
	t := &Train{id: uint32(seed)}
	wrap(&t.onion, steps, nil, make([]byte, wire.SetupHeaderSize))
	encodeTrain(t.onion.packet(), &t.parity)
	return t
}

func TestAuthenticSetupsThatMakeNoSense(t *testing.T) {
	n := newNet(t, 3, Limits{})
	n.sendTrain(n.spoiltTrain(1, func(s []wrapStep) { s[0].routing.Suite = 9 }))
	n.sendTrain(n.spoiltTrain(2, func(s []wrapStep) { s[0].routing.Level = 9 }))
	n.run()
	n.wantCount(0, trace.DropSetupMalformed, 2)
	n.sendTrain(n.spoiltTrain(3, func([]wrapStep) {}))
	n.run()
	n.wantCount(2, trace.SetupDone, 1)
	n.sendTrain(n.spoiltTrain(4, func([]wrapStep) {})) // same ids on the next link
	n.run()
	n.wantCount(0, trace.DropSetupMalformed, 3)
	n.end().cfg.Limits.Queue = 0
	n.sendTrain(n.spoiltTrain(5, func(s []wrapStep) { s[0].routing.NextRoute, s[1].routing.NextRoute = 8, 9 }))
	n.run()
	n.wantCount(2, trace.DropSetupLimit, 1)
	n.settled()
}

func TestBuildRefuses(t *testing.T) {
	n := newNet(t, 7, Limits{})
	good := n.specs(10 * time.Millisecond)
	spoil := func(change func(s []HopSpec) []HopSpec) []HopSpec { return change(append([]HopSpec(nil), good...)) }
	for name, c := range map[string]struct {
		hops  []HopSpec
		level wire.Level
		ttl   time.Duration
		first int
	}{
		"two hops":        {good[:2], wire.Fast, time.Minute, 0},
		"eight hops":      {append(good[:7:7], good[0]), wire.Fast, time.Minute, 0},
		"unknown level":   {good, 9, time.Minute, 0},
		"no time":         {good, wire.Fast, time.Millisecond, 0},
		"a day and more":  {good, wire.Fast, 65536 * time.Second, 0},
		"a large flight":  {good, wire.Fast, time.Minute, wire.MaxFirstFlight + 1},
		"no key":          {spoil(func(s []HopSpec) []HopSpec { s[3].Onion = nil; return s }), wire.Fast, time.Minute, 0},
		"a long delay":    {spoil(func(s []HopSpec) []HopSpec { s[3].Delay = time.Second; return s }), wire.High, time.Minute, 0},
		"a delay below 0": {spoil(func(s []HopSpec) []HopSpec { s[3].Delay = -1; return s }), wire.High, time.Minute, 0},
	} {
		if _, _, err := Build(c.hops, c.level, c.ttl, make([]byte, c.first), prng.FromUint64(1)); !errors.Is(err, ErrBuild) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, _, err := Build(good, wire.High, 90*time.Second+time.Millisecond, nil, prng.FromUint64(1))
	if err != nil || r.TTL() != 90*time.Second || r.Level() != wire.High || r.Hops() != 7 {
		t.Errorf("a good route: %v, %+v", err, r)
	}
}

// Peeling hop by hop undoes wrapping, for any route and first flight.
func TestAnyOnionPeels(t *testing.T) {
	n := newNet(t, 7, Limits{})
	rapid.Check(t, func(rt *rapid.T) {
		hops := rapid.IntRange(wire.MinHops, wire.MaxHops).Draw(rt, "hops")
		first := rapid.SliceOfN(rapid.Byte(), 0, wire.MaxFirstFlight).Draw(rt, "first")
		level := wire.Level(rapid.IntRange(0, 3).Draw(rt, "level"))
		specs := n.specs(level.MixDelay())[:hops]
		r, train, err := Build(specs, level, time.Minute, first, prng.FromUint64(rapid.Uint64().Draw(rt, "seed")))
		if err != nil {
			rt.Fatal(err)
		}
		o := train.onion
		for i := range hops {
			keys, g, result := peel(&o, n.nodes[i].private)
			if result != peelDone || keys != r.hops[i].keys || int(g.Position) != i || g.Level != level || g.ForwardStart != r.hops[i].counter {
				rt.Fatalf("hop %d: %d, %+v", i, result, g)
			}
			if i < hops-1 && g.Next != specs[i+1].ID || (i == hops-1) != g.Last {
				rt.Fatalf("hop %d leads to %x", i, g.Next)
			}
		}
		if got, ok := wire.ParseFirstFlight(o[deltaAt:]); !ok || !bytes.Equal(got, first) {
			rt.Fatalf("first flight of %d bytes came out as %d", len(first), len(got))
		}
	})
}

// FuzzPeel: nothing but what a client made peels.
func FuzzPeel(f *testing.F) {
	n := newNet(f, 3, Limits{})
	train := n.train(1)
	f.Add([]byte{1}, 0)
	f.Add([]byte{0, 0}, betaAt)
	f.Fuzz(func(t *testing.T, change []byte, at int) {
		o := train.onion
		if at < alphaAt || at+len(change) > len(o) {
			return
		}
		copy(o[at:], change)
		if _, _, result := peel(&o, n.nodes[0].private); result == peelDone && o != train.onion {
			if again := train.onion; bytes.Equal(again[at:at+len(change)], change) {
				return
			}
			t.Fatal("a changed set-up was peeled")
		}
	})
}
