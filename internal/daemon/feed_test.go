package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/wire"
)

// shopwindow serves what it is told to.
type shopwindow struct {
	status   int // of documents, if not 200
	refuse   int // of descriptors, if not 200
	document []byte
	run      string
	posted   [][]byte
}

func (s *shopwindow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	turns.Load()
	w.Header().Set(runHeader, s.run)
	if r.Method == http.MethodPost {
		b, _ := io.ReadAll(r.Body)
		s.posted = append(s.posted, b)
		if s.refuse != 0 {
			w.WriteHeader(s.refuse)
		}
		return
	}
	if s.status != 0 {
		w.WriteHeader(s.status)
		return
	}
	w.Write(s.document)
}

// serve runs handlers on hosts until the returned function is called.
func (w *wires) serve(handlers map[string]http.Handler) (stop func()) {
	var servers []*http.Server
	for host, h := range handlers {
		s := newServer(h)
		servers = append(servers, s)
		ln := w.listen(host)
		go s.Serve(ln)
	}
	return func() {
		for _, s := range servers {
			s.Close()
		}
	}
}

// documents are revisions of the present epoch, signed by one authority.
func documents(t *testing.T, n int) (trust directory.Trust, all [][]byte) {
	t.Helper()
	signer, err := newSigner(prng.FromUint64(1), "authority")
	if err != nil {
		t.Fatal(err)
	}
	trust = directory.Trust{Network: localName, Threshold: 1, Authorities: [][]byte{signer.Public()}}
	a, err := directory.NewAuthority(directory.AuthorityConfig{Network: localName, Signer: signer, Threshold: 1, Authorities: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := a.Collect(descriptor(t, i), time.Now().Unix()); err != nil {
			t.Fatal(err)
		}
		d, err := a.Build(present(), uint32(i))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Sign(d, time.Now().Unix()); err != nil {
			t.Fatal(err)
		}
		all = append(all, d.Encode())
	}
	return trust, all
}

// A feed does not go back behind what it has seen, before a restart either.
// Without what it keeps on disk (the control) it would.
func TestNewestMarkOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust, docs := documents(t, 3)
		w, dir := newWires(), t.TempDir()
		shop := &shopwindow{document: docs[1]}
		defer w.serve(map[string]http.Handler{"shop": shop})()
		var got []uint32
		start := func(dir string) *feed {
			f, err := newFeed(feedConfig{trust: trust, urls: []string{"http://shop/"}, dir: dir, mark: "client.newest", client: w.client(),
				deliver: func(v *directory.View) { got = append(got, v.Document().Revision) }})
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		f := start(dir)
		if err := f.fetch(t.Context(), "http://shop"); err != nil || len(got) != 1 || got[0] != 1 {
			t.Fatalf("revisions %v, %v", got, err)
		}
		shop.document = docs[0]
		for _, f := range []*feed{f, start(dir), start(dir)} {
			if err := f.fetch(t.Context(), "http://shop"); !errors.Is(err, directory.ErrRollback) || len(got) != 1 {
				t.Errorf("an older document: revisions %v, %v", got, err)
			}
		}
		if err := start("").fetch(t.Context(), "http://shop"); err != nil || len(got) != 2 {
			t.Errorf("control: without a mark: revisions %v, %v", got, err)
		}
		// Where the mark cannot be kept, the document is used and the fault is
		// told; it is kept as soon as it can be.
		shop.document = docs[2]
		gone := filepath.Join(dir, "gone")
		f = start(dir)
		f.dir = gone
		if err := f.fetch(t.Context(), "http://shop"); !contains(err, "cannot keep the mark") || got[len(got)-1] != 2 {
			t.Errorf("without a disk: revisions %v, %v", got, err)
		}
		if err := os.Mkdir(gone, 0o700); err != nil {
			t.Fatal(err)
		}
		shop.status = http.StatusNotModified
		if err := f.fetch(t.Context(), "http://shop"); err != nil {
			t.Error(err)
		}
		if m, err := loadMark(gone, "client.newest"); err != nil || m.Revision != 2 {
			t.Errorf("kept %+v, %v", m, err)
		}
		shop.status = http.StatusTeapot
		if err := f.fetch(t.Context(), "http://shop"); !contains(err, "418") {
			t.Errorf("an answer that is none: %v", err)
		}
		if err := f.fetch(t.Context(), "http://nobody"); !contains(err, "no route to nobody") {
			t.Errorf("nobody there: %v", err)
		}
		if err := f.fetch(t.Context(), "::"); err == nil {
			t.Error("an address that is none")
		}
		if err := post(t.Context(), w.client(), "::", nil); err == nil {
			t.Error("posted to an address that is none")
		}
	})
}

// A node's descriptor is with every directory server: the same again at one that
// was away or has restarted, a new one every hour and when it has changed.
func TestDescriptorsAreKeptPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust, docs := documents(t, 1)
		w := newWires()
		one, two := &shopwindow{run: "1", document: docs[0]}, &shopwindow{run: "1", document: docs[0], refuse: 500}
		defer w.serve(map[string]http.Handler{"one": one, "two": two})()
		cfg, err := localNode(LocalConfig{Streams: 2}, 0, prng.FromUint64(99), directory.Params{})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Trust, cfg.Directories, cfg.Poll, cfg.client = trust, []string{"http://one", "http://two"}, 10*time.Second, w.client()
		cfg.Advertise = netip.MustParseAddrPort("127.1.0.1:9000")
		n := &Node{cfg: cfg, changed: make(chan struct{}, 1), forgot: make(chan string), health: health{log: logOrNone(nil)}}
		if n.onions, err = newOnions(cfg.Onions, cfg.Params, time.Now().Unix()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); n.running.Wait() }()
		n.running.Go(func() { n.keepPublished(ctx) })
		advance(time.Minute)
		if len(one.posted) != 1 || len(two.posted) < 3 || string(two.posted[2]) != string(one.posted[0]) {
			t.Errorf("%d and %d posts; want one where it was taken, and the same tried where it was not", len(one.posted), len(two.posted))
		}
		if err := n.Err(); !contains(err, "refused the descriptor") {
			t.Errorf("while it is not taken: %v", err)
		}
		two.refuse = 0
		advance(feedPoll)
		if err := n.Err(); err != nil {
			t.Errorf("when it is taken: %v", err)
		}
		tried := len(two.posted)
		advance(10 * time.Minute)
		if len(one.posted) != 1 || len(two.posted) != tried {
			t.Error("what all servers have is posted again")
		}
		f, err := newFeed(feedConfig{trust: trust, urls: cfg.Directories, client: w.client(), deliver: func(*directory.View) {},
			restarted: func(url string) { n.forgot <- url }})
		if err != nil {
			t.Fatal(err)
		}
		n.running.Go(func() { f.run(ctx, func(error) {}) })
		advance(2 * time.Minute)
		one.run = "2"
		one.status = http.StatusServiceUnavailable // it has no document any more
		advance(2 * time.Minute)
		if len(one.posted) != 2 || string(one.posted[1]) != string(one.posted[0]) || len(two.posted) != tried {
			t.Errorf("a server has restarted: %d and %d posts", len(one.posted), len(two.posted)-tried)
		}
		n.changed <- struct{}{}
		advance(time.Second)
		last := len(one.posted)
		if string(one.posted[last-1]) == string(one.posted[0]) || string(two.posted[len(two.posted)-1]) != string(one.posted[last-1]) {
			t.Error("a changed descriptor is not with both servers")
		}
		advance(republish)
		if len(one.posted) != last+1 {
			t.Errorf("%d posts within an hour, want 1", len(one.posted)-last)
		}
	})
}

// A peer that sends no request, reads no answer, or does neither for long, does
// not hold a connection of a directory server or a status page.
func TestServersLetNobodyHoldThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWires()
		var wrote atomic.Int64 // nanoseconds until the answer was given up
		begun := time.Now()
		defer w.serve(map[string]http.Handler{"server": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/short" {
				return
			}
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					wrote.Store(int64(time.Since(begun)))
					return
				}
			}
		})})()
		dial := func(say string) net.Conn {
			t.Helper()
			c, err := w.dial(t.Context(), "", "server:80")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if _, err := c.Write([]byte(say)); err != nil {
				t.Fatal(err)
			}
			return c
		}
		silent := dial("GET /")
		deaf := dial("GET /long HTTP/1.1\r\nHost: server\r\n\r\n")
		idle := dial("GET /short HTTP/1.1\r\nHost: server\r\n\r\n")
		var reading sync.WaitGroup
		for name, c := range map[string]net.Conn{"silent": silent, "idle": idle} {
			reading.Go(func() {
				io.Copy(io.Discard, c)
				if held := time.Since(begun); held > 2*feedPoll+time.Second {
					t.Errorf("the %s connection was held for %v", name, held)
				}
			})
		}
		reading.Wait()
		if got := time.Duration(wrote.Load()); got == 0 || got > 2*feedTimeout+time.Second {
			t.Errorf("an answer that nobody reads was given up after %v", got)
		}
		deaf.Close()
	})
}

// What an exit answers becomes the proxy's error.
func TestStatusErrors(t *testing.T) {
	for status, want := range map[wire.Status]error{
		wire.StatusOK: nil, wire.StatusNotAllowed: proxy.ErrNotAllowed, wire.StatusUnreachable: proxy.ErrHostUnreachable,
		wire.StatusNoHost: proxy.ErrHostUnreachable, wire.StatusRefused: proxy.ErrRefused, wire.StatusTimeout: proxy.ErrTTL,
	} {
		if got := statusError(status); !errors.Is(got, want) || want == nil && got != nil {
			t.Errorf("%v: %v, want %v", status, got, want)
		}
	}
	if statusError(wire.StatusBusy) == nil {
		t.Error("an exit without room is no success")
	}
}
