package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/trace"
)

// ReplicaConfig is one replica of the directory.
type ReplicaConfig struct {
	Listen string // host:port
	// Key is what the certificate is for.
	Key *[front.KeySize]byte
	// Trust is by whom documents must be signed, Authorities are the URLs to fetch
	// them from.
	Trust       directory.Trust
	Authorities []string
	Poll        time.Duration // 0: replicaPoll
	// StateDir is where the snapshot and the mark of the newest document are kept;
	// "" for none.
	StateDir string
	// Cache keeps encoded buckets for TTL; 0: none is kept.
	// CacheServer says which one, for who opens it; "" is one in the process.
	Cache       mirror.Cache
	CacheServer string
	TTL         time.Duration
	Log         *slog.Logger // nil: none

	listener net.Listener // for tests, in place of Listen; without TLS
	client   *http.Client // for tests
}

// replicaPoll is how often a replica looks for a new document: what clients get
// is older than what the authorities have by half of it.
const replicaPoll = 2 * time.Second

// snapshotDir holds a replica's snapshot in its state directory.
const snapshotDir = "snapshot"

// Replica mirrors the documents and bulletins of the authorities and serves them. It
// can withhold and be late; it cannot change what they have signed.
type Replica struct {
	cfg      ReplicaConfig
	shelf    mirror.Shelf
	notices  noticeboard
	asker    *mirror.Asker
	server   *http.Server
	listener net.Listener
	door     door
	cancel   context.CancelFunc
	running  sync.WaitGroup
	url      string
	log      *slog.Logger
	health
	rebuilt time.Duration
	report  *reporter
	logs    *watcher // copies of the logs, by which documents are proven; nil: none is demanded
}

// StartReplica runs a replica. It serves what its snapshot holds at once.
func StartReplica(cfg ReplicaConfig) (*Replica, error) {
	r := &Replica{cfg: cfg, log: logOrNone(cfg.Log), health: health{log: logOrNone(cfg.Log)}}
	r.shelf.Cache, r.shelf.TTL, r.shelf.Shared = cfg.Cache, cfg.TTL, cfg.CacheServer != ""
	var err error
	if r.asker, err = newAsker(nil, cfg.Authorities, cfg.client, systemEntropy().Stream("replica"), cfg.Log); err != nil {
		return nil, err
	}
	if r.notices.board, err = directory.NewBoard(cfg.Trust); err != nil {
		return nil, err
	}
	r.notices.bind()
	bulletins, err := newAsker(nil, cfg.Authorities, cfg.client, systemEntropy().Stream("bulletins"), cfg.Log)
	if err != nil {
		return nil, err
	}
	r.report = newReporter(&cfg.Trust, cfg.StateDir, cfg.Log)
	if cfg.Trust.WitnessThreshold > 0 {
		client := cfg.client
		if client == nil {
			client = newHTTP()
		}
		if r.logs, err = newWatcher(&cfg.Trust, cfg.Authorities, cfg.StateDir, client, r.log, r.report); err != nil {
			return nil, err
		}
	}
	poll := cfg.Poll
	if poll == 0 {
		poll = replicaPoll
	}
	feed, err := newFeed(feedConfig{
		trust: cfg.Trust, urls: cfg.Authorities, poll: poll, dir: cfg.StateDir, mark: "replica.newest", client: cfg.client,
		deliver: r.take, report: r.report,
	})
	if err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	feed.read(r.asker, nil)
	r.rebuild()
	if err := r.listen(); err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	r.running.Go(func() {
		if r.cfg.listener != nil {
			r.server.Serve(r.listener)
			return
		}
		if err := mirror.Serve(r.server, r.listener, r.cfg.Key, r.door.turn); !errors.Is(err, http.ErrServerClosed) {
			r.log.Error("the replica does not serve", "why", err)
		}
	})
	r.running.Go(func() { feed.run(ctx, func(err error) { r.note(following, err) }) })
	r.running.Go(func() {
		defer bulletins.Close()
		r.notices.follow(ctx, &reading{asker: bulletins})
	})
	if r.logs != nil {
		r.running.Go(func() { r.logs.run(ctx) })
	}
	return r, nil
}

func (r *Replica) listen() (err error) {
	mux := http.NewServeMux()
	r.shelf.Register(mux, true)
	r.notices.register(mux)
	handleLogs(mux, nil, r.logs)
	if r.listener = r.cfg.listener; r.listener != nil {
		r.server = newServer(mux)
		return nil
	}
	r.server = mirror.NewServer(mux)
	if r.listener, err = net.Listen("tcp", r.cfg.Listen); err != nil {
		return fmt.Errorf("replica: cannot listen on %s: %w", r.cfg.Listen, err)
	}
	r.url = "https://" + r.listener.Addr().String()
	return nil
}

// URL is where the replica serves.
func (r *Replica) URL() string { return r.url }

// rebuild puts on the shelf what the snapshot holds. What of it is lost is
// fetched with the next document.
func (r *Replica) rebuild() {
	if r.cfg.StateDir == "" {
		return
	}
	begun := time.Now()
	d, err := mirror.Rebuild(filepath.Join(r.cfg.StateDir, snapshotDir), &r.cfg.Trust, begun.Unix())
	switch {
	case err != nil:
		r.log.Warn("the snapshot is not served", "why", err)
	case d != nil:
		r.shelf.Put(d)
		r.rebuilt = time.Since(begun)
		r.log.Info("snapshot served", "epoch", d.Epoch, "nodes", d.Count, "took", r.rebuilt)
	}
}

// take serves a document from now on, and after a restart.
func (r *Replica) take(v *directory.View) {
	d := v.Document()
	if r.logs != nil { // who is given the document asks for its proof next
		ctx, cancel := context.WithTimeout(context.Background(), witnessTimeout)
		r.logs.read(ctx)
		cancel()
	}
	r.shelf.Put(d)
	r.log.Info("document mirrored", "epoch", d.Epoch, "revision", d.Revision, "nodes", d.Count)
	if r.cfg.StateDir == "" {
		return
	}
	if err := mirror.Save(filepath.Join(r.cfg.StateDir, snapshotDir), d); err != nil {
		r.log.Warn("after a restart there will be no document at first", "why", err)
	}
}

// Close stops the replica.
func (r *Replica) Close() error {
	r.cancel()
	err := r.server.Close()
	r.running.Wait()
	r.asker.Close()
	if r.cfg.Cache != nil {
		r.cfg.Cache.Close()
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

func (r *Replica) part() part {
	p := newPart("replica", trace.Counts{}, r.Err())
	p.asker, p.shelf, p.door, p.rebuilt = r.asker, &r.shelf, &r.door, r.rebuilt
	p.logs = &logFigures{evidence: r.report.count()}
	return p
}

func startConfiguredReplica(cfg *setup.Config, keys *keyring, start func(ReplicaConfig) (*Replica, error), log *slog.Logger) (*Replica, error) {
	if start == nil {
		return nil, errNoServer
	}
	key, err := keys.replica()
	if err != nil {
		return nil, err
	}
	return start(ReplicaConfig{
		Listen: cfg.Replicate.Listen.String(), Key: key, Trust: cfg.Network.Trust, Authorities: cfg.Directories, Poll: cfg.Poll,
		StateDir: cfg.State, CacheServer: cfg.Replicate.CacheServer, TTL: cfg.Replicate.Cache, Log: log,
	})
}
