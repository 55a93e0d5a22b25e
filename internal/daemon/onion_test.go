package daemon

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

func onionKey(t testing.TB, seed uint64) *seal.KEMPrivate {
	t.Helper()
	k, err := newKEM(prng.FromUint64(seed), "onion")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// shelf is onion keys in memory.
type shelf struct {
	t    *testing.T
	keys map[uint64]*seal.KEMPrivate
	fail error
	stay error // why keys are not destroyed
}

func (s *shelf) Make(epoch uint64) (*seal.KEMPrivate, error) {
	if s.keys[epoch] == nil && s.fail == nil {
		s.keys[epoch] = onionKey(s.t, epoch)
	}
	return s.keys[epoch], s.fail
}
func (s *shelf) Load(epoch uint64) (*seal.KEMPrivate, error) { return s.keys[epoch], s.fail }
func (s *shelf) Held() (held []*seal.KEMPrivate, err error) {
	return slices.Collect(maps.Values(s.keys)), s.fail
}
func (s *shelf) Retire(before uint64) error {
	if s.stay != nil {
		return s.stay
	}
	for epoch := range s.keys {
		if epoch < before {
			delete(s.keys, epoch)
		}
	}
	return s.fail
}

func (s *shelf) held() (epochs []uint64) {
	for epoch := range s.keys {
		epochs = append(epochs, epoch)
	}
	slices.Sort(epochs)
	return epochs
}

// Onion keys are made an epoch ahead, used from the period's first second,
// accepted for an epoch more, and then destroyed; a restart at any moment finds
// the same keys accepted.
func TestOnionKeysFollowTheirPeriods(t *testing.T) {
	for _, p := range []directory.Params{{}, {OnionEpochs: 2}, {OnionEpochs: 1}} {
		s := &shelf{t: t, keys: map[uint64]*seal.KEMPrivate{}}
		length := uint64(24)
		if p.OnionEpochs != 0 {
			length = uint64(p.OnionEpochs)
		}
		first := 1000 * length
		o, err := newOnions(s, p, p.Begin(first))
		if err != nil {
			t.Fatal(err)
		}
		for epoch := first; epoch < first+4*length; epoch++ {
			for _, wall := range []int64{p.Begin(epoch), p.Begin(epoch+1) - 1} {
				turned, err := o.turn(wall)
				if err != nil {
					t.Fatal(err)
				}
				period := epoch - epoch%length
				begins := period == epoch && wall == p.Begin(epoch) && epoch != first
				if (turned.rotated != nil) != begins || begins && turned.rotated != s.keys[period] {
					t.Errorf("epoch %d of period %d: rotated %v", epoch, period, turned.rotated != nil)
				}
				want := []uint64{period}
				if epoch == period && period != first {
					want = []uint64{period - length, period}
				}
				if next := epoch + 1; next%length == 0 {
					want = append(want, next)
				}
				if !slices.Equal(s.held(), want) {
					t.Errorf("epoch %d, onion epochs %d: keys of %v are held, want %v", epoch, length, s.held(), want)
				}
				accepted := o.accepted()
				if accepted[0] != s.keys[period] || len(accepted) != len(want) {
					t.Errorf("epoch %d: %d keys are accepted of %d, or not the present one first", epoch, len(accepted), len(want))
				}
				again, err := newOnions(s, p, wall)
				if err == nil {
					_, err = again.turn(wall)
				}
				if err != nil || !slices.Equal(again.accepted(), accepted) {
					t.Errorf("epoch %d: after a restart %d keys are accepted, before it %d, %v", epoch, len(again.accepted()), len(accepted), err)
				}
			}
		}
		s.fail = errors.New("disk gone")
		if _, err := newOnions(s, p, p.Begin(first)); !errors.Is(err, s.fail) {
			t.Errorf("keys that cannot be had: %v", err)
		}
		if _, err := o.turn(p.Begin(first + 9*length)); !errors.Is(err, s.fail) {
			t.Errorf("keys that cannot be had: %v", err)
		}
	}
}

// A node that was off over a rotation, or for long, has the right keys at once.
func TestOnionKeysAfterAbsence(t *testing.T) {
	p := directory.Params{}
	s := &shelf{t: t, keys: map[uint64]*seal.KEMPrivate{}}
	o, err := newOnions(s, p, p.Begin(2400))
	if err != nil {
		t.Fatal(err)
	}
	after, err := o.turn(p.Begin(2400 + 24*5 + 3))
	if err != nil || after.rotated == nil || !after.dropped || !after.published || !slices.Equal(s.held(), []uint64{2400 + 24*5}) {
		t.Errorf("%+v, %v; keys of %v are held", after, err, s.held())
	}
	// A clock that is set back brings no key back.
	present := o.accepted()[0]
	back, err := o.turn(p.Begin(2400))
	if err != nil || back != (turned{}) || o.accepted()[0] != present || !slices.Equal(s.held(), []uint64{2400 + 24*5}) {
		t.Errorf("%+v, %v; keys of %v are held", back, err, s.held())
	}
}

// feeder builds set-ups under an onion key and gives them to a table.
type feeder struct {
	key    *seal.KEMPrivate
	serial uint64
}

// build returns the frames of a set-up whose first hop has the key.
func (f *feeder) build(t testing.TB) (frames []wire.Frame) {
	t.Helper()
	f.serial++
	hops := make([]mix.HopSpec, wire.MinHops)
	for i := range hops {
		hops[i] = mix.HopSpec{ID: wire.NodeID{byte(i)}, Onion: f.key.Public()}
	}
	_, train, err := mix.Build(hops, wire.Fast, time.Minute, nil, prng.FromUint64(f.serial).Child("set-up"))
	if err != nil {
		t.Fatal(err)
	}
	frames = make([]wire.Frame, wire.TrainFrames)
	for i := range frames {
		train.Frame(i, &frames[i])
	}
	return frames
}

// setUp gives a set-up to a table, and works on it.
func setUp(now machine.Time, table *mix.Table, from link.ID, frames []wire.Frame) {
	for i := range frames {
		b := frames[i].B
		table.HandleFrame(now, from, b[:])
	}
	for {
		j, ok := table.PollJob()
		if !ok {
			return
		}
		j.Run()
		table.HandleJob(now, j)
	}
}

// startLone starts a Mix node whose directory does not answer: it knows no
// other, so that a set-up that it accepts is counted as one without a next hop.
func startLone(t *testing.T, p directory.Params, onions OnionKeys, dir string) *Node {
	t.Helper()
	cfg, err := localNode(LocalConfig{Streams: 0}, 0, prng.FromUint64(3), p)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Onions, cfg.StateDir = onions, dir
	return startAlone(t, cfg)
}

// startAlone starts a node whose directory does not answer.
func startAlone(t *testing.T, cfg NodeConfig) *Node {
	t.Helper()
	signer, err := newSigner(prng.FromUint64(4), "authority")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Trust = directory.Trust{Network: localName, Threshold: 1, Authorities: [][]byte{signer.Public()}}
	cfg.Directories, cfg.Listen = []string{"http://127.0.0.1:1"}, loopback(0)
	n, err := StartNode(cfg, prng.FromUint64(5))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// became is what became of a set-up at a node: one counter, by one.
func became(t *testing.T, n *Node, frames []wire.Frame) (out trace.Counter) {
	t.Helper()
	n.host.Do(func(now machine.Time) {
		before := n.stats()
		from := link.ID(1000 + before[trace.SetupIn])
		setUp(now, n.table, from, frames)
		after := n.stats()
		for _, c := range []trace.Counter{trace.DropSetupPeer, trace.DropSetupReplay, trace.DropSetupAuth} {
			if after[c] == before[c]+1 {
				out = c
			}
		}
	})
	return out
}

const accepted = trace.DropSetupPeer // see startLone

// A node that restarts within the overlap accepts set-ups under both keys, and
// under neither a second time. The controls: without its record it takes them
// again, and without the previous key it takes none of those.
func TestRestartWithinTheOverlap(t *testing.T) {
	p := directory.Params{EpochLength: 31 * 24 * time.Hour, OnionEpochs: 1} // any time is within the overlap
	present := p.EpochAt(time.Now().Unix())
	dir := t.TempDir()
	if _, err := setup.MakeNodeKeys(dir, present-1, nil); err != nil {
		t.Fatal(err)
	}
	keys := storedOnions(dir)
	start := func() *Node { return startLone(t, p, keys, dir) }
	n := start()
	var trains [][]wire.Frame
	for i, epoch := range []uint64{present - 1, present} {
		key, err := keys.Load(epoch)
		if err != nil || key == nil {
			t.Fatalf("no key of epoch %d, %v", epoch, err)
		}
		f := feeder{key: key, serial: uint64(10 * i)}
		for range 3 {
			trains = append(trains, f.build(t))
		}
	}
	expect := func(what string, want trace.Counter, trains ...[]wire.Frame) {
		t.Helper()
		for i, train := range trains {
			if got := became(t, n, train); got != want {
				t.Errorf("%s: set-up %d: %v, want %v", what, i, got, want)
			}
		}
	}
	restart := func() {
		t.Helper()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n = start()
	}
	expect("new", accepted, trains...)
	expect("again", trace.DropSetupReplay, trains...)
	restart()
	expect("after a restart", trace.DropSetupReplay, trains...)
	restart()
	expect("after another", trace.DropSetupReplay, trains...)
	for _, path := range seenFiles(t, dir) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	expect("control: without the record", accepted, trains...)
	if err := keys.Retire(present); err != nil {
		t.Fatal(err)
	}
	restart()
	expect("control: without the previous key", trace.DropSetupAuth, trains[:3]...)
	expect("under the present key", trace.DropSetupReplay, trains[3:]...)
	if got := seenFiles(t, dir); len(got) != 1 {
		t.Errorf("records of %d keys are left: %v", len(got), got)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// A node whose clock is late turns its keys when the directory's signatures say
// that it is time, and one whose clock is ahead by its own.
func TestSignaturesPutTheClockRight(t *testing.T) {
	var n Node
	for _, c := range []struct{ own, signed, want int64 }{{100, 0, 100}, {100, 4000, 4000}, {9000, 4000, 9000}} {
		n.signedAt.Store(c.signed)
		if got := n.putRight(c.own); got != c.want {
			t.Errorf("clock at %d, signatures of %d: %d", c.own, c.signed, got)
		}
	}
}

// A node that restarts while its clock is set back, as one without a battery
// does until it asks for the time, accepts nothing again when the clock is right.
func TestRestartWithTheClockSetBack(t *testing.T) {
	p := directory.Params{EpochLength: 31 * 24 * time.Hour, OnionEpochs: 1}
	present := p.EpochAt(time.Now().Unix()) // where the clock is set back to
	dir := t.TempDir()
	if _, err := setup.MakeNodeKeys(dir, present, nil); err != nil {
		t.Fatal(err)
	}
	keys := storedOnions(dir)
	n := startLone(t, p, keys, dir)
	right := p.Begin(present + 1)
	if err := n.turnOnions(right); err != nil {
		t.Fatal(err)
	}
	key, err := keys.Load(present + 1)
	if err != nil || key == nil {
		t.Fatal("no key of the right time", err)
	}
	train := (&feeder{key: key}).build(t)
	if got := became(t, n, train); got != accepted {
		t.Fatalf("a new set-up: %v", got)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = startLone(t, p, keys, dir)
	if got := became(t, n, train); got != trace.DropSetupAuth {
		t.Errorf("with the clock set back: %v", got)
	}
	if err := n.turnOnions(right); err != nil {
		t.Fatal(err)
	}
	if got := became(t, n, train); got != trace.DropSetupReplay {
		t.Errorf("with the clock right again: %v", got)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// metricsOf is what a server of metrics says of a node.
func metricsOf(n *Node) string {
	return (&source{parts: func() []part { return []part{newPart("node", n.Stats(), n.Err())} }}).page().String()
}

// What goes wrong with the keys, or with the record of set-ups, is told for as
// long as it is wrong, whatever else goes well meanwhile.
func TestNodeIsNotUpWithoutItsKeys(t *testing.T) {
	p := directory.Params{}
	present := p.OnionFrom(p.EpochAt(time.Now().Unix()))
	s := &shelf{t: t, keys: map[uint64]*seal.KEMPrivate{}}
	dir := t.TempDir()
	n := startLone(t, p, s, dir)
	n.cancel() // what it does by itself
	n.running.Wait()
	well := func() {
		for _, d := range []duty{publishing, following, listing} {
			n.note(d, nil)
		}
	}
	at := func(epoch uint64) { n.note(rotating, n.turnOnions(p.Begin(epoch))) }
	up := func(what string, want bool) {
		t.Helper()
		well()
		if got := strings.Contains(metricsOf(n), "nyx_up{part=\"node\"} 1"); got != want {
			t.Errorf("%s: up %v, want %v: %v", what, got, want, n.Err())
		}
	}
	period := present + directory.DefaultOnionEpochs
	at(present)
	up("at first", true)
	s.fail = errors.New("disk gone")
	at(period)
	up("without the key of the period", false)
	at(period)
	up("looked at again", false)
	s.fail = nil
	at(period)
	up("with it", true)
	s.stay = errors.New("disk read-only")
	at(period + 1)
	at(period + 1)
	up("while the last key is not destroyed", false)
	s.stay = nil
	at(period + 1)
	up("when it is", true)
	name := mix.OnionName(onionKey(t, period+directory.DefaultOnionEpochs))
	path := filepath.Join(dir, recordName(name))
	if err := os.Mkdir(path, 0o700); err != nil { // in its record's place
		t.Fatal(err)
	}
	at(period + directory.DefaultOnionEpochs)
	at(period + directory.DefaultOnionEpochs)
	up("while a record cannot be made", false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	at(period + directory.DefaultOnionEpochs)
	up("when it can", true)
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func seenFiles(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, recordGlob))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// Sessions outlive the rotation and the retirement of every node's onion key;
// new routes stand through the overlap, and set-ups under a retired key do not.
func TestSessionsOutliveOnionKeys(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	port := echoServer(t)
	c := dial(t, l, "before", port)
	defer c.Close()
	exchange := func(what string) {
		t.Helper()
		c.SetDeadline(time.Now().Add(patience))
		got := make([]byte, 5000)
		go c.Write(bytes.Repeat([]byte("round"), 1000))
		if _, err := io.ReadFull(c, got); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	exchange("before")
	p := l.Authority.Params()
	period := p.OnionFrom(p.EpochAt(time.Now().Unix())) + uint64(p.OnionEpochs)
	old := l.Nodes[0].onions.accepted()[0]
	f := feeder{key: old}
	for _, n := range l.Nodes {
		if err := n.turnOnions(p.Begin(period)); err != nil {
			t.Fatal(err)
		}
		if keys := n.onions.accepted(); len(keys) != 2 {
			t.Fatalf("%d keys are accepted in the overlap", len(keys))
		}
	}
	exchange("in the overlap")
	for _, key := range []string{"a", "b", "c"} { // more than is built ahead
		dial(t, l, key, port).Close()
	}
	first := l.Nodes[0]
	fresh := feeder{key: first.onions.accepted()[0], serial: 100}
	if a, b := became(t, first, f.build(t)), became(t, first, fresh.build(t)); a != accepted || b != accepted {
		t.Errorf("in the overlap: %v under the old key, %v under the new", a, b)
	}
	for _, n := range l.Nodes {
		if err := n.turnOnions(p.Begin(period + 1)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := became(t, first, f.build(t)), became(t, first, fresh.build(t)); a != trace.DropSetupAuth || b != accepted {
		t.Errorf("after the overlap: %v under the old key, %v under the new", a, b)
	}
	exchange("after the overlap")
}
