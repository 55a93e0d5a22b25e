// Package spool keeps batches that nobody takes now, on disk and encrypted, until somebody
// does: telemetry that is pushed, and what the command line tells of its use.
//
// A spool is a directory that its owner alone reads, with a file for each batch:
//
//	STAMP-NUMBER-RANDOM.batch   [salt 16][sealed batch][tag 16]
//
// STAMP is the time of Put in milliseconds and NUMBER counts, both in hexadecimal, so that
// names in order are batches in order. A box is bound to its name: one that was moved, cut or
// changed is not opened, is removed and counted. A batch is written beside its name and
// renamed, so that a process that is killed leaves it whole or leaves a part, which the next
// one removes and counts. A batch is taken by the removal of its file. Several processes may
// put into one spool.
//
// It has a bound in time and one in room; what exceeds them goes, the oldest first, and is
// counted.
package spool

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

const (
	// BatchMost bounds a batch in bytes: a page of metrics of a hundred parts, compressed,
	// has a tenth of it.
	BatchMost = 4 << 20
	// block is what a file takes on disk at least, so that the bound in room bounds their
	// number too.
	block = 4 << 10
	// partLife is for how long the part of a batch may be somebody's who still writes it.
	partLife = time.Minute

	suffix = ".batch"
	part   = ".part"
)

// Limits of a spool.
type Limits struct {
	// Age is after what time a batch is given up.
	Age time.Duration
	// Bytes is what all batches may take on disk, in blocks of 4 KiB.
	Bytes int64
}

// Entry is a batch in a spool.
type Entry struct {
	At     time.Time // of Put, in milliseconds
	number uint64
	random uint32
	size   int64 // on disk
}

func (e *Entry) name() string {
	return fmt.Sprintf("%016x-%08x-%08x", uint64(e.At.UnixMilli()), e.number, e.random)
}

// Figures are what a spool tells of itself.
type Figures struct {
	Batches int
	Bytes   int64
	// Lost since Open: Old reached their age, Crowded were given up for room, Torn were cut
	// or changed, Unwritten the disk did not take.
	Old, Crowded, Torn, Unwritten uint64
}

// Spool is a directory of batches. Its methods are safe for concurrent use.
type Spool struct {
	dir    string
	key    *seal.Key
	limits Limits

	mu      sync.Mutex
	entries []Entry // the oldest first
	next    uint64
	figures Figures
}

// Open opens the spool in a directory, and makes it if there is none. The key is the
// caller's, to be left as it is for as long as the spool is used.
func Open(dir string, key *seal.Key, limits Limits, now time.Time) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the spool: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the spool: %w", err)
	}
	s := &Spool{dir: dir, key: key, limits: limits}
	for _, f := range files {
		if err := s.find(f, now); err != nil {
			return nil, fmt.Errorf("cannot read the spool: %w", err)
		}
	}
	slices.SortFunc(s.entries, order)
	return s, s.expire(now, 0)
}

// find takes a file of the directory for what it is.
func (s *Spool) find(f fs.DirEntry, now time.Time) error {
	name, whole := strings.CutSuffix(f.Name(), suffix)
	name, cut := strings.CutSuffix(name, part)
	e, ok := parse(name)
	switch {
	case !ok || whole == cut:
		return nil // nothing of a spool's
	case cut && now.Sub(e.At) > partLife:
		s.figures.Torn++
		return gone(os.Remove(filepath.Join(s.dir, f.Name())))
	case cut:
		return nil
	}
	info, err := f.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another process has taken it
	}
	if err != nil {
		return err
	}
	e.size = onDisk(info.Size())
	s.entries, s.figures.Bytes, s.next = append(s.entries, e), s.figures.Bytes+e.size, max(s.next, e.number+1)
	return nil
}

func parse(name string) (e Entry, ok bool) {
	fields := strings.Split(name, "-")
	if len(fields) != 3 {
		return e, false
	}
	stamp, err1 := strconv.ParseUint(fields[0], 16, 63)
	number, err2 := strconv.ParseUint(fields[1], 16, 63)
	random, err3 := strconv.ParseUint(fields[2], 16, 32)
	e = Entry{At: time.UnixMilli(int64(stamp)), number: number, random: uint32(random)}
	return e, err1 == nil && err2 == nil && err3 == nil && e.name() == name
}

func order(a, b Entry) int {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.number, b.number), cmp.Compare(a.random, b.random))
}

func onDisk(size int64) int64 { return (size + block - 1) / block * block }

// gone is the error of a removal, unless another process was first.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Put keeps a batch, which outlives the process once Put has returned. For its room older
// ones go.
func (s *Spool) Put(now time.Time, batch []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := onDisk(int64(len(batch)) + seal.BoxOverhead)
	if len(batch) > BatchMost || size > s.limits.Bytes {
		s.figures.Crowded++
		return fmt.Errorf("spool: a batch of %d bytes has no room; give the spool more", len(batch))
	}
	err := s.expire(now, size)
	var salt [seal.BoxSaltSize]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return fmt.Errorf("no randomness: %w", err)
	}
	e := Entry{At: time.UnixMilli(now.UnixMilli()), number: s.next, size: size}
	e.random = uint32(salt[0])<<24 | uint32(salt[1])<<16 | uint32(salt[2])<<8 | uint32(salt[3])
	if err := s.write(e.name(), seal.SealBox(s.key, &salt, nil, batch, bound(e.name()))); err != nil {
		s.figures.Unwritten++
		return fmt.Errorf("cannot keep a batch in the spool: %w", err)
	}
	at, _ := slices.BinarySearchFunc(s.entries, e, order)
	s.entries, s.figures.Bytes, s.next = slices.Insert(s.entries, at, e), s.figures.Bytes+size, s.next+1
	return err
}

// bound is what a box is bound to.
func bound(name string) []byte { return []byte("nyx spool " + name) }

func (s *Spool) write(name string, box []byte) error {
	path := filepath.Join(s.dir, name)
	f, err := os.OpenFile(path+part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(box)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+part, path+suffix)
	}
	if err != nil {
		return errors.Join(err, gone(os.Remove(path+part)))
	}
	return nil
}

// expire gives up what is too old, and what lacks room for a file of so many bytes.
func (s *Spool) expire(now time.Time, size int64) error {
	for len(s.entries) > 0 {
		switch e := s.entries[0]; {
		case now.Sub(e.At) > s.limits.Age:
			s.figures.Old++
		case s.figures.Bytes+size > s.limits.Bytes:
			s.figures.Crowded++
		default:
			return nil
		}
		if err := s.drop(0); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a batch.
func (s *Spool) drop(i int) error {
	e := s.entries[i]
	s.entries, s.figures.Bytes = slices.Delete(s.entries, i, i+1), s.figures.Bytes-e.size
	if err := gone(os.Remove(filepath.Join(s.dir, e.name()+suffix))); err != nil {
		return fmt.Errorf("cannot remove a batch of the spool: %w", err)
	}
	return nil
}

// Oldest is the batch that is next to be taken.
func (s *Spool) Oldest(now time.Time) (e Entry, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err = s.expire(now, 0); err != nil || len(s.entries) == 0 {
		return Entry{}, false, err
	}
	return s.entries[0], true, nil
}

// List is what the spool holds, the oldest first.
func (s *Spool) List(now time.Time) ([]Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.expire(now, 0)
	return slices.Clone(s.entries), err
}

// Read opens a batch. One that another process has taken is not there any more, one that was
// cut or changed is removed: ok is false.
func (s *Spool) Read(e Entry) (batch []byte, ok bool, err error) {
	name := e.name()
	box, err := os.ReadFile(filepath.Join(s.dir, name+suffix))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("cannot read a batch of the spool: %w", err)
	}
	if err == nil {
		if batch, ok = seal.OpenBox(s.key, nil, box, bound(name)); ok {
			return batch, true, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.figures.Torn++
	}
	return nil, false, s.forget(e)
}

// Taken removes a batch that somebody has taken.
func (s *Spool) Taken(e Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forget(e)
}

func (s *Spool) forget(e Entry) error {
	if i, found := slices.BinarySearchFunc(s.entries, e, order); found {
		return s.drop(i)
	}
	return nil
}

// Figures returns what the spool tells of itself.
func (s *Spool) Figures() Figures {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.figures
	f.Batches = len(s.entries)
	return f
}
