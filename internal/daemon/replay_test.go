package daemon

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

// bench is a table with a record on disk, without a node around them.
type bench struct {
	t     *testing.T
	dir   string
	keys  []*seal.KEMPrivate // the present first
	table *mix.Table
	pool  wire.Pool
	count trace.Counts
	log   *replayLog
	links link.ID
}

func newBench(t *testing.T, dir string, keys ...*seal.KEMPrivate) *bench {
	t.Helper()
	b := &bench{t: t, dir: dir, keys: keys}
	b.table = mix.NewTable(mix.Config{Onion: keys[len(keys)-1]}, prng.FromUint64(1), &b.pool, &b.count)
	if len(keys) > 1 {
		b.table.RotateOnion(0, keys[0])
	}
	var err error
	if b.log, err = openReplay(dir, keys, nil, b.table); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.log.close() })
	return b
}

// takes reports whether a set-up is accepted.
func (b *bench) takes(frames []wire.Frame) bool {
	b.links++
	before := b.count[accepted]
	setUp(0, b.table, b.links, frames)
	return b.count[accepted] > before
}

// lastWord is a carrier that looks at the record when datagrams leave.
type lastWord struct {
	drive.Carrier
	look func()
}

func (c lastWord) Flush() error { c.look(); return nil }

// When datagrams leave, the set-ups of their round are on record, so that a
// crash at any moment after lets none be accepted again; what the crash left of
// the record's last tag makes no difference.
func TestNothingLeavesBeforeTheRecord(t *testing.T) {
	dir, key := t.TempDir(), onionKey(t, 1)
	b, f := newBench(t, dir, key), feeder{key: key}
	var trains [][]wire.Frame
	var images [][]byte // of the record, at each departure
	path := filepath.Join(dir, recordName(mix.OnionName(key)))
	c := recorded{lastWord{look: func() {
		image, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, image)
	}}, b.log, func(err error) { t.Error(err) }}
	for range 3 {
		train := f.build(t)
		if !b.takes(train) {
			t.Fatal("a set-up was refused")
		}
		trains = append(trains, train)
		if !b.log.take(b.table) {
			t.Error("no tag waits to be written")
		}
		c.Flush()
		if b.log.take(b.table) {
			t.Error("what was written still waits")
		}
	}
	for i, image := range images {
		for _, torn := range []int{0, 1, replayTagSize - 1} {
			after := t.TempDir()
			if err := os.WriteFile(filepath.Join(after, filepath.Base(path)), append(bytes.Clone(image), make([]byte, torn)...), 0o600); err != nil {
				t.Fatal(err)
			}
			again := newBench(t, after, key)
			for j, train := range trains {
				if again.takes(train) != (j > i) {
					t.Errorf("crash after departure %d, %d bytes torn: set-up %d is accepted: %v", i, torn, j, j <= i)
				}
			}
			again.log.take(again.table)
			if err := again.log.close(); err != nil {
				t.Fatal(err)
			}
			if last := newBench(t, after, key); last.takes(trains[0]) || last.takes(trains[2]) {
				t.Errorf("crash after departure %d, %d bytes torn, and a restart: a set-up is accepted again", i, torn)
			}
		}
	}
}

// The record of a key goes with the key, and what it held with it; the record
// of the other stays.
func TestRecordsGoWithTheirKeys(t *testing.T) {
	dir := t.TempDir()
	first, second, third := onionKey(t, 1), onionKey(t, 2), onionKey(t, 3)
	b := newBench(t, dir, first)
	one, two := feeder{key: first}, feeder{key: second}
	for range 10 {
		b.takes(one.build(t))
	}
	b.log.take(b.table)
	if err := b.log.write(); err != nil {
		t.Fatal(err)
	}
	if tags, err := b.log.open(second); err != nil || tags != nil {
		t.Fatal(tags, err)
	}
	b.table.RotateOnion(0, second)
	train := two.build(t)
	b.takes(train)
	b.takes(one.build(t)) // in the overlap
	b.log.take(b.table)
	if err := errors.Join(b.log.write(), b.log.prune([]*seal.KEMPrivate{second, first}, nil)); err != nil {
		t.Fatal(err)
	}
	size := func(key *seal.KEMPrivate) int64 {
		info, err := os.Stat(filepath.Join(dir, recordName(mix.OnionName(key))))
		if err != nil {
			return -1
		}
		return info.Size() / int64(replayTagSize)
	}
	if size(first) != 11 || size(second) != 1 {
		t.Errorf("%d and %d tags on record, want 11 and 1", size(first), size(second))
	}
	b.takes(one.build(t)) // and then its key is retired before the record is written
	b.log.take(b.table)
	b.table.DropPrevious()
	if err := errors.Join(b.log.prune([]*seal.KEMPrivate{second}, nil), b.log.write()); err != nil {
		t.Fatal(err)
	}
	if size(first) != -1 || size(second) != 1 {
		t.Errorf("%d and %d tags on record after the first key was retired, want none and 1", size(first), size(second))
	}
	if again := newBench(t, dir, third, second); again.takes(train) || size(third) != 0 {
		t.Error("a set-up is accepted again after its key was joined by another")
	}
}

// A record in the form of earlier versions is taken over.
func TestFormerRecordIsTakenOver(t *testing.T) {
	dir, key := t.TempDir(), onionKey(t, 1)
	train := (&feeder{key: key}).build(t)
	var former []byte
	t.Run("earlier", func(t *testing.T) {
		b := newBench(t, t.TempDir(), key)
		b.takes(train)
		b.log.take(b.table)
		name := mix.OnionName(key)
		former = append([]byte{byte(name >> 24), byte(name >> 16), byte(name >> 8), byte(name)}, b.log.pending[0].Tag[:]...)
	})
	gone := append([]byte{1, 2, 3, 4}, make([]byte, replayTagSize)...)
	if err := os.WriteFile(filepath.Join(dir, formerRecord), slices.Concat(gone, former, []byte{9, 9}), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b := newBench(t, dir, key)
		if b.takes(train) {
			t.Error("a set-up of the former record is accepted")
		}
		if _, err := os.Stat(filepath.Join(dir, formerRecord)); err == nil {
			t.Error("the former record is still there")
		}
		if err := b.log.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A record that cannot be written is told, keeps what it has, and goes on when
// it can.
func TestRecordOnAFullDisk(t *testing.T) {
	dir, key := t.TempDir(), onionKey(t, 1)
	b, f := newBench(t, dir, key), feeder{key: key}
	file := b.log.files[mix.OnionName(key)]
	good := file.File
	full, err := os.Open(filepath.Join(dir, recordName(mix.OnionName(key)))) // cannot be written
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	file.File = full
	train, later := f.build(t), f.build(t)
	b.takes(train)
	b.log.take(b.table)
	told := 0
	c := recorded{lastWord{look: func() {}}, b.log, func(error) { told++ }}
	c.Flush()
	b.takes(later)
	if b.log.take(b.table); len(b.log.pending) != 0 {
		t.Error("tags are taken from the table while none can be written")
	}
	c.Flush()
	if told != 2 {
		t.Errorf("told %d times of 2", told)
	}
	file.File = good
	c.Flush()
	if b.log.take(b.table); len(b.log.pending) != 1 {
		t.Error("what waited in the table was not taken")
	}
	c.Flush()
	if told != 2 {
		t.Error("told of a write that succeeded")
	}
	if again := newBench(t, dir, key); again.takes(train) || again.takes(later) {
		t.Error("a set-up is accepted again")
	}
	if _, err := openReplay(filepath.Join(dir, "none"), []*seal.KEMPrivate{key}, nil, b.table); err == nil {
		t.Error("a record was opened in a directory that does not exist")
	}
}

// What is on record is on the disk a second later, again tried until it is, and
// when the node ends; nothing new costs nothing.
func TestRecordReachesTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, key := t.TempDir(), onionKey(t, 1)
		b, f := newBench(t, dir, key), feeder{key: key}
		var syncs int
		var fault error
		b.log.fsync = func(*os.File) error {
			turns.Load()
			syncs++
			return fault
		}
		n := &Node{replay: b.log, health: health{log: logOrNone(nil)}}
		n.cfg.Onions = freshOnions{}
		var err error
		if n.onions, err = newOnions(freshOnions{}, directory.Params{}, time.Now().Unix()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		n.running.Go(func() { n.rotate(ctx) })
		after := func(what string, d time.Duration, want int, wrong error) {
			t.Helper()
			advance(d)
			if err := n.Err(); syncs != want || !errors.Is(err, wrong) || wrong == nil && err != nil {
				t.Errorf("%s: %d calls, want %d; %v", what, syncs, want, err)
			}
		}
		write := func() {
			t.Helper()
			b.takes(f.build(t))
			b.log.take(b.table)
			if err := b.log.write(); err != nil {
				t.Fatal(err)
			}
		}
		after("the name of a new record", recordSync, 1, nil)
		after("nothing new", time.Minute, 1, nil)
		write()
		write()
		after("two set-ups", recordSync, 2, nil)
		fault = errors.New("disk gone")
		write()
		after("a disk that is gone", 15*recordSync, 17, fault)
		if err := b.log.check(); !errors.Is(err, fault) {
			t.Errorf("looked at: %v", err)
		}
		fault = nil
		after("when it is back", keyLook+recordSync, 18, nil)
		stop()
		n.running.Wait()
		write()
		if err := b.log.close(); err != nil || syncs != 19 {
			t.Errorf("at the end: %d calls, %v", syncs, err)
		}
	})
}

// While the record of a new key cannot be made, nothing of it is forgotten: it
// is told, and written when the record can be.
func TestRecordOfANewKeyThatCannotBeMade(t *testing.T) {
	dir, first, second := t.TempDir(), onionKey(t, 1), onionKey(t, 2)
	b, f := newBench(t, dir, first), feeder{key: second}
	path := filepath.Join(dir, recordName(mix.OnionName(second)))
	if err := os.Mkdir(path, 0o700); err != nil { // in its place
		t.Fatal(err)
	}
	if _, err := b.log.open(second); err == nil {
		t.Fatal("a directory was opened as a record")
	}
	b.table.RotateOnion(0, second)
	train := f.build(t)
	b.takes(train)
	b.log.take(b.table)
	if err := b.log.write(); err == nil {
		t.Error("it is not told that a set-up is not on record")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.log.write(), b.log.close()); err != nil {
		t.Fatal(err)
	}
	if newBench(t, dir, second).takes(train) {
		t.Error("a set-up is accepted again")
	}
}

// eventMachine counts how often its events are asked for.
type eventMachine struct {
	tunnel.Machine
	polled int
}

func (m *eventMachine) PollEvent() (session.Event, bool) { m.polled++; return session.Event{}, false }

// The application hears of what came with a set-up when that is on record, and
// is kept waiting for it no longer than some rounds.
func TestApplicationHearsAfterTheRecord(t *testing.T) {
	dir, key := t.TempDir(), onionKey(t, 1)
	b, f := newBench(t, dir, key), feeder{key: key}
	m := &eventMachine{}
	n := &Node{table: b.table, replay: b.log}
	round := n.after(tunnel.NewSide(m, nil))
	if round(0); m.polled != 1 {
		t.Error("nothing waits, and the application does not hear")
	}
	b.takes(f.build(t))
	if round(0); m.polled != 1 {
		t.Error("the application hears before the record")
	}
	if err := b.log.write(); err != nil {
		t.Fatal(err)
	}
	if round(0); m.polled != 2 {
		t.Error("the application does not hear after the record")
	}
	for i := range heldMax + 1 { // set-ups in every round, and no write between
		b.takes(f.build(t))
		round(0)
		if heard := m.polled == 3; heard != (i == heldMax) {
			t.Fatalf("round %d: heard %v", i, heard)
		}
	}
	if len(b.log.pending) != 0 {
		t.Error("the application hears before the record, after some rounds")
	}
}
