package daemon

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

// watched are the witnesses of a council.
type watched struct {
	signers []*seal.Signer
	all     []*Witness // nil: down
	urls    []string
	dirs    []string
}

func witnessHost(i int) string { return "witness-" + strconv.Itoa(i) }

func (c *council) addWitnesses(n, seen int) {
	c.Helper()
	w := &c.watched
	c.trust.WitnessThreshold = seen
	for i := range n {
		s, err := newSigner(prng.FromUint64(uint64(i)), "witness")
		if err != nil {
			c.Fatal(err)
		}
		w.signers, w.urls, w.dirs = append(w.signers, s), append(w.urls, "http://"+witnessHost(i)), append(w.dirs, c.TempDir())
		c.trust.Witnesses = append(c.trust.Witnesses, s.Public())
	}
	w.all = make([]*Witness, n)
	for i := range n {
		c.startWitness(i)
	}
}

func (c *council) startWitness(i int) {
	c.Helper()
	var directories []string
	for j := range c.signers {
		directories = append(directories, "http://"+host(j))
	}
	w := &c.watched
	var err error
	w.all[i], err = StartWitness(WitnessConfig{
		Trust: c.trust, Signer: w.signers[i], Directories: directories, StateDir: w.dirs[i],
		listener: c.listen(witnessHost(i)), client: c.client(),
	})
	if err != nil {
		c.Fatal(err)
	}
}

func (c *council) stopWitness(i int) {
	c.watched.all[i].Close()
	c.watched.all[i] = nil
}

// reader is a feed of a client that asks some servers.
type reader struct {
	*feed
	got []directory.Mark
}

func (c *council) reader(dir string, hosts ...string) *reader {
	c.Helper()
	r := &reader{}
	var err error
	r.feed, err = newFeed(feedConfig{
		trust: c.trust, urls: hosts, dir: dir, mark: "client.newest", client: c.client(),
		deliver: func(v *directory.View) { r.got = append(r.got, v.Document().Mark()) },
	})
	if err != nil {
		c.Fatal(err)
	}
	return r
}

// read asks one server for its document.
func (r *reader) read(t *testing.T, host string) error { return r.fetch(t.Context(), "http://"+host) }

// A document reaches clients with its proof. One that enough authorities have
// signed, and no log holds, is refused; a client that demands no log (the control)
// believes it.
func TestClientsDemandTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWatched(t, 3, 2, 3, 2)
		defer c.close()
		c.post(0, 1, 2, 3)
		advance(3 * time.Second)
		c.want(present(), 0, 4)
		for i := range c.all {
			r := c.reader("", host(i))
			if err := r.read(t, host(i)); err != nil || len(r.got) != 1 {
				t.Fatalf("%s: %d documents, %v", host(i), len(r.got), err)
			}
		}

		hidden := c.collude(7)
		defer c.serve(map[string]http.Handler{"shop": &shopwindow{document: hidden.Encode()}})()
		r := c.reader("", "shop")
		if err := r.read(t, "shop"); !errors.Is(err, translog.ErrNotLogged) && !errors.Is(err, translog.ErrMalformed) || len(r.got) != 0 {
			t.Errorf("a document in no log: %d documents, %v", len(r.got), err)
		}
		// What was refused bars nothing.
		if err := r.read(t, host(1)); err != nil || len(r.got) != 1 {
			t.Errorf("after it: %d documents, %v", len(r.got), err)
		}
		trusting := c.reader("", "shop")
		trusting.logged = nil
		if err := trusting.read(t, "shop"); err != nil || len(trusting.got) != 1 {
			t.Errorf("control: a client that demands no log: %d documents, %v", len(trusting.got), err)
		}
	})
}

// collude is a document of the present epoch that two authorities have signed
// beside what they publish.
func (c *council) collude(revision uint32) *directory.Document {
	c.Helper()
	var d *directory.Document
	for i := range 2 {
		a, err := directory.NewAuthority(directory.AuthorityConfig{Network: localName, Signer: c.signers[i], Threshold: 2, Authorities: 3})
		if err != nil {
			c.Fatal(err)
		}
		if _, err := a.Collect(descriptor(c.T, 3), time.Now().Unix()); err != nil {
			c.Fatal(err)
		}
		if d == nil {
			if d, err = a.Build(present(), revision); err != nil {
				c.Fatal(err)
			}
		}
		if err := a.Sign(d, time.Now().Unix()); err != nil {
			c.Fatal(err)
		}
	}
	return d
}

// The death of any one authority or witness keeps no document from clients. With
// fewer witnesses than must cosign (the control) there is no new one, and clients go
// on with the last.
func TestOneDeathStopsNoProof(t *testing.T) {
	for victim := range 4 {
		synctest.Test(t, func(t *testing.T) {
			c := newWatched(t, 3, 2, 3, 2)
			defer c.close()
			c.post(0, 1, 2, 3)
			advance(3 * time.Second)
			dir, alive := t.TempDir(), []string{host(0), host(1), host(2)}
			if err := c.reader(dir, alive...).read(t, host(victim%3)); err != nil {
				t.Fatal(err)
			}
			if victim < 3 {
				c.stop(victim)
				alive = slices.DeleteFunc(alive, func(h string) bool { return h == host(victim) })
			} else {
				c.stopWitness(1)
			}
			c.post(4)
			advance(time.Minute)
			for _, h := range alive {
				r := c.reader(dir, alive...)
				if err := r.read(t, h); err != nil || len(r.got) != 1 || r.got[0].Revision == 0 {
					t.Errorf("without %d, %s: %v, %v", victim, h, r.got, err)
				}
			}
			if victim < 3 {
				return
			}
			c.stopWitness(0)
			c.post(5)
			advance(5 * time.Second)
			r := c.reader(dir, alive...)
			if err := r.read(t, host(0)); !errors.Is(err, translog.ErrNotLogged) || len(r.got) != 0 {
				t.Errorf("control: with one witness: %v, %v", r.got, err)
			}
			if err := c.all[0].Err(); !errors.Is(err, translog.ErrWitnesses) {
				t.Errorf("the authority says %v", err)
			}
			c.startWitness(0)
			advance(time.Minute)
			if err := r.read(t, host(0)); err != nil || len(r.got) != 1 {
				t.Errorf("when it is back: %v, %v", r.got, err)
			}
		})
	}
}

// Authorities and witnesses that are killed go on with the log where it was, even
// if an entry was half written.
func TestLogsOutliveTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWatched(t, 1, 1, 3, 2)
		defer c.close()
		c.post(0, 1, 2, 3)
		advance(3 * time.Second)
		dir := t.TempDir()
		if err := c.reader(dir, host(0)).read(t, host(0)); err != nil {
			t.Fatal(err)
		}
		for i := range c.watched.all {
			c.stopWitness(i)
			c.startWitness(i)
		}
		c.stop(0)
		path := filepath.Join(c.dirs[0], "log.entries")
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte{0, 200, 1, 2, 3})
		f.Close()
		c.start(0)
		advance(40 * time.Second) // nodes have posted again by then
		c.post(0, 1, 2, 3, 4)
		advance(3 * time.Second)
		r := c.reader(dir, host(0))
		if err := r.read(t, host(0)); err != nil || len(r.got) != 1 || r.got[0].Revision == 0 {
			t.Fatalf("%v, %v", r.got, err)
		}
		if n := c.all[0].own.head.Size; n != 2 {
			t.Errorf("the log has %d entries", n)
		}
		advance(2 * watchPoll) // the witnesses have read it
		// A log that is gone is not begun anew behind the witnesses' backs.
		c.stop(0)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := openLog(&AuthorityConfig{Trust: c.trust, Signers: c.signers[:1], StateDir: c.dirs[0]}, nil, logOrNone(nil)); !contains(err, "restore log.entries") {
			t.Errorf("without its entries: %v", err)
		}
		// A witness has a copy of it, which restores it.
		id := logID(translog.Origin(localName, c.signers[0].Public()))
		b, err := os.ReadFile(filepath.Join(c.watched.dirs[0], "log-"+id+".entries"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c.start(0)
	})
}

// Two documents of one number, in the logs of two authorities that have signed
// both, are found by every witness and by the third authority, with the signatures.
func TestTwoDocumentsAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWatched(t, 3, 2, 3, 2)
		defer c.close()
		c.post(0, 1, 2, 3)
		advance(watchPoll + 3*time.Second)
		published, err := directory.Verify(c.want(present(), 0, 4), &c.trust, time.Now().Unix())
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range c.watched.all {
			if err := w.Err(); err != nil {
				t.Errorf("%s, with nothing to find: %v", witnessHost(i), err)
			}
		}
		// The second authority's log alone has the other one.
		other := c.collude(0)
		if !other.Mark().Conflicts(published.Mark()) {
			t.Fatal("no conflict")
		}
		if err := c.all[1].own.add(other); err != nil {
			t.Fatal(err)
		}
		advance(2 * watchPoll)
		for _, dir := range append([]string{c.dirs[2]}, c.watched.dirs...) {
			b, err := os.ReadFile(filepath.Join(dir, "evidence-documents-"+strconv.FormatUint(present(), 10)+"-0.json"))
			if err != nil {
				t.Error(err)
				continue
			}
			e, err := translog.ParseEvidence(b)
			if err != nil {
				t.Fatal(err)
			}
			f, err := e.Judge(translog.NewPolicy(&c.trust), &c.trust)
			if err != nil || !f.Proven || !strings.Contains(f.Says, "authorities signed both") || len(f.Accused) < 1 {
				t.Errorf("%+v, %v", f, err)
			}
		}
		if n := c.watched.all[0].report.count(); n != 1 {
			t.Errorf("%d findings", n)
		}
		if err := c.all[2].Err(); !contains(err, "two different documents") {
			t.Errorf("the third authority says %v", err)
		}
	})
}

// A client that has seen one document, and is given another of the same number,
// keeps both as evidence.
func TestAClientKeepsBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil(t, 3, 2)
		defer c.close()
		c.post(0, 1, 2, 3)
		advance(3 * time.Second)
		defer c.serve(map[string]http.Handler{"shop": &shopwindow{document: c.collude(0).Encode()}})()
		dir := t.TempDir()
		r := c.reader(dir, host(0))
		if err := r.read(t, host(0)); err != nil {
			t.Fatal(err)
		}
		if err := r.read(t, "shop"); !errors.Is(err, directory.ErrConflict) {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "evidence-*.json"))
		if len(files) != 1 {
			t.Fatalf("evidence: %v", files)
		}
		b, _ := os.ReadFile(files[0])
		e := &translog.Evidence{}
		if err := json.Unmarshal(b, e); err != nil {
			t.Fatal(err)
		}
		if f, err := e.Judge(translog.NewPolicy(&c.trust), &c.trust); err != nil || !f.Proven {
			t.Errorf("%+v, %v", f, err)
		}
	})
}

// An authority that shows its log anew, without what was in it, is not cosigned, and
// found: the log that clients have seen before it cannot become another.
func TestARewrittenLogIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWatched(t, 1, 1, 3, 2)
		defer c.close()
		for i := range 3 {
			c.post(0, 1, 2, 3+i)
			advance(3 * time.Second)
		}
		advance(watchPoll)
		dir := t.TempDir()
		if err := c.reader(dir, host(0)).read(t, host(0)); err != nil {
			t.Fatal(err)
		}
		l := c.all[0].own
		l.mu.Lock()
		var forked translog.Log
		forked.Append(l.tree.Entry(2))
		forked.Append(l.tree.Entry(0))
		forked.Append(l.tree.Entry(1))
		l.tree = forked
		l.mu.Unlock()
		c.post(6)
		advance(3 * time.Second)
		r := c.reader(dir, host(0))
		if err := r.read(t, host(0)); !errors.Is(err, translog.ErrNotLogged) || len(r.got) != 0 {
			t.Errorf("a client believes %v, %v", r.got, err)
		}
		if err := c.all[0].Err(); !errors.Is(err, translog.ErrWitnesses) {
			t.Errorf("the witnesses let it pass: %v", err)
		}
		// Even with witnesses that lie: the client remembers, and so do watchers.
		head, err := l.tree.Head(l.origin)
		if err != nil {
			t.Fatal(err)
		}
		note, err := head.Sign(localName, c.signers[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.watched.signers {
			liar, err := translog.NewWitness(l.policy, s, func(translog.Checkpoint, []byte) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			line, _, err := liar.Cosign(&translog.Request{Note: note}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if note, _, err = l.policy.Cosigned(note, line); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.cosigned(head, note); err != nil {
			t.Fatal(err)
		}
		if err := r.read(t, host(0)); !errors.Is(err, translog.ErrInconsistent) || len(r.got) != 0 {
			t.Errorf("a client with a memory: %v, %v", r.got, err)
		}
		fresh := c.reader("", host(0))
		if err := fresh.read(t, host(0)); err != nil || len(fresh.got) != 1 {
			t.Errorf("control: one without: %v, %v", fresh.got, err)
		}
		advance(2 * watchPoll)
		for i, w := range c.watched.all {
			if err := w.Err(); !contains(err, "not a continuation") {
				t.Errorf("%s: %v", witnessHost(i), err)
			}
		}
	})
}

// A replica has copies of the logs: with all authorities dead it still gives a client
// that comes back the document, its proof, and the proof that the log goes on from
// what the client had seen. One without copies (the control) cannot.
func TestReplicaProvesWithoutAuthorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWatched(t, 3, 2, 3, 2)
		defer c.close()
		c.post(0, 1, 2, 3)
		advance(3 * time.Second)
		r, err := StartReplica(ReplicaConfig{
			Trust: c.trust, Authorities: []string{"http://" + host(0), "http://" + host(1), "http://" + host(2)}, StateDir: t.TempDir(),
			listener: c.listen("replica"), client: c.client(),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		advance(watchPoll)
		dir := t.TempDir()
		look := func() (*reader, error) {
			got := c.reader(dir, "http://replica")
			a, err := newAsker(nil, []string{"http://replica"}, c.client(), prng.FromUint64(1).Stream("asker"), nil)
			if err != nil {
				t.Fatal(err)
			}
			got.feed.read(a, nil)
			return got, got.look(t.Context(), 0)
		}
		if got, err := look(); err != nil || len(got.got) != 1 {
			t.Fatalf("%v, %v", got.got, err)
		}
		c.post(4)
		advance(2 * watchPoll)
		for i := range c.all {
			c.stop(i)
		}
		copies := r.logs.watch
		r.logs.mu.Lock()
		r.logs.watch = translog.NewWatch(r.logs.policy)
		r.logs.mu.Unlock()
		if got, err := look(); !errors.Is(err, translog.ErrNotLogged) || len(got.got) != 0 {
			t.Errorf("control: a replica without copies: %v, %v", got.got, err)
		}
		r.logs.mu.Lock()
		r.logs.watch = copies
		r.logs.mu.Unlock()
		if got, err := look(); err != nil || len(got.got) != 1 || got.got[0].Revision == 0 {
			t.Errorf("a client that comes back: %v, %v", got.got, err)
		}
	})
}
