package daemon

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/engine/sql"
	"github.com/nyxnet/nyx/internal/wire"
)

// failing is a store that fails so many times at each method, and then no more.
type failing struct {
	records.Store
	create, get, remove int
}

var errAway = errors.New("the store is away")

func (s *failing) Create(ctx context.Context, rs []control.SessionRecord, unix int64) (int, error) {
	if s.create--; s.create >= 0 {
		return 0, errAway
	}
	return s.Store.Create(ctx, rs, unix)
}

func (s *failing) Get(ctx context.Context, token control.TokenHash, unix int64) (control.SessionRecord, error) {
	if s.get--; s.get >= 0 {
		return control.SessionRecord{}, errAway
	}
	return s.Store.Get(ctx, token, unix)
}

func (s *failing) Remove(ctx context.Context, tokens []control.TokenHash) error {
	if s.remove--; s.remove >= 0 {
		return errAway
	}
	return s.Store.Remove(ctx, tokens)
}

func recordChange(kind control.RecordKind, token byte) control.RecordChange {
	r := control.SessionRecord{Token: control.TokenHash{token}}
	if kind != control.RecordEnded {
		r.Expires = time.Now().Unix() + 3600
	}
	if kind == control.RecordCreated {
		r.Version = 1
	}
	return control.RecordChange{Kind: kind, Record: r}
}

// A batch that fails goes on where it failed, and what it has done counts once: a
// claim that came through is not the second one of its session.
func TestRecordsOfAStoreThatFails(t *testing.T) {
	kept := records.NewMemory()
	r := newRegistrar(&failing{kept, 1, 1, 1}, func(error) {})
	r.collect([]control.RecordChange{
		recordChange(control.RecordCreated, 1), recordChange(control.RecordCreated, 2), recordChange(control.RecordClaimed, 2), recordChange(control.RecordClaimed, 3),
		recordChange(control.RecordCreated, 4), recordChange(control.RecordEnded, 4), recordChange(control.RecordEnded, 5),
	}, 0)
	b := r.take()
	if len(b.created) != 2 || len(b.claimed) != 2 || len(b.ended) != 1 {
		t.Fatalf("%d begin, %d are resumed and %d end; a session that begins and ends in a batch is none", len(b.created), len(b.claimed), len(b.ended))
	}
	tries := 1
	for ; b.write(t.Context(), r) != nil; tries++ {
		if tries > 10 {
			t.Fatal("it never comes through")
		}
	}
	f := r.known()
	if tries != 4 || kept.Len() != 3 || f.Lag.Count != 5 || f.Looked.Count != 2 || f.Again != 0 || f.Unknown != 1 || f.Duplicates != 0 || f.Lost != 0 {
		t.Errorf("%d tries, %d records, %+v", tries, kept.Len(), f)
	}
	r.collect([]control.RecordChange{recordChange(control.RecordClaimed, 2)}, 0)
	if err := r.take().write(t.Context(), r); err != nil || r.known().Again != 1 {
		t.Errorf("a session that is resumed twice: %+v, error %v", r.known(), err)
	}
}

// What a store that is away has no room for is lost and counted, and the machine waits
// for nothing.
func TestRecordsAreBounded(t *testing.T) {
	r := newRegistrar(records.NewMemory(), func(error) {})
	all := make([]control.RecordChange, 1000)
	for i := range 70 {
		r.collect(all, uint64(i))
	}
	if f := r.known(); len(r.waiting) != registeredMost || f.Lost != 70*1000-registeredMost+69 {
		t.Errorf("%d wait, %d are lost", len(r.waiting), f.Lost)
	}
}

// overheard is a store that tells of what is created, and of nothing else.
type overheard struct {
	records.Store
	created chan control.SessionRecord
}

func (s *overheard) Create(ctx context.Context, rs []control.SessionRecord, unix int64) (int, error) {
	n, err := s.Store.Create(ctx, rs, unix)
	for _, r := range rs {
		select {
		case s.created <- r:
		default:
		}
	}
	return n, err
}

func (s *overheard) Close() error { return nil } // the nodes share it

// The records of a network on this machine are of tokens and tickets, and the
// database's files hold no name and no address of who uses it, nor of what for.
func TestRecordsNameNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	db, err := sql.OpenRecords(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() }) // after the network
	store := &overheard{db, make(chan control.SessionRecord, 1000)}
	l := standNetwork(t, LocalConfig{Seed: [32]byte{1}, Streams: 3, Mixes: 6, Client: client.Config{Level: wire.Fast}, records: store})
	const target = "planted-target.invalid"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	asked, stop := context.WithTimeout(ctx, 5*time.Second) // nobody has the name, which may take long to find out
	defer stop()
	if c, err := l.Client.DialStream(asked, "planted-isolation", target, 4711); err == nil {
		c.Close()
	}
	var some []control.SessionRecord
	for len(some) < 4 { // more than there are entries: some are of exits
		select {
		case r := <-store.created:
			some = append(some, r)
		case <-ctx.Done():
			t.Fatalf("%d records are there", len(some))
		}
	}
	client := l.Client.host.Addr()
	binary, err := client.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	planted := map[string]string{"the target": target, "the isolation key": "planted-isolation", "the client's address": client.String(), "the same, in bytes": string(binary)}
	for _, n := range l.Nodes {
		id := n.ID()
		planted["node "+n.cfg.Name] = string(id[:])
	}
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	for _, r := range some {
		if !bytes.Contains(all, r.Token[:]) {
			t.Fatalf("the search does not find what is there, in %v", files)
		}
	}
	for what, name := range planted {
		if strings.Contains(string(all), name) {
			t.Errorf("the records' database holds %s", what)
		}
	}
}
