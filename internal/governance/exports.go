package governance

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/seal"
)

// Copier makes signed copies of the log. One that is begun again in a directory goes on
// after the last part that is in it, and calls done after each part.
type Copier interface {
	Copy(ctx context.Context, dir string, format audit.Format, f audit.Filter, now time.Time, done func(audit.Part)) (*audit.Manifest, error)
}

const (
	// exportsMost bounds the exports that are kept, exportKept how long.
	exportsMost = 1000
	exportKept  = 7 * day
	// atOnce is how many exports run at a time: others wait, and who writes the log
	// does not.
	atOnce = 2
	// exportTries is how often an export goes on by itself after a fault.
	exportTries = 10
	jobFile     = "job.json"
)

// State is how far an export is.
type State string

// States.
const (
	Waiting State = "waiting"
	Running State = "running"
	Done    State = "done"   // complete and signed
	Broken  State = "failed" // it goes on where it was when it is asked to
)

// Exports makes copies of the log, or reports of it, one after the other, in a directory
// of its own for each. What is not complete goes on when a process begins that has the directory.
// Methods are safe for concurrent use.
type Exports struct {
	cfg     ExportConfig
	cancel  context.CancelFunc
	running sync.WaitGroup
	wake    chan struct{}

	mu    sync.Mutex
	jobs  map[string]*job
	queue []string
	stats ExportStats
}

// ExportConfig says where exports lie and who makes them.
type ExportConfig struct {
	Dir string
	// One is what events call one of them; "" is "export".
	One      string
	Copier   Copier
	Recorder audit.Recorder
	Node     string
	Entropy  func([]byte)
	Now      func() time.Time
	Logger   *slog.Logger
	// Settled is told, by whoever made it, of each export that is complete or given
	// up; nil: nobody is.
	Settled func(id string, s State)
	// Unbounded runs all exports at once and Once gives one up at its first fault:
	// controls of scenarios.
	Unbounded, Once bool
}

// ExportStats is what exports have done since the process began.
type ExportStats struct {
	Done, Failed, Faults uint64
	// Durations are from the request to the signature, of the last 1,000.
	Durations []time.Duration
}

// job is an export, as it is kept.
type job struct {
	ID     string       `json:"id"`
	By     Subject      `json:"by"`
	Query  string       `json:"query"` // with the bounds of who asked, when they did
	Format audit.Format `json:"format"`
	Made   time.Time    `json:"made"`
	State  State        `json:"state"`
	Rows   int64        `json:"rows"`
	Parts  int          `json:"parts"`
	Tries  int          `json:"tries"`
}

// bounds are what is in the export.
func (j *job) bounds() (audit.Filter, Resource, error) {
	q, err := url.ParseQuery(j.Query)
	if err != nil {
		return audit.Filter{}, Resource{}, err
	}
	f, err := parseFilter(q)
	if err == nil && f.Sensitivity == nil {
		err = fmt.Errorf("governance: export %s is without bounds; make it anew", j.ID)
	}
	if err != nil {
		return audit.Filter{}, Resource{}, err
	}
	return f, resourceIn(&f, j.Made), nil
}

// OpenExports takes up the exports in a directory.
func OpenExports(cfg ExportConfig) (*Exports, error) {
	if cfg.One == "" {
		cfg.One = "export"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	x := &Exports{cfg: cfg, jobs: map[string]*job{}, wake: make(chan struct{}, 1)}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("governance: exports: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(cfg.Dir, "*", jobFile))
	if err != nil {
		return nil, fmt.Errorf("governance: exports: %w", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		j := &job{}
		if err == nil {
			err = json.Unmarshal(b, j)
		}
		if err != nil || j.ID != filepath.Base(filepath.Dir(name)) {
			return nil, fmt.Errorf("governance: %s is no export (%v); remove its directory", name, err)
		}
		x.jobs[j.ID] = j
		if j.State == Waiting || j.State == Running {
			j.State = Waiting
			x.queue = append(x.queue, j.ID)
		}
	}
	slices.SortFunc(x.queue, func(a, b string) int { return x.jobs[a].Made.Compare(x.jobs[b].Made) })
	ctx, cancel := context.WithCancel(context.Background())
	x.cancel = cancel
	workers := atOnce
	if cfg.Unbounded {
		workers = exportsMost
	}
	for range workers {
		x.running.Go(func() { x.work(ctx) })
	}
	x.next()
	return x, nil
}

// Close stops what runs; it goes on when the directory is opened again.
func (x *Exports) Close() {
	x.cancel()
	x.running.Wait()
}

// Stats is what exports have done.
func (x *Exports) Stats() ExportStats {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.stats
	s.Durations = slices.Clone(s.Durations)
	return s
}

// add makes an export wait for its turn.
func (x *Exports) add(s Subject, query string, format audit.Format, now time.Time) (job, error) {
	var drawn [10]byte
	x.cfg.Entropy(drawn[:])
	id := audit.NewID(now, drawn)
	j := &job{ID: id.String(), By: s, Query: query, Format: format, Made: now.UTC(), State: Waiting}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forget(now)
	if len(x.jobs) >= exportsMost {
		return job{}, &refusal{status: http.StatusServiceUnavailable, reason: "busy", say: "a thousand exports are kept; come again when some are a week old", retry: 3600}
	}
	if err := x.save(j); err != nil {
		return job{}, err
	}
	x.jobs[j.ID] = j
	x.queue = append(x.queue, j.ID)
	x.next()
	return *j, nil
}

// forget removes what is old.
func (x *Exports) forget(now time.Time) {
	for id, j := range x.jobs {
		if (j.State == Done || j.State == Broken) && now.Sub(j.Made) > exportKept {
			if err := os.RemoveAll(x.dir(id)); err != nil {
				x.cfg.Logger.Error("an old export cannot be removed", "export", id, "why", err)
				continue
			}
			delete(x.jobs, id)
		}
	}
}

// find returns an export.
func (x *Exports) find(id string) (job, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if j := x.jobs[id]; j != nil {
		return *j, true
	}
	return job{}, false
}

// resume lets an export that failed go on.
func (x *Exports) resume(id string) (job, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	j := x.jobs[id]
	if j == nil {
		return job{}, ErrNotFound
	}
	if j.State == Broken {
		j.State, j.Tries = Waiting, 0
		x.queue = append(x.queue, id)
		x.next()
	}
	return *j, x.save(j)
}

func (x *Exports) dir(id string) string { return filepath.Join(x.cfg.Dir, id) }

// save keeps what an export is, for the next process.
func (x *Exports) save(j *job) error {
	b, err := json.Marshal(j)
	if err == nil {
		err = os.MkdirAll(x.dir(j.ID), 0o700)
	}
	path := filepath.Join(x.dir(j.ID), jobFile)
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		err = fmt.Errorf("governance: an export: %w", err)
	}
	return err
}

// next wakes a worker, if one waits.
func (x *Exports) next() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// work makes exports until ctx ends.
func (x *Exports) work(ctx context.Context) {
	for {
		x.mu.Lock()
		var j *job
		if len(x.queue) > 0 && ctx.Err() == nil {
			j = x.jobs[x.queue[0]]
			x.queue = x.queue[1:]
			j.State = Running
		}
		if len(x.queue) > 0 {
			x.next()
		}
		x.mu.Unlock()
		if j != nil {
			x.run(ctx, j)
			continue
		}
		select {
		case <-x.wake:
		case <-ctx.Done():
			return
		}
	}
}

// run makes an export, or goes on with it.
func (x *Exports) run(ctx context.Context, j *job) {
	f, _, err := j.bounds()
	var m *audit.Manifest
	if err == nil {
		m, err = x.cfg.Copier.Copy(ctx, x.dir(j.ID), j.Format, f, j.Made, func(p audit.Part) {
			x.mu.Lock()
			j.Rows, j.Parts = j.Rows+p.Rows, j.Parts+1
			x.mu.Unlock()
		})
	}
	if err == nil {
		err = x.complete(ctx, j, m)
	}
	if ctx.Err() != nil {
		return
	}
	if settled := x.settle(j, m, err); settled != "" && x.cfg.Settled != nil {
		x.cfg.Settled(j.ID, settled)
	}
}

// settle notes how a try came out, and returns the state if it is the last one.
func (x *Exports) settle(j *job, m *audit.Manifest, err error) State {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case err == nil:
		j.State, j.Rows, j.Parts = Done, m.Rows(), len(m.Parts)
		x.stats.Done++
		x.stats.Durations = append(x.stats.Durations[max(0, len(x.stats.Durations)-999):], x.cfg.Now().Sub(j.Made))
	case j.Tries+1 < exportTries && !x.cfg.Once:
		j.Tries++
		j.State = Waiting
		x.stats.Faults++
		x.queue = append(x.queue, j.ID)
		x.next()
		return ""
	default:
		j.State = Broken
		x.stats.Faults++
		x.stats.Failed++
		x.cfg.Logger.Error("an export failed; it goes on when it is asked to", "export", j.ID, "why", err)
	}
	if err := x.save(j); err != nil {
		x.cfg.Logger.Error("the state of an export is not kept", "export", j.ID, "why", err)
	}
	return j.State
}

// complete records that a copy was made: of what, and by what it is known.
func (x *Exports) complete(ctx context.Context, j *job, m *audit.Manifest) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var drawn [10]byte
	x.cfg.Entropy(drawn[:])
	now := x.cfg.Now().UTC().Truncate(time.Millisecond)
	h := seal.SHA256(b)
	e := audit.Event{ID: audit.NewID(now, drawn), Time: now, Kind: audit.AuditExport, Severity: audit.Notice, Actor: j.By.Name, Org: j.By.Org, Subject: x.cfg.One + "/" + j.ID, Action: "complete", Count: 1, Sensitivity: 1,
		Details: []audit.Detail{{Key: "format", Value: string(j.Format)}, {Key: "rows", Value: strconv.FormatInt(m.Rows(), 10)}, {Key: "parts", Value: strconv.Itoa(len(m.Parts))},
			{Key: "first", Value: strconv.FormatInt(m.First, 10)}, {Key: "last", Value: strconv.FormatInt(m.Before-1, 10)}, {Key: "digest", Value: hex.EncodeToString(h[:])}}}
	return x.cfg.Recorder.Record(ctx, e)
}

// files lists what an export may be asked for: nothing else in its directory leaves.
func (x *Exports) files(j *job) (names []string, err error) {
	b, err := os.ReadFile(filepath.Join(x.dir(j.ID), "manifest.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var m audit.Manifest
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return nil, fmt.Errorf("governance: the manifest of export %s: %w", j.ID, err)
	}
	for _, p := range m.Parts {
		if filepath.Base(p.File) != p.File {
			return nil, fmt.Errorf("governance: the manifest of export %s names a file elsewhere", j.ID)
		}
		names = append(names, p.File)
	}
	if j.State == Done {
		names = append(names, "manifest.json", "manifest.sig")
	}
	return names, nil
}
