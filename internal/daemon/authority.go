package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
)

// AuthorityConfig is one directory process: the authorities whose keys it
// holds, and the addresses of those that others run.
type AuthorityConfig struct {
	Network   string
	Listen    string // host:port of the HTTP interface
	Signers   []*seal.Signer
	Threshold int
	Total     int      // authorities of the network, here and elsewhere
	Peers     []string // URLs of the other directory processes
	Params    directory.Params
	// Trust is by which others' signatures and documents are verified. The first
	// of its authorities makes the documents. The others sign what they would have
	// built themselves, serve what is published, and make what is due when those
	// before them do not.
	Trust directory.Trust
	// Store keeps what was signed, published and collected, and is closed with the
	// Authority; nil: files in StateDir. State says which one, for who opens it.
	Store registry.Store
	State setup.StoreConfig
	// StateDir is where it is kept what was seen, and without a Store what was
	// signed; "" for none, which is sound only if the keys end with the process.
	StateDir string
	Log      *slog.Logger // nil: none

	listener net.Listener              // for tests, in place of Listen
	client   *http.Client              // for tests; nil asks directly
	silent   bool                      // for tests of many hours: no bulletins
	bend     func(*directory.Bulletin) // for tests: what a lying authority says
	// Members, if not nil, are the identity keys of the nodes that may
	// publish; nil admits every node.
	Members func(identity []byte) bool
	// WitnessURLs are where the witnesses of Trust cosign this process's log.
	WitnessURLs []string
	// Controls are URLs of the control plane, which is told of events; none: nobody
	// is.
	Controls []string
}

// descriptorMax is the size of the largest descriptor that is read.
const descriptorMax = 64 << 10

// newsMax bounds the descriptors that wait to be passed on to one other process.
const newsMax = 1024

// runHeader names the run of a directory process in its answers: a node that sees
// another run posts its descriptor again, which may not have been kept.
const runHeader = "Nyx-Run"

// Authority serves a directory: it collects descriptors, makes the document of
// each epoch with the other authorities, and serves it.
type Authority struct {
	cfg      AuthorityConfig
	server   *http.Server
	listener net.Listener
	door     door
	cancel   context.CancelFunc
	running  sync.WaitGroup
	changed  chan struct{} // a descriptor came
	news     []chan []byte // descriptors that came, for each peer
	client   *http.Client
	log      *slog.Logger
	run      string
	began    int64 // second since 1970
	// restarted says that this process has signed before it began, and may not
	// have been given the nodes' descriptors again yet.
	restarted bool
	registry  *registry.Registry
	keptUntil int64        // the registry's revision at the start
	forgotten uint64       // epoch in which old descriptors were last dropped, of lead
	shelf     mirror.Shelf // of tables and buckets
	place     int          // in the order of authorities, the first of our keys
	own       *ownLog      // nil in a network without witnesses
	reads     *watcher     // likewise
	report    *reporter
	crier     *crier
	teller    *teller               // nil: no control plane
	plane     atomic.Pointer[plane] // whom it asks for rates; nil: nobody

	mu          sync.Mutex
	authorities []*directory.Authority
	document    []byte
	tag         string
	published   directory.Mark      // of document
	signed      directory.Mark      // the newest that we signed
	given       *directory.Document // its header and signatures, nil after a restart
	since       int64               // second at which our own was seen to differ from what is published; 0: it does not
	rested      time.Duration       // since 1970: the end of a turn of rest for each document of this epoch
	failures    int                 // to make a document, in a row
	notBefore   int64               // second before which it is not tried again
	makeErr     error
	followErr   error
}

// StartAuthority runs a directory process.
func StartAuthority(cfg AuthorityConfig) (*Authority, error) {
	a := &Authority{
		cfg: cfg, changed: make(chan struct{}, 1), client: cfg.client, log: logOrNone(cfg.Log),
		run: strconv.FormatUint(systemEntropy().Stream("run").Uint64(), 16), began: time.Now().Unix(),
		place: len(cfg.Trust.Authorities),
	}
	if a.client == nil {
		a.client = newHTTP()
	}
	for _, s := range cfg.Signers {
		one, err := directory.NewAuthority(directory.AuthorityConfig{
			Network: cfg.Network, Signer: s, Threshold: cfg.Threshold, Authorities: cfg.Total, Params: cfg.Params,
			Admit: a.admit,
		})
		if err != nil {
			return nil, err
		}
		i, ok := place(&cfg.Trust, s.Public())
		if !ok {
			return nil, errors.New("directory: a key is not one of the network's authorities")
		}
		a.place = min(a.place, i)
		a.authorities = append(a.authorities, one)
	}
	if len(a.authorities) == 0 {
		return nil, errors.New("directory: no authority key is configured")
	}
	var err error
	if a.crier, err = newCrier(&cfg); err != nil {
		return nil, err
	}
	if a.teller, err = newTeller(tellerConfig{network: cfg.Network, signer: cfg.Signers[0], controls: cfg.Controls, dir: cfg.StateDir, name: "authority", log: cfg.Log}); err != nil {
		return nil, err
	}
	a.report = newReporter(&cfg.Trust, cfg.StateDir, cfg.Log)
	a.report.tell = a.teller.evidence
	if a.teller != nil {
		a.plane.Store(a.teller.plane)
	}
	if a.own, err = openLog(&cfg, a.client, a.log); err != nil {
		return nil, err
	}
	if a.own != nil {
		if a.reads, err = newWatcher(&cfg.Trust, cfg.Peers, cfg.StateDir, a.client, a.log, a.report); err != nil {
			return nil, err
		}
		a.reads.own = a.own
	}
	if err := a.open(); err != nil {
		return nil, err
	}
	for range cfg.Peers {
		a.news = append(a.news, make(chan []byte, newsMax))
	}
	var peers *feed
	if len(cfg.Peers) > 0 {
		if peers, err = a.follow(); err != nil {
			return nil, err
		}
	}
	if a.listener = cfg.listener; a.listener == nil {
		if a.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("directory: cannot listen on %s: %w", cfg.Listen, err)
		}
	}
	a.server = newServer(a.handler())
	var ctx context.Context
	ctx, a.cancel = context.WithCancel(context.Background())
	a.running.Go(func() { a.door.serve(a.server, a.listener) })
	a.running.Go(func() { a.lead(ctx) })
	a.running.Go(func() { a.shareDescriptors(ctx) })
	a.running.Go(func() { a.shareDocuments(ctx) })
	if !cfg.silent {
		a.running.Go(func() { a.cry(ctx) })
	}
	a.teller.tell(audit.Event{Kind: audit.AdminAction, Action: "start", Subject: "authority"})
	for i, url := range cfg.Peers {
		a.running.Go(func() { a.tell(ctx, url, a.news[i]) })
	}
	if peers != nil {
		a.running.Go(func() { peers.run(ctx, a.followed) })
	}
	if a.own != nil {
		a.running.Go(func() { a.own.run(ctx) })
		a.running.Go(func() { a.reads.run(ctx) })
	}
	return a, nil
}

func (a *Authority) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+documentPath, a.serveDocument)
	a.shelf.Register(mux, false)
	mux.HandleFunc("POST "+descriptorPath, a.takeDescriptor)
	mux.HandleFunc("POST "+signPath, a.signFor)
	handleLogs(mux, a.own, a.reads)
	mux.HandleFunc("POST "+reportPath, a.takeReport)
	a.crier.register(mux)
	a.crier.share(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(runHeader, a.run)
		mux.ServeHTTP(w, r)
	})
}

// URL is the address of the HTTP interface.
func (a *Authority) URL() string { return "http://" + a.listener.Addr().String() }

// Params are the parameters of the documents made here.
func (a *Authority) Params() directory.Params { return a.authorities[0].Params() }

// Err is why a document could not be made, or that there is none of the present
// epoch, or nil.
func (a *Authority) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	epoch := a.epochAt(time.Now().Unix())
	switch {
	case a.makeErr == nil && a.published.Epoch >= epoch:
		return errors.Join(a.own.Err(), a.report.Err())
	case a.makeErr != nil:
		return a.makeErr
	case a.followErr != nil:
		return fmt.Errorf("directory: no document of epoch %d yet: %w", epoch, a.followErr)
	}
	return fmt.Errorf("directory: no document of epoch %d yet", epoch)
}

// Close stops the process.
func (a *Authority) Close() {
	a.cancel()
	a.server.Close()
	a.running.Wait()
	a.client.CloseIdleConnections()
	if p := a.plane.Load(); p != nil {
		p.close()
	}
	if err := a.teller.close(audit.Event{Kind: audit.AdminAction, Action: "stop", Subject: "authority"}); err != nil {
		a.log.Warn("events are not kept", "why", err)
	}
	if a.cfg.Store != nil {
		if err := a.cfg.Store.Close(); err != nil {
			a.log.Warn("the store was not closed well", "why", err)
		}
	}
}

func (a *Authority) admit(d *directory.Descriptor) error {
	if a.cfg.Members != nil && !a.cfg.Members(d.Identity) {
		return errors.New("not a member of this network")
	}
	return nil
}

func (a *Authority) serveDocument(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	document, tag := a.document, a.tag
	a.mu.Unlock()
	if document == nil {
		http.Error(w, "no document yet", http.StatusServiceUnavailable)
		return
	}
	mirror.ServeTagged(w, r, tag, document)
}

func (a *Authority) takeDescriptor(w http.ResponseWriter, r *http.Request) {
	b, ok := takeBody(w, r, "descriptor", descriptorMax)
	if !ok {
		return
	}
	news, err := a.collect(b)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), keepMax)
	defer cancel()
	if err := a.registry.Keep(ctx, b); err != nil {
		a.log.Warn("a descriptor is not acknowledged", "why", err)
		http.Error(w, "not kept; post again", http.StatusServiceUnavailable)
		return
	}
	if !news {
		return
	}
	for _, peer := range a.news {
		select {
		case peer <- b:
		default: // the node posts to all by itself, too
		}
	}
	a.wake()
}

// tell passes descriptors on to another process, so that those which reached one
// authority only, by fault or by intent, do not keep the authorities from building
// the same. One that is not taken is not tried again: the other has a newer one.
func (a *Authority) tell(ctx context.Context, url string, news <-chan []byte) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-news:
			if err := post(ctx, a.client, url, b); err != nil {
				a.log.Debug("descriptor not passed on", "why", err)
			}
		}
	}
}
