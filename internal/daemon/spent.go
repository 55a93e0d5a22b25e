package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/pass"
)

// spentLog is an entry's record of the unlinkable tokens that were spent at it, so that
// a restart takes none again: a file of tags for each of the issuer's keys, which goes
// with the key. A tag is a hash of the token, and nothing stands beside it. It is kept
// as the record of set-ups is (replayLog): an answer leaves the node after the token is
// on record, in the operating system; on the disk it is a second later. Without a
// directory the record ends with the process. A nil spentLog records nothing.
type spentLog struct {
	dir     string
	pending []control.Spent // the host's loop alone

	mu    sync.Mutex
	files map[[32]byte]*spentFile
}

type spentFile struct {
	*os.File
	size  int64 // of whole tags
	dirty bool  // not on the disk yet
}

const (
	spentTagSize = int64(len(pass.Tag{}))
	spentSuffix  = ".spent"
)

func newSpentLog(dir string) *spentLog { return &spentLog{dir: dir, files: map[[32]byte]*spentFile{}} }

func (l *spentLog) path(id [32]byte) string {
	return filepath.Join(l.dir, "passes-"+keyName(id)+spentSuffix)
}

// open opens the records of keys that are new here, and returns what is on them. After
// an error none of them is open, so that the next call returns it all.
func (l *spentLog) open(keys *pass.Keys) (spent []control.Spent, err error) {
	if l.dir == "" {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var opened [][32]byte
	for _, k := range keys.All() {
		id := k.Public.ID()
		if l.files[id] != nil {
			continue
		}
		f, tags, err := readSpent(l.path(id))
		if err != nil {
			for _, id := range opened {
				l.files[id].Close()
				delete(l.files, id)
			}
			return nil, fmt.Errorf("cannot open the record of spent tokens: %w", err)
		}
		l.files[id], opened = f, append(opened, id)
		for _, tag := range tags {
			spent = append(spent, control.Spent{Key: id, Tag: tag})
		}
	}
	return spent, nil
}

// readSpent opens a record. A partial last tag, as a crash leaves it, is written over.
func readSpent(path string) (*spentFile, []pass.Tag, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	var b []byte
	if err == nil {
		b = make([]byte, info.Size()-info.Size()%spentTagSize)
		if len(b) > 0 {
			_, err = f.ReadAt(b, 0)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	size := int64(len(b))
	var tags []pass.Tag
	for ; len(b) > 0; b = b[spentTagSize:] {
		tags = append(tags, pass.Tag(b[:spentTagSize]))
	}
	return &spentFile{File: f, size: size}, tags, nil
}

// take takes what was spent in a round out of the gateway.
func (l *spentLog) take(g *gateway.Gateway) {
	if l == nil {
		return
	}
	for s, ok := g.PollSpent(); ok; s, ok = g.PollSpent() {
		l.pending = append(l.pending, s)
	}
}

// write writes what was taken. What could not be written waits for the next call.
func (l *spentLog) write() error {
	if l == nil || len(l.pending) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) > 0 {
		s := l.pending[0]
		if f := l.files[s.Key]; f != nil { // else the key is gone, or there is no directory
			if _, err := f.WriteAt(s.Tag[:], f.size); err != nil {
				return fmt.Errorf("cannot record spent tokens, so that a restart may take them again: %w", err)
			}
			f.size += spentTagSize
			f.dirty = true
		}
		l.pending = l.pending[1:]
	}
	l.pending = nil
	return nil
}

// sync has what was written on the disk.
func (l *spentLog) sync() (failed error) {
	if l == nil {
		return nil
	}
	var files []*os.File
	l.mu.Lock()
	for _, f := range l.files {
		if f.dirty {
			files, f.dirty = append(files, f.File), false
		}
	}
	l.mu.Unlock()
	for _, f := range files {
		if err := f.Sync(); !errors.Is(err, os.ErrClosed) { // else the key is gone
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// prune removes the records of keys that are not in a list.
func (l *spentLog) prune(keys *pass.Keys) {
	l.mu.Lock()
	defer l.mu.Unlock()
	keep := map[string]bool{}
	for _, k := range keys.All() {
		keep[l.path(k.Public.ID())] = true
	}
	for id, f := range l.files {
		if !keep[l.path(id)] {
			f.Close()
			delete(l.files, id)
		}
	}
	if l.dir == "" {
		return
	}
	paths, _ := filepath.Glob(filepath.Join(l.dir, "passes-*"+spentSuffix))
	for _, path := range paths {
		if !keep[path] {
			os.Remove(path) // what stays is removed the next time
		}
	}
}

func (l *spentLog) close() error {
	if l == nil {
		return nil
	}
	err := errors.Join(l.write(), l.sync())
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// spentFirst is a carrier whose batch is sent after the tokens that were spent in its
// round are on record.
type spentFirst struct {
	drive.Carrier
	log    *spentLog
	failed func(error)
}

func (c spentFirst) Flush() error {
	if err := c.log.write(); err != nil {
		c.failed(err)
	}
	return c.Carrier.Flush()
}
