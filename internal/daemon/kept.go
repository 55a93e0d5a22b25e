package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/setup"
)

// What an authority must not forget is in its registry: a descriptor before the
// node is told that it is taken, a mark before the signature leaves, a document
// when it is served.

const (
	// openMax bounds the reading of everything that is kept at the start, keepMax
	// the keeping of one thing.
	openMax = 5 * time.Minute
	keepMax = 20 * time.Second
)

// open takes up what was kept, in the store that is configured or in files.
func (a *Authority) open() error {
	ctx, cancel := context.WithTimeout(context.Background(), openMax)
	defer cancel()
	store := a.cfg.Store
	if store == nil {
		files, err := openFiles(a.cfg.StateDir)
		if err != nil {
			return err
		}
		store = files
	}
	a.registry = registry.New(store)
	var err error
	if a.signed, err = a.registry.Signed(ctx); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	// What another store of this authority, or an older version, has kept.
	before, err := loadMark(a.cfg.StateDir, signedFile)
	if err == nil && a.signed.Before(before) {
		a.signed, err = a.registry.Sign(ctx, before)
	}
	if err != nil {
		return err
	}
	published, why, err := a.registry.Published(ctx, &a.cfg.Trust, a.began)
	if err != nil {
		return fmt.Errorf("directory: the documents that are kept cannot be read: %w", err)
	}
	if why != nil { // of another network or another time: a new one will be made
		a.log.Info("a document that was kept is not served", "why", why)
	}
	if err := a.load(ctx, published); err != nil {
		return fmt.Errorf("directory: the descriptors that are kept cannot be read: %w", err)
	}
	a.restarted = a.signed != directory.Mark{} && a.registry.Len() == 0
	if published == nil {
		return nil
	}
	a.serve(published, a.began) // so that clients and nodes go on meanwhile
	return a.own.add(published)
}

// load takes up the descriptors that are kept, on all processors. A store may be in
// other hands than the key: they are verified as if they came from their nodes, but
// those on which a document rests that this authority has signed.
func (a *Authority) load(ctx context.Context, published *directory.Document) (err error) {
	begun := time.Now()
	if published != nil && !published.SignedBy(a.cfg.Signers[0].Public()) {
		published = nil
	}
	found := make(chan []byte, 64)
	var known atomic.Int64
	var verifying sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		verifying.Go(func() {
			for b := range found {
				d, before, err := directory.ParseKept(b, published)
				if err != nil {
					continue
				}
				if before {
					known.Add(1)
				}
				a.take(d)
			}
		})
	}
	a.keptUntil, err = a.registry.Load(ctx, func(b []byte) { found <- b })
	close(found)
	verifying.Wait()
	if n := a.registry.Len(); n > 0 {
		a.log.Info("descriptors taken up", "kept", n, "valid", a.authorities[0].Len(), "known", known.Load(), "took", time.Since(begun))
	}
	return err
}

func (a *Authority) take(d *directory.Descriptor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.authorities {
		one.Take(d, a.began) // what is refused now has become too old
	}
}

// collect takes a descriptor, and reports whether it is news.
func (a *Authority) collect(b []byte) (news bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.authorities {
		changed, err := one.Collect(b, time.Now().Unix())
		if err != nil {
			return false, err
		}
		news = news || changed
	}
	return news, nil
}

// shareDescriptors follows what other processes with the key of this authority keep.
func (a *Authority) shareDescriptors(ctx context.Context) {
	a.registry.Follow(ctx, a.keptUntil, func(b []byte) {
		if news, err := a.collect(b); err == nil && news {
			a.wake()
		}
	}, func(err error) { a.log.Warn("what other processes of this authority keep is not seen", "why", err) })
}

// shareDocuments serves what another process with this authority's key has
// published.
func (a *Authority) shareDocuments(ctx context.Context) {
	a.registry.FollowDocuments(ctx, a.keptUntil, func(m directory.Mark) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.published.Before(m) {
			return
		}
		wall := time.Now().Unix()
		d, _, err := a.registry.Published(ctx, &a.cfg.Trust, wall)
		if err == nil && d != nil && a.published.Before(d.Mark()) {
			a.serve(d, wall)
		}
	}, func(err error) { a.log.Warn("what other processes of this authority publish is not seen", "why", err) })
}

// wake has lead look whether a document is due.
func (a *Authority) wake() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// forget drops what is past its age from the store, once an epoch.
func (a *Authority) forget(ctx context.Context, wall int64) {
	epoch := a.epochAt(wall)
	if epoch == a.forgotten {
		return
	}
	const age = int64(directory.DescriptorAgeMax / time.Second)
	if err := a.registry.Forget(ctx, uint64(max(wall-age, 0))); err != nil {
		a.log.Warn("old descriptors are kept for longer", "why", err)
		return
	}
	a.forgotten = epoch
}

// keptDir holds the files of an authority without another store.
const keptDir = "authority"

// openFiles is a store for an authority without another one: what it signed and
// published are files, each of them whole or not there; descriptors are in memory,
// and nodes post them again. Without a directory everything is in memory.
func openFiles(stateDir string) (*registry.Memory, error) {
	if stateDir == "" {
		return registry.NewMemory(nil, nil), nil
	}
	dir := filepath.Join(stateDir, keptDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	var entries []registry.Entry
	for _, n := range names {
		if strings.HasPrefix(n.Name(), ".") { // of a write that did not end
			continue
		}
		b, err := setup.LoadState(filepath.Join(dir, n.Name()))
		if err != nil {
			return nil, err
		}
		if len(b) < 8 {
			return nil, fmt.Errorf("directory: %s is damaged", filepath.Join(dir, n.Name()))
		}
		entries = append(entries, registry.Entry{
			Key: strings.ReplaceAll(n.Name(), "_", "/"), Value: b[8:], Revision: int64(binary.BigEndian.Uint64(b)),
		})
	}
	return registry.NewMemory(entries, func(e registry.Entry) error {
		if registry.IsDescriptor(e.Key) {
			return nil
		}
		path := filepath.Join(dir, strings.ReplaceAll(e.Key, "/", "_"))
		if e.Value == nil {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}
		return setup.SaveState(path, append(binary.BigEndian.AppendUint64(nil, uint64(e.Revision)), e.Value...))
	}), nil
}
