package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
)

// WitnessConfig is a witness of a network's logs.
type WitnessConfig struct {
	Trust  directory.Trust
	Signer *seal.Signer // one of the witnesses of Trust
	Listen string       // host:port of the HTTP interface
	// Directories are where the logs are read; none where nobody else has one.
	Directories []string
	// StateDir is where it is kept what was cosigned and read; "" for none, which is
	// sound only if the key ends with the process.
	StateDir string
	Log      *slog.Logger // nil: none

	listener net.Listener // for tests, in place of Listen
	client   *http.Client // for tests; nil asks directly
}

// Witness cosigns checkpoints of the authorities' logs, and watches the logs.
type Witness struct {
	policy   *translog.Policy
	server   *http.Server
	listener net.Listener
	door     door
	cancel   context.CancelFunc
	running  sync.WaitGroup
	report   *reporter

	mu   sync.Mutex
	core *translog.Witness
}

// StartWitness runs a witness.
func StartWitness(cfg WitnessConfig) (*Witness, error) {
	w := &Witness{policy: translog.NewPolicy(&cfg.Trust), report: newReporter(&cfg.Trust, cfg.StateDir, cfg.Log)}
	if err := w.policy.Check(); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	if err := w.load(&cfg); err != nil {
		return nil, err
	}
	client := cfg.client
	if client == nil {
		client = newHTTP()
	}
	watch, err := newWatcher(&cfg.Trust, cfg.Directories, cfg.StateDir, client, logOrNone(cfg.Log), w.report)
	if err != nil {
		return nil, err
	}
	if w.listener = cfg.listener; w.listener == nil {
		if w.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("witness: cannot listen on %s: %w", cfg.Listen, err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+witnessPath, w.addCheckpoint)
	w.server = newServer(mux)
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	w.running.Go(func() { w.door.serve(w.server, w.listener) })
	w.running.Go(func() { watch.run(ctx) })
	return w, nil
}

// load makes the core, from what was cosigned before.
func (w *Witness) load(cfg *WitnessConfig) (err error) {
	path := func(origin string) string {
		return filepath.Join(cfg.StateDir, "cosigned-"+logID(origin)+setup.CheckpointSuffix)
	}
	keep := func(c translog.Checkpoint, note []byte) error {
		if cfg.StateDir == "" {
			return nil
		}
		return setup.SaveNote(path(c.Origin), note)
	}
	var notes [][]byte
	for _, key := range w.policy.Authorities {
		if cfg.StateDir == "" {
			break
		}
		note, err := setup.LoadNote(path(translog.Origin(w.policy.Network, key)))
		if err != nil {
			return err
		}
		if note != nil {
			notes = append(notes, note)
		}
	}
	w.core, err = translog.NewWitness(w.policy, cfg.Signer, keep, notes...)
	return err
}

// URL is the address of the HTTP interface.
func (w *Witness) URL() string { return "http://" + w.listener.Addr().String() }

// Err is what the witness has found, or nil.
func (w *Witness) Err() error { return w.report.Err() }

// Close stops the witness.
func (w *Witness) Close() {
	w.cancel()
	w.server.Close()
	w.running.Wait()
}

// addCheckpoint answers a log (tlog-witness).
func (w *Witness) addCheckpoint(rw http.ResponseWriter, r *http.Request) {
	b, ok := takeBody(rw, r, "request", translog.MaxProofSize)
	if !ok {
		return
	}
	req, err := translog.ParseRequest(b)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	line, stands, err := w.core.Cosign(req, time.Now().Unix())
	w.mu.Unlock()
	switch {
	case err == nil:
		rw.Write(line)
	case errors.Is(err, translog.ErrSize):
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprintf(rw, "%d\n", stands)
	case errors.Is(err, translog.ErrInconsistent):
		w.forked(req)
		http.Error(rw, err.Error(), http.StatusUnprocessableEntity)
	case errors.Is(err, translog.ErrOrigin):
		http.Error(rw, err.Error(), http.StatusNotFound)
	case errors.Is(err, translog.ErrSignature):
		http.Error(rw, err.Error(), http.StatusForbidden)
	case errors.Is(err, translog.ErrMalformed):
		http.Error(rw, err.Error(), http.StatusBadRequest)
	default:
		http.Error(rw, err.Error(), http.StatusInternalServerError)
	}
}

// forked tells of two checkpoints of one size. Of two sizes the wrong proof may be
// anybody's who repeats a log's note; that the log forks is then found by the watch.
func (w *Witness) forked(req *translog.Request) {
	c, _, err := w.policy.Open(req.Note)
	if err != nil {
		return
	}
	w.mu.Lock()
	last, note := w.core.Newest(c.Origin)
	w.mu.Unlock()
	if last.Size == c.Size {
		w.report.fork(w.policy, note, req.Note)
	}
}

func startConfiguredWitness(cfg *setup.Config, keys *keyring, start func(WitnessConfig) (*Witness, error), log *slog.Logger) (*Witness, error) {
	if start == nil {
		return nil, errNoServer
	}
	signer, err := keys.witness()
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(cfg.Network.Trust.Witnesses, func(k []byte) bool { return bytes.Equal(k, signer.Public()) }) {
		return nil, fmt.Errorf("the network file does not name the witness whose key is in %s", keys.where())
	}
	return start(WitnessConfig{
		Trust: cfg.Network.Trust, Signer: signer, Listen: cfg.WitnessAt.String(), Directories: cfg.Directories, StateDir: cfg.State, Log: log,
	})
}
