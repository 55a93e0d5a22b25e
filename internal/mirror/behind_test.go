package mirror

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory/query"
)

func notYet(w http.ResponseWriter, _ []byte) { http.Error(w, "", StatusNotYet) }

// A replica that has not heard of a new document yet is no liar: it is left alone for
// the moment until it looks again, and others are asked. (Control: with 404 in the
// place of StatusNotYet it is accused of withholding; without excused, of being old.)
func TestReplicaThatLagsIsNotAccused(t *testing.T) {
	for _, nodes := range []int{2000, 100} {
		bubble(t, func(w *world) {
			before, now := w.document(testEpoch, 0, nodes, 0), w.document(testEpoch, 1, nodes, 1)
			w.wall = testWall - 60 + 2 // two seconds after the authorities signed
			w.serve("r1", before, now)
			slow := w.serve("r2", before)
			lagged := uint64(0)
			for seed := range uint64(4) {
				r := w.reader(seed+1, true)
				w.look(r)
				for range 3 {
					if _, err := r.Look(w.Context(), w.wall); err != nil {
						w.Error(err)
					}
				}
				s := r.Asker.Stats()
				if s.Stale != 0 || s.Missed != 0 || s.Faults[query.Withheld]+s.Faults[query.Old] != 0 {
					w.Errorf("%d nodes, seed %d: %+v", nodes, seed, s)
				}
				lagged += s.Faults[query.NotYet]
			}
			if lagged == 0 || strings.Contains(w.log.String(), "left aside") {
				w.Errorf("%d nodes: it lagged %d times:\n%s", nodes, lagged, w.log.String())
			}
			// Two seconds on it has the document, and is asked again.
			shelf := &Shelf{}
			shelf.Put(now)
			mux := http.NewServeMux()
			shelf.Register(mux, true)
			r := w.reader(2, true)
			w.look(r)
			slow.Handler = mux
			<-time.After(2 * time.Second)
			asked := len(slow.paths())
			for range 8 {
				r.Look(w.Context(), w.wall)
			}
			if len(slow.paths()) == asked {
				w.Errorf("%d nodes: it is not asked again", nodes)
			}
		})
	}
}

// Who says of a document for long that it has it not yet withholds it. (Control:
// without Due it is never accused.)
func TestReplicaThatNeverHasItYet(t *testing.T) {
	bubble(t, func(w *world) {
		d := w.document(testEpoch, 0, 6000, 0)
		w.wall = testWall - 60 + int64(dueAfter/time.Second)
		altered(w.serve("r1", d), BucketPath, notYet)
		w.serve("r2", d)
		r := w.reader(1, true)
		w.look(r)
		if s := r.Asker.Stats(); s.Stale != 0 || s.Missed != 0 || s.Faults[query.Withheld] == 0 || s.Faults[query.NotYet] != 0 {
			w.Errorf("%+v", s)
		}
		w.wantReport("r1", "withheld")
	})
}

// rotten is a cache in which bytes change.
type rotten struct{ Memory }

func (c *rotten) Get(ctx context.Context, key string) ([]byte, bool) {
	b, ok := c.Memory.Get(ctx, key)
	if ok {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
	}
	return b, ok
}

// What a cache has spoiled is made again and counted, so that a replica is not taken
// for a forger. (Control: where trusts trusts everything, clients report it.)
func TestSpoiledCacheIsNotServed(t *testing.T) {
	bubble(t, func(w *world) {
		d := w.document(testEpoch, 0, 6000, 0)
		shelf := &Shelf{Cache: &rotten{}, TTL: time.Hour, Shared: true}
		shelf.Put(d)
		for place := range d.Rows() {
			shelf.bucket(w.Context(), shelf.of(""), place)
		}
		mux := http.NewServeMux()
		shelf.Register(mux, true)
		w.serve("r1", d).Handler = mux
		r := w.reader(1, true)
		w.look(r)
		if s := r.Asker.Stats(); s.Stale != 0 || s.Faults != [query.NumReasons]uint64{} {
			w.Errorf("%+v\n%s", s, w.log.String())
		}
		if shelf.Spoiled() == 0 {
			w.Error("it is not counted")
		}
	})
}

// BenchmarkSharedBucket is BenchmarkBucket with a cache that has it, and that others
// share; it is in the process here, so that checking is what is measured.
func BenchmarkSharedBucket(b *testing.B) {
	w := newWorld(b)
	s := &Shelf{Cache: &Memory{}, TTL: time.Hour, Shared: true}
	s.Put(w.document(testEpoch, 0, 4096, 0))
	h := s.of("")
	s.bucket(b.Context(), h, 7)
	for b.Loop() {
		s.bucket(b.Context(), h, 7)
	}
}
