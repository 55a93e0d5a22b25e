package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/telemetry"
)

// OnionKeys are where a node's onion keys come from. A key belongs to the
// period that begins at an epoch.
type OnionKeys interface {
	// Make returns the key of a period, the same each time. A node asks for the
	// present one when it starts, and for the next one an epoch ahead of its
	// time, to publish it.
	Make(epoch uint64) (*seal.KEMPrivate, error)
	// Load returns the key of a period if there is one, else nil.
	Load(epoch uint64) (*seal.KEMPrivate, error)
	// Held returns the keys of all periods that Load would return.
	Held() ([]*seal.KEMPrivate, error)
	// Retire destroys the keys of the periods before one.
	Retire(before uint64) error
}

// freshOnions makes onion keys of fresh entropy each, which end with the
// process: nobody who seizes the machine later can open an old set-up.
type freshOnions struct{}

func (freshOnions) Make(uint64) (*seal.KEMPrivate, error) { return newKEM(systemEntropy(), "onion") }
func (freshOnions) Load(uint64) (*seal.KEMPrivate, error) { return nil, nil }
func (freshOnions) Held() ([]*seal.KEMPrivate, error)     { return nil, nil }
func (freshOnions) Retire(uint64) error                   { return nil }

// storedOnions keeps onion keys in a key directory.
type storedOnions string

func (dir storedOnions) Make(epoch uint64) (*seal.KEMPrivate, error) {
	if err := setup.RotateOnion(string(dir), epoch, 0, nil); err != nil {
		return nil, err
	}
	key, err := dir.Load(epoch)
	if key == nil && err == nil {
		err = fmt.Errorf("it is not in %s", string(dir))
	}
	return key, err
}

func (dir storedOnions) Load(epoch uint64) (*seal.KEMPrivate, error) {
	keys, err := setup.LoadNodeKeys(string(dir))
	if err != nil {
		return nil, err
	}
	for _, k := range keys.Onion {
		if k.Epoch == epoch {
			return k.Key, nil
		}
	}
	return nil, nil
}

func (dir storedOnions) Held() (held []*seal.KEMPrivate, err error) {
	keys, err := setup.LoadNodeKeys(string(dir))
	if err != nil {
		return nil, err
	}
	for _, k := range keys.Onion {
		held = append(held, k.Key)
	}
	return held, nil
}

func (dir storedOnions) Retire(before uint64) error {
	return setup.RotateOnion(string(dir), before, before, nil)
}

// recordSync is how often the record of set-ups is brought from the operating
// system to the disk, if there is something new: what a loss of power can take.
const recordSync = time.Second

// onions are the onion keys of a node: the present period's, the previous one's
// for an epoch more, in which clients still have the old document, and the next
// one's from an epoch before, for clients whose clock is ahead.
type onions struct {
	mu       sync.Mutex
	keys     OnionKeys
	params   directory.Params
	present  uint64 // epoch at which the present period began
	private  map[uint64]*seal.KEMPrivate
	previous *seal.KEMPrivate     // nil: none, or retired
	next     *seal.KEMPrivate     // nil: its time is not near
	known    []directory.OnionKey // as published, by epoch
	kept     uint64               // the periods before this one are destroyed
}

func newOnions(keys OnionKeys, params directory.Params, wall int64) (*onions, error) {
	o := &onions{keys: keys, params: params, private: map[uint64]*seal.KEMPrivate{}}
	o.present = params.OnionFrom(params.EpochAt(wall))
	if err := o.add(o.present); err != nil {
		return nil, err
	}
	if wall < o.overlapEnd() && o.present > 0 {
		var err error
		if o.previous, err = keys.Load(params.OnionFrom(o.present - 1)); err != nil {
			return nil, fmt.Errorf("previous onion key: %w", err)
		}
		return o, nil
	}
	return o, o.retire(o.present)
}

// retire destroys the keys of the periods before one, again until it is done.
func (o *onions) retire(before uint64) error {
	if before <= o.kept {
		return nil
	}
	if err := o.keys.Retire(before); err != nil {
		return fmt.Errorf("onion keys before epoch %d: %w", before, err)
	}
	o.kept = before
	return nil
}

// overlapEnd is the second from which set-ups under the previous key are
// refused.
func (o *onions) overlapEnd() int64 { return o.params.Begin(o.present + 1) }

// add makes the key of a period one of ours.
func (o *onions) add(epoch uint64) error {
	key, err := o.keys.Make(epoch)
	if err != nil {
		return fmt.Errorf("onion key of epoch %d: %w", epoch, err)
	}
	o.private[epoch] = key
	o.known = append(o.known, directory.OnionKey{Epoch: epoch, Key: key.Public().Bytes()})
	if len(o.known) > 2 {
		o.known = o.known[len(o.known)-2:]
	}
	return nil
}

// began is the epoch at which the present period began.
func (o *onions) began() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.present
}

// accepted returns the keys under which set-ups are accepted, the present first.
func (o *onions) accepted() []*seal.KEMPrivate {
	o.mu.Lock()
	defer o.mu.Unlock()
	keys := []*seal.KEMPrivate{o.private[o.present]}
	for _, key := range []*seal.KEMPrivate{o.previous, o.next} {
		if key != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// published returns what the descriptor says.
func (o *onions) published() []directory.OnionKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]directory.OnionKey(nil), o.known...)
}

// turned is what has changed at a wall time.
type turned struct {
	rotated   *seal.KEMPrivate // the key of a period that has begun, or nil
	next      *seal.KEMPrivate // the key of the next one, if it is accepted from now on
	dropped   bool             // the previous key is accepted no more
	published bool             // the descriptor must be published again
}

// turn advances to a wall time. What had been done before an error is done;
// call it again.
func (o *onions) turn(wall int64) (t turned, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	epoch := o.params.EpochAt(wall)
	if o.params.OnionFrom(epoch) < o.present {
		return t, nil // the clock was set back: what is past stays past
	}
	for _, at := range []uint64{o.params.OnionFrom(epoch), o.params.OnionFrom(epoch + 1)} {
		if o.private[at] == nil {
			if err := o.add(at); err != nil {
				return t, err
			}
			t.published = true
		}
	}
	if now := o.params.OnionFrom(epoch); now != o.present {
		o.previous, t.rotated = o.private[o.present], o.private[now]
		delete(o.private, o.present)
		o.present, o.next = now, nil
	}
	if next := o.private[o.params.OnionFrom(epoch+1)]; o.next == nil && next != o.private[o.present] {
		o.next, t.next = next, next
	}
	if wall < o.overlapEnd() && o.present > 0 {
		return t, o.retire(o.params.OnionFrom(o.present - 1))
	}
	t.dropped, o.previous = o.previous != nil, nil
	return t, o.retire(o.present)
}

// rotate has the node's keys follow the periods and the key directory until ctx
// ends, and the record of set-ups on the disk.
func (n *Node) rotate(ctx context.Context) {
	look, sync := time.NewTicker(keyLook), time.NewTicker(recordSync)
	defer look.Stop()
	defer sync.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			now := time.Now()
			n.note(rotating, errors.Join(n.turnOnions(n.putRight(now.Unix())), n.reloadFleet(now)))
		case <-sync.C:
			if err := n.replay.sync(); err != nil {
				n.note(recording, err)
			}
			if err := n.spent.sync(); err != nil {
				n.note(spending, err)
			}
		}
	}
}

// putRight is a wall time of this computer's clock, or that of the directory's
// signatures if the clock is later than them: periods begin for all nodes at once.
func (n *Node) putRight(wall int64) int64 { return max(wall, n.signedAt.Load()) }

// turnOnions brings table, record and descriptor to a wall time. The record of a
// key is there before the first set-up under it, and goes after the last. What
// fails is tried again by the next call, and so is what failed of the record.
func (n *Node) turnOnions(wall int64) error {
	n.turning.Lock()
	defer n.turning.Unlock()
	t, err := n.onions.turn(wall)
	if t.rotated != nil {
		tags, _ := n.replay.open(t.rotated) // its error is what check says
		n.host.Do(func(now machine.Time) {
			n.table.RotateOnion(now, t.rotated)
			for _, tag := range tags {
				n.table.LoadReplay(tag)
			}
		})
		n.reloads.observe(time.Duration(wall-n.cfg.Params.Begin(n.onions.began())) * time.Second)
		n.log.Info("onion key rotated", telemetry.Important())
		n.teller.tell(audit.Event{Kind: audit.KeyEvent, Action: "rotate", Subject: "onion"})
	}
	if t.next != nil {
		tags, _ := n.replay.open(t.next)
		n.host.Do(func(machine.Time) {
			n.table.AcceptNext(t.next)
			for _, tag := range tags {
				n.table.LoadReplay(tag)
			}
		})
	}
	if t.dropped {
		n.host.Do(func(machine.Time) { n.table.DropPrevious() })
		n.log.Info("previous onion key retired", telemetry.Important())
		n.teller.tell(audit.Event{Kind: audit.KeyEvent, Action: "retire", Subject: "onion"})
	}
	n.unpruned = n.unpruned || t.rotated != nil || t.dropped
	n.note(recording, errors.Join(n.prune(), n.replay.check()))
	if t.published {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
	return err
}

// prune removes the records of keys that are gone since it was last done. turning
// is held.
func (n *Node) prune() error {
	if !n.unpruned {
		return nil
	}
	held, err := n.cfg.Onions.Held()
	if err == nil {
		err = n.replay.prune(n.onions.accepted(), held)
	}
	n.unpruned = err != nil
	return err
}
