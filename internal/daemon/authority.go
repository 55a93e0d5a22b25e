package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
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
	// Leads says that this process makes the documents. The others sign what
	// they would have built themselves, and serve what the leader publishes;
	// one leader keeps two documents of one revision from being signed.
	Leads  bool
	Params directory.Params
	Trust  directory.Trust // by which a follower verifies what it serves
	// Members, if not nil, are the identity keys of the nodes that may
	// publish; nil admits every node.
	Members func(identity []byte) bool
}

const (
	// settle is how long after the last change a document is made, so that
	// nodes that start together stand in one document.
	settle = 150 * time.Millisecond
	// signPoll is how often a new epoch is looked for.
	signPoll = time.Second
	// descriptorMax is the size of the largest descriptor that is read.
	descriptorMax = 64 << 10
)

// Authority serves a directory: it collects descriptors, makes the document of
// each epoch with the other authorities, and serves it.
type Authority struct {
	cfg         AuthorityConfig
	server      *http.Server
	listener    net.Listener
	cancel      context.CancelFunc
	running     sync.WaitGroup
	changed     chan struct{}
	client      *http.Client
	mu          sync.Mutex
	authorities []*directory.Authority
	document    []byte
	tag         string
	epoch       uint64
	revision    uint32
	lastErr     error
}

// StartAuthority runs a directory process.
func StartAuthority(cfg AuthorityConfig) (*Authority, error) {
	a := &Authority{cfg: cfg, changed: make(chan struct{}, 1), client: newHTTP()}
	for _, s := range cfg.Signers {
		one, err := directory.NewAuthority(directory.AuthorityConfig{
			Network: cfg.Network, Signer: s, Threshold: cfg.Threshold, Authorities: cfg.Total, Params: cfg.Params,
			Admit: a.admit,
		})
		if err != nil {
			return nil, err
		}
		a.authorities = append(a.authorities, one)
	}
	if len(a.authorities) == 0 {
		return nil, errors.New("directory: no authority key is configured")
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("directory: cannot listen on %s: %w", cfg.Listen, err)
	}
	a.listener = ln
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+documentPath, a.serveDocument)
	mux.HandleFunc("POST "+descriptorPath, a.takeDescriptor)
	mux.HandleFunc("POST "+signPath, a.signFor)
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: feedTimeout, ReadTimeout: feedTimeout, IdleTimeout: 2 * feedPoll}
	var ctx context.Context
	ctx, a.cancel = context.WithCancel(context.Background())
	a.running.Add(2)
	go func() { defer a.running.Done(); a.server.Serve(ln) }()
	go func() {
		defer a.running.Done()
		if cfg.Leads {
			a.lead(ctx)
		} else {
			a.follow(ctx)
		}
	}()
	return a, nil
}

// URL is the address of the HTTP interface.
func (a *Authority) URL() string { return "http://" + a.listener.Addr().String() }

// Params are the parameters of the documents made here.
func (a *Authority) Params() directory.Params { return a.authorities[0].Params() }

// Err is why the last document could not be made, or nil.
func (a *Authority) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lastErr
}

// Close stops the process.
func (a *Authority) Close() {
	a.cancel()
	a.server.Close()
	a.running.Wait()
	a.client.CloseIdleConnections()
}

func (a *Authority) admit(d *directory.Descriptor) error {
	if a.cfg.Members != nil && !a.cfg.Members(d.Identity) {
		return errors.New("not a member of this network")
	}
	return nil
}

// lead makes a document when descriptors changed and when an epoch begins.
func (a *Authority) lead(ctx context.Context) {
	tick := time.NewTicker(signPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.changed:
			a.awaitQuiet(ctx)
			a.make(ctx, true)
		case <-tick.C:
			a.make(ctx, false)
		}
	}
}

// awaitQuiet waits until nothing has changed for a moment.
func (a *Authority) awaitQuiet(ctx context.Context) {
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.changed:
			quiet.Reset(settle)
		case <-quiet.C:
			return
		}
	}
}

// make builds, signs and publishes the document of the present epoch.
func (a *Authority) make(ctx context.Context, changed bool) {
	d, err := a.build(time.Now().Unix(), changed)
	if d == nil && err == nil {
		return
	}
	if err == nil {
		err = a.gather(ctx, d)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lastErr = err; err == nil {
		a.publish(d)
	}
}

// build makes the document of the present epoch, if it is wanted, with the
// signatures of our own authorities.
func (a *Authority) build(wall int64, changed bool) (*directory.Document, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := a.authorities[0]
	epoch := first.Params().EpochAt(wall)
	if first.Len() == 0 || epoch == a.epoch && !changed {
		return nil, nil
	}
	revision := uint32(0)
	if epoch == a.epoch {
		revision = a.revision + 1
	}
	d, err := first.Build(epoch, revision)
	if err != nil {
		return nil, err
	}
	for _, own := range a.authorities {
		if err := own.Sign(d, wall); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// publish serves a document from now on. The lock is held.
func (a *Authority) publish(d *directory.Document) {
	a.document, a.epoch, a.revision = d.Encode(), d.Epoch, d.Revision
	hash := d.Hash()
	a.tag = `"` + hex.EncodeToString(hash[:8]) + `"`
}

// follow serves what the leader publishes.
func (a *Authority) follow(ctx context.Context) {
	f, err := newFeed(a.cfg.Trust, a.cfg.Peers, signPoll, func(v *directory.View) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.publish(v.Document())
	})
	if err != nil {
		a.mu.Lock()
		a.lastErr = err
		a.mu.Unlock()
		return
	}
	f.run(ctx, func(err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.lastErr = err
	})
}

// gather collects the signatures of other processes until there are enough.
func (a *Authority) gather(ctx context.Context, d *directory.Document) error {
	have := len(a.authorities)
	var errs []error
	for _, url := range a.cfg.Peers {
		if have >= a.cfg.Threshold {
			break
		}
		n, err := a.askPeer(ctx, url, d)
		if err != nil {
			errs = append(errs, fmt.Errorf("authority at %s: %w", url, err))
		}
		have += n
	}
	if have < a.cfg.Threshold {
		return fmt.Errorf("directory: epoch %d has %d signatures of %d needed: %w", d.Epoch, have, a.cfg.Threshold, errors.Join(errs...))
	}
	return nil
}

// askPeer has another directory process sign, and returns how many signatures
// came.
func (a *Authority) askPeer(ctx context.Context, url string, d *directory.Document) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(url, "/")+signPath, strings.NewReader(string(d.Encode())))
	if err != nil {
		return 0, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, documentMax))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, errors.New(strings.TrimSpace(string(b)))
	}
	signed, err := directory.ParseDocument(b)
	if err != nil {
		return 0, err
	}
	before := len(d.Signatures())
	if err := d.Merge(signed); err != nil {
		return 0, err
	}
	return len(d.Signatures()) - before, nil
}

func (a *Authority) serveDocument(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	document, tag := a.document, a.tag
	a.mu.Unlock()
	if document == nil {
		http.Error(w, "no document yet", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.Write(document)
}

func (a *Authority) takeDescriptor(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, descriptorMax))
	if err != nil {
		http.Error(w, "descriptor too large or cut off", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.authorities {
		if _, err := one.Collect(b, time.Now().Unix()); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
	}
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// signFor signs the leader's document, which carries its signature, if it is
// what we would build.
func (a *Authority) signFor(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, documentMax))
	if err != nil {
		http.Error(w, "document too large or cut off", http.StatusBadRequest)
		return
	}
	if a.cfg.Leads {
		http.Error(w, "this authority makes the documents; it signs nobody else's", http.StatusForbidden)
		return
	}
	d, err := directory.ParseDocument(b)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !d.Vouched(&a.cfg.Trust) {
		http.Error(w, "only what another authority has signed is signed here", http.StatusForbidden)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, own := range a.authorities {
		if err := own.Sign(d, time.Now().Unix()); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
	}
	w.Write(d.Encode())
}
