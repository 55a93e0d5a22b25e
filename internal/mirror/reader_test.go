package mirror

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/query"
)

// altered has a server's answers to some paths changed.
func altered(h *host, prefix string, change func(w http.ResponseWriter, body []byte)) {
	honest := h.Handler
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, prefix) {
			honest.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		honest.ServeHTTP(rec, r)
		change(w, rec.Body.Bytes())
	})
}

func withheld(w http.ResponseWriter, _ []byte) { http.NotFound(w, nil) }

func forged(w http.ResponseWriter, body []byte) {
	b := bytes.Clone(body)
	b[len(b)/2] ^= 1
	w.Write(b)
}

func TestSmallNetworksAreFetchedWhole(t *testing.T) {
	bubble(t, func(w *world) {
		d := w.document(testEpoch, 0, 100, 0)
		w.serve("a", d)
		r := w.reader(1, true)
		if v := w.look(r); v.Partial() || v.Len() != 100 {
			w.Errorf("%d nodes", v.Len())
		}
		if v, err := r.Look(w.Context(), w.wall); v != nil || err != nil {
			w.Errorf("the same again: %v", err)
		}
	})
}

// A client of a big network fetches the table and a part of the buckets, and of
// the next document those only that have changed.
func TestBigNetworksAreFetchedInPart(t *testing.T) {
	bubble(t, func(w *world) {
		d := w.document(testEpoch, 0, 6000, 0)
		h := w.serve("r1", d)
		r := w.reader(1, true)
		v := w.look(r)
		asked := len(h.paths())
		if !v.Partial() || v.Len() < 1000 || v.Len() > 3000 || asked-1 > 80 {
			w.Errorf("%d nodes by %d requests", v.Len(), asked)
		}
		shelf := &Shelf{}
		shelf.Put(w.document(testEpoch, 1, 6000, 0)) // the same nodes
		mux := http.NewServeMux()
		shelf.Register(mux, true)
		h.Handler = mux
		if v := w.look(r); v.Document().Revision != 1 || len(h.paths()) != asked+1 {
			w.Errorf("%d requests for a document with the same buckets", len(h.paths())-asked)
		}
		if s := r.Asker.Stats(); s.Stale != 0 || s.Missed != 0 || s.Faults != [query.NumReasons]uint64{} {
			w.Errorf("%+v", s)
		}
	})
}

// No replica sees more than its share of what a client fetches.
func TestReplicasShareTheLookups(t *testing.T) {
	bubble(t, func(w *world) {
		d := w.document(testEpoch, 0, 6000, 0)
		a, b := w.serve("r1", d), w.serve("r2", d)
		b.way = 50 * time.Millisecond // slower, and asked as often
		w.look(w.reader(1, true))
		n, m := len(a.paths()), len(b.paths())
		if min(n, m)*4 < n+m {
			w.Errorf("%d and %d requests", n, m)
		}
	})
}

// A replica that has the table and holds buckets back is found, reported, and
// left aside; the client has everything. (Control: where a look-up ends with the
// first answer, the buckets are missing.)
func TestReplicaThatWithholds(t *testing.T) {
	bubble(t, func(w *world) {
		d := w.document(testEpoch, 0, 6000, 0)
		bad := w.serve("r1", d)
		altered(bad, BucketPath, withheld)
		w.serve("r2", d)
		r := w.reader(1, true)
		w.look(r)
		s := r.Asker.Stats()
		if s.Stale != 0 || s.Missed != 0 || s.Faults[query.Withheld] == 0 || s.Faults[query.Withheld] > atOnce {
			w.Errorf("%+v", s)
		}
		w.wantReport("r1", "withheld")
	})
}

// So is one that changes a byte of what is signed, of a bucket or of a table.
// (Control: without the check of the root in ParseBucket the nodes are others.)
func TestReplicaThatForges(t *testing.T) {
	for _, path := range []string{BucketPath, TablePath} {
		bubble(t, func(w *world) {
			d := w.document(testEpoch, 0, 6000, 0)
			altered(w.serve("r1", d), path, forged)
			altered(w.serve("r2", d), path, forged)
			w.serve("a", d)
			r := w.reader(1, true)
			v := w.look(r)
			honest := map[[32]byte]*directory.Node{}
			for _, n := range d.Nodes {
				honest[n.ID] = n
			}
			for i := range v.Len() {
				if n := honest[v.At(i).ID]; n == nil || !bytes.Equal(n.Entry(), v.At(i).Entry()) {
					w.Fatalf("%s: node %d is none of the network's", path, i)
				}
			}
			if s := r.Asker.Stats(); s.Stale != 0 || s.Faults[query.Forged] < 2 {
				w.Errorf("%s: %+v", path, s)
			}
			w.wantReport("r1", "forged")
			w.wantReport("r2", "forged")
		})
	}
}

// One that serves a document whose epoch has passed is found by the clock, also
// by a client that knows nothing newer. (Control: without behind, the client is
// content with it.)
func TestReplicaThatServesOld(t *testing.T) {
	bubble(t, func(w *world) {
		old, d := w.document(testEpoch-1, 0, 6000, 0), w.document(testEpoch, 0, 6000, 1)
		w.wall = testWall + int64(behindAfter/time.Second)
		w.serve("r1", old)
		w.serve("r2", old)
		w.serve("a", d)
		r := w.reader(1, true)
		if v := w.look(r); v.Epoch() != testEpoch {
			w.Errorf("epoch %d", v.Epoch())
		}
		w.wantReport("r1", "old")
		w.wantReport("r2", "old")
		if s := r.Asker.Stats(); s.Behind || s.Faults[query.Old] < 2 {
			w.Errorf("%+v", s)
		}
	})
}

// One that goes back to a document before the one that it gave out is found by the
// mark of the newest, within an epoch too, and the client stays with what it has.
// (Control: without the check in Keeper.keep it follows the replica back.)
func TestReplicaThatGoesBack(t *testing.T) {
	bubble(t, func(w *world) {
		before, now := w.document(testEpoch, 0, 6000, 0), w.document(testEpoch, 1, 6000, 1)
		bad := w.serve("r1", now)
		r := w.reader(1, true)
		if v := w.look(r); v.Document().Revision != 1 {
			w.Fatalf("revision %d", v.Document().Revision)
		}
		shelf := &Shelf{}
		shelf.Put(before)
		mux := http.NewServeMux()
		shelf.Register(mux, true)
		bad.Handler = mux
		if v, err := r.Look(w.Context(), w.wall); v != nil || err == nil {
			w.Errorf("the client takes a document of before the one that it has: %v", err)
		}
		if s := r.Asker.Stats(); s.Faults[query.Old] == 0 {
			w.Errorf("%+v", s)
		}
		w.wantReport("r1", "old")
	})
}

// Where nobody has better, the old document is used while it is valid, and it is
// said.
func TestOldDocumentsAreUsedWhereThereAreNoOthers(t *testing.T) {
	bubble(t, func(w *world) {
		w.serve("a", w.document(testEpoch-1, 0, 6000, 0))
		w.wall = testWall + int64(behindAfter/time.Second)
		r := w.reader(1, true)
		if v := w.look(r); v.Epoch() != testEpoch-1 {
			w.Errorf("epoch %d", v.Epoch())
		}
		if s := r.Asker.Stats(); !s.Behind || r.Asker.Lacking() == nil || !strings.Contains(w.log.String(), "present epoch") {
			w.Errorf("it is not said: %+v", s)
		}
		w.wall += 100 * 3600
		if v, err := r.Look(w.Context(), w.wall); v != nil || err == nil {
			w.Errorf("past its validity: %v", err)
		}
	})
}

// Half of the buckets cannot be had: those of the document before stand in, and
// it is said; a client without any goes on with the other half. (Control: without
// held, the view of the second document has half of the nodes.)
func TestHalfOfTheBucketsCannotBeHad(t *testing.T) {
	bubble(t, func(w *world) {
		first, second := w.document(testEpoch, 0, 6000, 0), w.document(testEpoch, 1, 6000, 1)
		h := w.serve("r1", first)
		r := w.reader(1, true)
		known := w.look(r).Len()
		shelf := &Shelf{}
		shelf.Put(second)
		mux := http.NewServeMux()
		shelf.Register(mux, true)
		h.Handler = http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
			place := strings.TrimPrefix(q.URL.Path, BucketPath+Name(second)+"/")
			if place != q.URL.Path && strings.ContainsAny(place[len(place)-1:], "02468") {
				http.Error(rw, "lost", http.StatusInternalServerError)
				return
			}
			mux.ServeHTTP(rw, q)
		})
		v := w.look(r)
		s := r.Asker.Stats()
		if v.Len() != known || v.Document().Revision != 1 || s.Stale == 0 || r.Asker.Lacking() == nil {
			w.Errorf("%d nodes of %d, %+v", v.Len(), known, s)
		}
		if !strings.Contains(w.log.String(), "stands in") {
			w.Errorf("it is not said:\n%s", w.log.String())
		}
		if v := w.look(w.reader(1, true)); v.Len() < known/3 || v.Len() > known*2/3 {
			w.Errorf("a client without a past knows %d nodes of %d", v.Len(), known)
		}
		h.Handler = mux
		if v := w.look(r); v.Document().Revision != 1 || r.Asker.Lacking() != nil {
			w.Error("what was lacking is not fetched when it can be had")
		}
	})
}

// The next server is asked when the first is late, and the first one's answer
// still counts.
func TestLateAnswersCount(t *testing.T) {
	bubble(t, func(w *world) {
		d := w.document(testEpoch, 0, 100, 0)
		h := w.serve("a", d)
		h.way = 3 * time.Second
		r := w.reader(1, false)
		begun := time.Now()
		w.look(r)
		if took := time.Since(begun); took != 3*time.Second {
			w.Errorf("took %v", took)
		}
		if s := r.Asker.Stats(); s.Faults[query.Timeout] == 0 || s.Found != 1 {
			w.Errorf("%+v", s)
		}
	})
}
