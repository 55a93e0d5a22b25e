package daemon

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/seal"
)

// OnionKeys makes or loads the onion key of the period that begins at an
// epoch. A node asks for the present one when it starts, and for the next one
// an epoch ahead of its time, to publish it.
type OnionKeys func(epoch uint64) (*seal.KEMPrivate, error)

// onionLook is how often a node looks whether a period has ended.
const onionLook = 10 * time.Second

// onions are the onion keys of a node: the present period's and, when it is
// near, the next one's.
type onions struct {
	mu      sync.Mutex
	keys    OnionKeys
	params  directory.Params
	present uint64
	known   []directory.OnionKey // as published, by epoch
	private map[uint64]*seal.KEMPrivate
}

func newOnions(keys OnionKeys, params directory.Params, wall int64) (*onions, *seal.KEMPrivate, error) {
	o := &onions{keys: keys, params: params, private: map[uint64]*seal.KEMPrivate{}}
	o.present = params.OnionFrom(params.EpochAt(wall))
	key, err := o.add(o.present)
	return o, key, err
}

func (o *onions) add(epoch uint64) (*seal.KEMPrivate, error) {
	key, err := o.keys(epoch)
	if err != nil {
		return nil, fmt.Errorf("onion key of epoch %d: %w", epoch, err)
	}
	o.private[epoch] = key
	o.known = append(o.known, directory.OnionKey{Epoch: epoch, Key: key.Public().Bytes()})
	if len(o.known) > 2 {
		o.known = o.known[len(o.known)-2:]
	}
	return key, nil
}

// published returns what the descriptor says.
func (o *onions) published() []directory.OnionKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]directory.OnionKey(nil), o.known...)
}

// turn advances to a wall time. rotated is the key of a period that has begun;
// changed says that the descriptor must be published again.
func (o *onions) turn(wall int64) (rotated *seal.KEMPrivate, changed bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	epoch := o.params.EpochAt(wall)
	for _, at := range []uint64{o.params.OnionFrom(epoch), o.params.OnionFrom(epoch + 1)} {
		if o.private[at] == nil {
			if _, err := o.add(at); err != nil {
				return nil, false, err
			}
			changed = true
		}
	}
	if now := o.params.OnionFrom(epoch); now != o.present {
		delete(o.private, o.present)
		o.present, rotated = now, o.private[now]
	}
	return rotated, changed, nil
}

// rotate follows the periods until ctx ends. The previous key is accepted for
// one epoch more, in which clients still have the old document.
func (n *Node) rotate(ctx context.Context) {
	look := time.NewTicker(onionLook)
	defer look.Stop()
	var dropAt int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		wall := time.Now().Unix()
		rotated, republish, err := n.onions.turn(wall)
		if err != nil {
			n.setErr(err)
			continue
		}
		if rotated != nil {
			n.host.Do(func(now machine.Time) { n.table.RotateOnion(now, rotated) })
			dropAt = wall + int64(n.onions.params.EpochLength/time.Second)
		}
		if dropAt != 0 && wall >= dropAt {
			n.host.Do(func(machine.Time) { n.table.DropPrevious() })
			dropAt = 0
		}
		if republish {
			select {
			case n.changed <- struct{}{}:
			default:
			}
		}
	}
}

// replayFile is a node's record of set-ups that it has accepted, so that a
// restart does not accept them again. It is an append-only list of tags; a
// crash leaves at most a partial last one, which is ignored.
type replayFile struct {
	file *os.File
	out  *bufio.Writer
	err  error
}

const replayRecordSize = 4 + len(mix.ReplayTag{}.Tag)

// openReplay loads the record into a table and returns it for appending. Tags
// of keys that are gone are ignored by the table.
func openReplay(dir string, t *mix.Table) (*replayFile, error) {
	path := filepath.Join(dir, "setups.seen")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the record of set-ups: %w", err)
	}
	whole := len(b) - len(b)%replayRecordSize
	for rest := b[:whole]; len(rest) > 0; rest = rest[replayRecordSize:] {
		tag := mix.ReplayTag{Onion: binary.BigEndian.Uint32(rest)}
		copy(tag.Tag[:], rest[4:])
		t.LoadReplay(tag)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Truncate(int64(whole))
	}
	if err == nil {
		_, err = f.Seek(int64(whole), io.SeekStart)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write the record of set-ups: %w", err)
	}
	return &replayFile{file: f, out: bufio.NewWriter(f)}, nil
}

func (r *replayFile) append(tag mix.ReplayTag) {
	var b [replayRecordSize]byte
	binary.BigEndian.PutUint32(b[:], tag.Onion)
	copy(b[4:], tag.Tag[:])
	if _, err := r.out.Write(b[:]); err != nil && r.err == nil {
		r.err = err
	}
}

func (r *replayFile) flush() error {
	if err := r.out.Flush(); err != nil && r.err == nil {
		r.err = err
	}
	return r.err
}

// drain takes new tags out of a table into the record. Without a record they
// are forgotten with the process, and so must be the onion keys.
func (r *replayFile) drain(t *mix.Table) error {
	some := false
	for {
		tag, ok := t.PollReplay()
		if !ok {
			break
		}
		if r != nil {
			r.append(tag)
			some = true
		}
	}
	if some {
		return r.flush()
	}
	return nil
}

func (r *replayFile) close() {
	if r != nil {
		r.flush()
		r.file.Close()
	}
}
