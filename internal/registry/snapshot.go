package registry

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/nyxnet/nyx/internal/directory"
)

// A snapshot is everything that an authority keeps, as of one revision of its
// store:
//
//	magic 16 | entries | SHA-256 of all before it 32
//	entry: length of the key 2 (not 0) | key | length of the value 4 | value
//	end of the entries: 0 0
//
// The hash says that the snapshot is whole; who keeps it where others write notes
// the hash elsewhere. Revisions are not in it: a store makes its own.
const snapshotMagic = "nyx registry 1\r\n\n"

const (
	// restoreAtOnce is how many Fills are under way at a time, of at most fillMost
	// entries and about fillBytes: less than etcd takes in one request.
	restoreAtOnce = 8
	fillMost      = 64
	fillBytes     = 512 << 10
	// valueMax bounds a value that is read.
	valueMax = 64 << 20
)

// ErrSnapshot is a snapshot that is damaged, cut off, or none.
var ErrSnapshot = errors.New("registry: the snapshot is damaged or cut off")

// ErrNotEmpty is a Restore into a store that holds something.
var ErrNotEmpty = errors.New("registry: the store is not empty")

// Snapshot writes a store's entries, and returns how many there are and the hash.
func Snapshot(ctx context.Context, s Store, to io.Writer) (entries int, sum [sha256.Size]byte, err error) {
	h := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(to, h), 64<<10)
	w.WriteString(snapshotMagic)
	_, err = s.List(ctx, "", func(e Entry) error {
		entries++
		var n [4]byte
		binary.BigEndian.PutUint16(n[:], uint16(len(e.Key)))
		w.Write(n[:2])
		w.WriteString(e.Key)
		binary.BigEndian.PutUint32(n[:], uint32(len(e.Value)))
		w.Write(n[:])
		_, err := w.Write(e.Value)
		return err
	})
	if err == nil {
		w.Write([]byte{0, 0})
		err = w.Flush()
	}
	if err == nil {
		h.Sum(sum[:0])
		_, err = to.Write(sum[:])
	}
	return entries, sum, err
}

// Verify reads a snapshot to its end and checks that it is whole. Only one that
// was verified is to be restored.
func Verify(from io.Reader) (entries int, sum [sha256.Size]byte, err error) {
	return readSnapshot(from, func(Entry) error { return nil })
}

// Restore puts a snapshot, which the caller has verified, into an empty store,
// many entries at a time. Documents may have been signed since the snapshot: signed
// is the highest number that they can have, and nothing up to it is signed again.
func Restore(ctx context.Context, s Store, from io.Reader, signed directory.Mark) (entries int, err error) {
	empty := true
	if _, err := s.List(ctx, "", func(Entry) error { empty = false; return ErrNotEmpty }); err != nil && empty {
		return 0, err
	}
	if !empty {
		return 0, ErrNotEmpty
	}
	// First, so that a restoration that was broken off signs nothing either.
	if _, err := New(s).Sign(ctx, signed); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan []Entry)
	var writing sync.WaitGroup
	for range restoreAtOnce {
		writing.Go(func() {
			for some := range todo {
				if err := s.Fill(ctx, some); err != nil {
					cancel(fmt.Errorf("%s and what follows: %w", some[0].Key, err))
				}
			}
		})
	}
	var some []Entry
	size := 0
	give := func() error {
		if len(some) > 0 {
			select {
			case todo <- some:
			case <-ctx.Done():
			}
		}
		some, size = nil, 0
		return context.Cause(ctx)
	}
	entries, _, err = readSnapshot(from, func(e Entry) error {
		if e.Key == signedKey {
			return nil
		}
		if some, size = append(some, e), size+len(e.Key)+len(e.Value); len(some) < fillMost && size < fillBytes {
			return nil
		}
		return give()
	})
	if err == nil {
		err = give()
	}
	close(todo)
	writing.Wait()
	return entries, errors.Join(err, context.Cause(ctx))
}

func readSnapshot(from io.Reader, each func(Entry) error) (entries int, sum [sha256.Size]byte, err error) {
	h := sha256.New()
	r := bufio.NewReaderSize(from, 64<<10)
	in := io.TeeReader(r, h)
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != snapshotMagic {
		return 0, sum, fmt.Errorf("%w: it does not begin as one", ErrSnapshot)
	}
	for {
		e, err := readEntry(in)
		if err != nil {
			return entries, sum, fmt.Errorf("%w: entry %d: %w", ErrSnapshot, entries, err)
		}
		if e.Key == "" {
			break
		}
		if err := each(e); err != nil {
			return entries, sum, err
		}
		entries++
	}
	h.Sum(sum[:0])
	var said [sha256.Size]byte
	if _, err := io.ReadFull(r, said[:]); err != nil || !bytes.Equal(said[:], sum[:]) {
		return entries, sum, fmt.Errorf("%w: the hash is another", ErrSnapshot)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return entries, sum, fmt.Errorf("%w: more follows", ErrSnapshot)
	}
	return entries, sum, nil
}

// readEntry reads an entry; one without a key is the end.
func readEntry(r io.Reader) (e Entry, err error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:2]); err != nil {
		return e, err
	}
	key := make([]byte, binary.BigEndian.Uint16(n[:]))
	if len(key) == 0 {
		return e, nil
	}
	if _, err := io.ReadFull(r, key); err != nil {
		return e, err
	}
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return e, err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > valueMax {
		return e, fmt.Errorf("a value of %d bytes", size)
	}
	e = Entry{Key: string(key), Value: make([]byte, size)}
	_, err = io.ReadFull(r, e.Value)
	return e, err
}
