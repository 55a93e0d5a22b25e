// Package daemon assembles roles into a process: directory authorities, Mix
// nodes, Stream nodes and clients, each with its machine, socket and host. It
// is the only place that does.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/mirror"
)

// Paths of the directory's HTTP interface (docs/protocol.md, section 7).
const (
	documentPath   = mirror.DocumentPath
	descriptorPath = "/nyx/v1/descriptor"
	signPath       = "/nyx/v1/sign"
)

const (
	// feedPoll is how often a node or client asks for a newer document, and
	// feedFirst how soon it asks again after a change; in between, the interval
	// doubles.
	feedPoll  = 30 * time.Second
	feedFirst = 50 * time.Millisecond
	// documentMax is the size of the largest document that is read: the
	// greatest number of nodes at 8 KiB each.
	documentMax = directory.MaxNodes * 8 << 10
)

// feedConfig is where a feed looks, and what becomes of what it finds.
type feedConfig struct {
	trust directory.Trust
	urls  []string
	poll  time.Duration // 0 means feedPoll
	// dir and mark say where the mark of the newest document is kept, so that a
	// restart does not believe an older one; "" keeps none.
	dir, mark string
	client    *http.Client // nil asks directly
	deliver   func(*directory.View)
	// restarted is told, if not nil, of a server that has forgotten what it was
	// given.
	restarted func(url string)
	// unlogged takes documents that no log has yet: those who keep the logs do.
	unlogged bool
	report   *reporter // nil: told to nobody
}

// feed fetches directory documents, verifies them and passes them on.
type feed struct {
	feedConfig
	keeper *directory.Keeper
	reader *mirror.Reader // nil: the servers are asked in turn
	logged *logged
	tag    string
	kept   directory.Mark
	runs   map[string]string // of each server, as it named it last
	wanted chan struct{}     // somebody has word of a newer document
}

func newFeed(cfg feedConfig) (*feed, error) {
	if len(cfg.urls) == 0 {
		return nil, errors.New("no directory address is configured; set directory.urls")
	}
	newest, err := loadMark(cfg.dir, cfg.mark)
	if err != nil {
		return nil, err
	}
	keeper, err := directory.NewKeeper(cfg.trust, newest)
	if err != nil {
		return nil, err
	}
	if cfg.poll == 0 {
		cfg.poll = feedPoll
	}
	if cfg.client == nil {
		cfg.client = newHTTP()
	}
	if cfg.report == nil {
		cfg.report = newReporter(&cfg.trust, cfg.dir, nil)
	}
	f := &feed{feedConfig: cfg, keeper: keeper, kept: newest, runs: map[string]string{}, wanted: make(chan struct{}, 1)}
	keeper.OnConflict(cfg.report.documents)
	if !cfg.unlogged {
		f.logged, err = newLogged(&cfg.trust, cfg.dir, strings.TrimSuffix(cfg.mark, ".newest"), cfg.report)
	}
	return f, err
}

// run fetches until ctx ends. The first document is waited for eagerly; a
// failure is reported to failed, and tried again.
func (f *feed) run(ctx context.Context, failed func(error)) {
	defer f.client.CloseIdleConnections()
	wait := feedFirst
	for i := 0; ; i++ {
		before := f.tag
		err := f.look(ctx, i)
		if ctx.Err() != nil {
			return
		}
		failed(err)
		if wait = min(2*wait, f.poll); f.tag != before {
			wait = feedFirst // a change seldom comes alone
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		case <-f.wanted:
			pause(ctx, feedFirst) // whoever asks, no more than so often
		}
	}
}

// want has a newer document looked for soon.
func (f *feed) want() {
	select {
	case f.wanted <- struct{}{}:
	default:
	}
}

// fetch asks one directory server.
func (f *feed) fetch(ctx context.Context, url string) error {
	got, err := exchange(ctx, f.client, request{server: url, path: documentPath, tag: f.tag, most: documentMax})
	if got.Response != nil {
		f.noteRun(url, got.Header.Get(runHeader))
	}
	switch {
	case err != nil:
		return fmt.Errorf("directory %s: %w", url, err)
	case got.StatusCode == http.StatusNotModified:
		return f.keepMark()
	case got.StatusCode == http.StatusServiceUnavailable:
		return fmt.Errorf("directory %s has no document yet; it waits for its nodes", url)
	case !got.ok():
		return fmt.Errorf("directory %s answers %s", url, got.Status)
	}
	f.demand(ctx, func(*directory.Document) asks {
		return func(ctx context.Context, path string, most int64, take func([]byte) error) error {
			b, err := ask(ctx, f.client, url, path, most)
			if err != nil {
				return err
			}
			return take(b)
		}
	})
	d, err := f.keeper.Accept(got.body, time.Now().Unix())
	if err != nil {
		return fmt.Errorf("directory %s: %w", url, err)
	}
	v, err := directory.NewView(d)
	if err != nil {
		return fmt.Errorf("directory %s: %w", url, err)
	}
	f.tag = got.Header.Get("ETag")
	f.deliver(v)
	return f.keepMark()
}

// keepMark keeps the newest mark, again until it is kept. A full disk costs the
// protection over a restart, which is said, and not the document.
func (f *feed) keepMark() error {
	m := f.keeper.Newest()
	if m == f.kept {
		return nil
	}
	if err := saveMark(f.dir, f.mark, m); err != nil {
		return err
	}
	f.kept = m
	return nil
}

// noteRun looks whether a server has restarted since it was last asked.
func (f *feed) noteRun(url, run string) {
	last, known := f.runs[url]
	if f.runs[url] = run; known && last != run && f.restarted != nil {
		f.restarted(url)
	}
}

// publish posts a signed descriptor to directory servers, and returns those
// that have not taken it, and why.
func publish(ctx context.Context, client *http.Client, urls []string, descriptor []byte) (lacking []string, err error) {
	var errs []error
	for _, url := range urls {
		if err := post(ctx, client, url, descriptor); err != nil {
			lacking, errs = append(lacking, url), append(errs, err)
		}
	}
	return lacking, errors.Join(errs...)
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	got, err := exchange(ctx, client, request{server: url, path: descriptorPath, post: body, most: 1 << 10})
	if err != nil {
		return fmt.Errorf("directory %s: %w", url, err)
	}
	if !got.ok() {
		return fmt.Errorf("directory %s refused the descriptor: %s", url, got.said())
	}
	return nil
}
