package daemon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
)

// replayLog is a node's record of the set-ups that it has accepted, so that a
// restart does not accept them again: a file of tags for each onion key, which
// is removed with the key. A crash leaves at most a partial last tag, which is
// ignored and overwritten.
//
// What a set-up brings about leaves the node after it is on record: its
// datagrams because the carrier's batch is sent after the write (recorded), its
// first flight because the application hears of it a round later (Node.after).
// The write is made by the host's loop between two rounds, without its lock. It
// ends in the operating system, so that the record outlives the process; on the
// disk it is a second later (Node.rotate), since to wait for that, 0.5 ms to many,
// would hold up every cell of the node. Of a machine that loses power the last
// second may be missing.
//
// A nil replayLog records nothing.
type replayLog struct {
	dir     string
	pending []mix.ReplayTag // the host's loop alone, like stuck
	stuck   bool            // the last write failed

	mu    sync.Mutex // held for the file operations, never with the host's lock on the way
	files map[uint32]*tagFile
	// failed is why the last write did not succeed, unkept why what was written is
	// not on the disk, unread why the tags of a record are not in the table.
	failed, unkept, unread error

	fsync func(*os.File) error // for tests, in place of its Sync
}

// tagFile is the record of one onion key.
type tagFile struct {
	*os.File // nil: it could not be opened yet
	path     string
	size     int64 // of whole tags
	kept     int64 // of these, on the disk
	named    bool  // the file's name is on the disk
	out      []byte
}

// ready opens the file, and makes it if there is none.
func (f *tagFile) ready() (err error) {
	if f.File != nil {
		return nil
	}
	if f.File, err = os.OpenFile(f.path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.close())
	}
	f.size = info.Size() - info.Size()%int64(replayTagSize)
	return nil
}

func (f *tagFile) close() (err error) {
	if f.File != nil {
		err, f.File = f.File.Close(), nil
	}
	return err
}

const (
	replayTagSize = len(mix.ReplayTag{}.Tag)
	// formerRecord held the tags of all keys, with the key's name before each.
	formerRecord = "setups.seen"
	recordGlob   = "setups-*.seen"
)

func recordName(onion uint32) string { return fmt.Sprintf("setups-%08x.seen", onion) }

// openReplay opens the records of the keys under which set-ups are accepted,
// fills a table with them, and removes those of keys that are not held any more.
func openReplay(dir string, accepted, held []*seal.KEMPrivate, t *mix.Table) (*replayLog, error) {
	r := &replayLog{dir: dir, files: map[uint32]*tagFile{}, fsync: (*os.File).Sync}
	for _, key := range accepted {
		tags, err := r.open(key)
		if err != nil {
			r.close()
			return nil, err
		}
		for _, tag := range tags {
			t.LoadReplay(tag)
		}
	}
	if err := errors.Join(r.adoptFormer(t), r.prune(accepted, held)); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// open opens the record of a key, and returns what is on it: nothing, but for a
// key that was in use before the clock was set back. If that fails, nothing is
// written until it can be opened.
func (r *replayLog) open(key *seal.KEMPrivate) (tags []mix.ReplayTag, err error) {
	if r == nil {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	name := mix.OnionName(key)
	if r.files[name] != nil {
		return nil, nil
	}
	f := &tagFile{path: filepath.Join(r.dir, recordName(name))}
	r.files[name] = f
	if err := f.ready(); err != nil {
		return nil, fmt.Errorf("cannot open the record of set-ups: %w", err)
	}
	b := make([]byte, f.size)
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		r.unread = fmt.Errorf("cannot read the record of set-ups: %w", err)
		return nil, r.unread
	}
	for tag := (mix.ReplayTag{Onion: name}); len(b) > 0; b = b[replayTagSize:] {
		copy(tag.Tag[:], b)
		tags = append(tags, tag)
	}
	return tags, nil
}

// adoptFormer takes over a record in the form of earlier versions.
func (r *replayLog) adoptFormer(t *mix.Table) error {
	path := filepath.Join(r.dir, formerRecord)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the record of set-ups: %w", err)
	}
	for size := 4 + replayTagSize; len(b) >= size; b = b[size:] {
		tag := mix.ReplayTag{Onion: binary.BigEndian.Uint32(b)}
		copy(tag.Tag[:], b[4:])
		t.LoadReplay(tag)
		r.pending = append(r.pending, tag)
	}
	if err := errors.Join(r.write(), r.sync()); err != nil {
		return err
	}
	return os.Remove(path)
}

// prune removes the records of all keys but these: those that are accepted, and
// those that are held for later, or again because the clock was set back.
func (r *replayLog) prune(accepted, held []*seal.KEMPrivate) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keep := map[string]bool{}
	for _, key := range slices.Concat(accepted, held) {
		keep[recordName(mix.OnionName(key))] = true
	}
	for name, f := range r.files {
		if !keep[recordName(name)] {
			f.close()
			delete(r.files, name)
		}
	}
	paths, err := filepath.Glob(filepath.Join(r.dir, recordGlob))
	for _, path := range paths {
		if !keep[filepath.Base(path)] {
			err = errors.Join(err, os.Remove(path))
		}
	}
	if err != nil {
		return fmt.Errorf("cannot remove a record of set-ups: %w", err)
	}
	return nil
}

// take takes new tags out of a table, and reports whether any wait to be
// written. Without a record they are forgotten with the process, and so must be
// the onion keys. While writing fails they stay in the table, which refuses
// set-ups when it is full of them.
func (r *replayLog) take(t *mix.Table) bool {
	for r == nil || !r.stuck {
		tag, ok := t.PollReplay()
		if !ok {
			return r != nil && len(r.pending) > 0
		}
		if r != nil {
			r.pending = append(r.pending, tag)
		}
	}
	return false
}

// write writes what was taken. What could not be written waits for the next
// call.
func (r *replayLog) write() error {
	if r == nil || len(r.pending) == 0 && !r.stuck {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, tag := range r.pending {
		if f := r.files[tag.Onion]; f != nil { // else the key is gone
			f.out = append(f.out, tag.Tag[:]...)
		}
	}
	r.pending = r.pending[:0]
	var failed error
	for _, f := range r.files {
		if len(f.out) == 0 {
			continue
		}
		err := f.ready()
		if err == nil {
			_, err = f.WriteAt(f.out, f.size)
		}
		if err != nil {
			failed = fmt.Errorf("cannot record set-ups, so that a restart may accept them again: %w", err)
			continue
		}
		f.size += int64(len(f.out))
		f.out = f.out[:0]
	}
	r.stuck, r.failed = failed != nil, failed
	return failed
}

// sync has what was written on the disk. The host's loop writes meanwhile.
func (r *replayLog) sync() error {
	if r == nil {
		return nil
	}
	type part struct {
		*tagFile
		file *os.File
		size int64
	}
	var parts []part
	named := true
	r.mu.Lock()
	for _, f := range r.files {
		if f.File != nil && (f.kept < f.size || !f.named) {
			parts, named = append(parts, part{f, f.File, f.size}), named && f.named
		}
	}
	r.mu.Unlock()
	var failed error
	for _, p := range parts {
		if err := r.fsync(p.file); !errors.Is(err, os.ErrClosed) { // else the key is gone
			failed = errors.Join(failed, err)
		}
	}
	if !named {
		failed = errors.Join(failed, setup.SyncDirectory(r.dir))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unkept = nil; failed != nil {
		r.unkept = fmt.Errorf("cannot keep the record of set-ups on the disk: %w", failed)
		return r.unkept
	}
	for _, p := range parts {
		p.kept, p.named = p.size, true
	}
	return nil
}

// check is why set-ups are not on record, or may not be, now; nil if they are.
func (r *replayLog) check() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := errors.Join(r.failed, r.unkept, r.unread)
	for _, f := range r.files {
		if opened := f.ready(); opened != nil && r.failed == nil {
			err = errors.Join(err, fmt.Errorf("cannot open the record of set-ups: %w", opened))
		}
	}
	return err
}

func (r *replayLog) close() error {
	if r == nil {
		return nil
	}
	err := errors.Join(r.write(), r.sync())
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		err = errors.Join(err, f.close())
	}
	return err
}

// recorded is a carrier whose batch is sent after the set-ups of its round are
// on record.
type recorded struct {
	drive.Carrier
	log    *replayLog
	failed func(error)
}

func (c recorded) Flush() error {
	if err := c.log.write(); err != nil {
		c.failed(err)
	}
	return c.Carrier.Flush()
}
