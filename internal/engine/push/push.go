// Package push sends telemetry to who collects it by HTTP, a body at a time, and keeps what
// nobody takes now in a spool (package spool) until somebody does.
//
// One goroutine for each place does all of it, in this order:
//
//  1. When it is time, what there is to tell is gathered and sent: the live body. It waits
//     for one body of the backlog at most, so that the backlog starves nobody.
//  2. A live body that is not taken goes into the spool; that it was not also says that
//     nobody is there, and the spool is left alone until a live body is taken again. When
//     there is nothing to tell, a body of the spool is tried in its place.
//  3. While bodies are taken, the spool is sent too, the oldest first, at most one each
//     drainEvery.
//
// Bodies carry the times of what they tell. One that the place will never take (refused) is
// given up and counted, and so is one of the backlog that has the place fail again and again
// while live ones do not: Prometheus 2.42 says so to what is too old for it. One of which the
// answer was lost is sent again.
package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/spool"
)

const (
	// drainEvery is between two bodies of the backlog: 24 h of one each five seconds, the
	// most that anything here gathers, are sent in half an hour, and a collector gets ten a
	// second more than live ones at most.
	drainEvery = 100 * time.Millisecond
	// sendMost bounds the sending of a body, endMost that of the last one.
	sendMost = 10 * time.Second
	endMost  = time.Second
	// failsMost is how often a body of the backlog may have the place fail, with others
	// taken in between.
	failsMost = 3
	// answerMost is what is read of an answer: enough for what a collector has to say.
	answerMost = 1 << 10
)

// Config is a place to which bodies go.
type Config struct {
	// Name is the label of the place in metrics.
	Name string
	URL  string
	// Header is of every request; Bearer is asked for a token each time, nil: none.
	Header http.Header
	Bearer func(context.Context) (string, error)
	// Every is how often Gather is asked for what there is to tell; nil is nothing. It is
	// called by one goroutine.
	Every  time.Duration
	Gather func(now time.Time) []byte
	// Spool keeps what is not taken; nil: it is lost, and counted.
	Spool *spool.Spool
	// Failed hears why bodies are not taken, once until one is taken again; nil: nobody.
	Failed func(error)
	// Transport is for tests; nil: one of its own.
	Transport http.RoundTripper
}

// Pusher sends to one place until it is closed.
type Pusher struct {
	cfg     Config
	client  http.Client
	end     context.CancelFunc // after it no request begins any more
	cancel  context.CancelFunc // cuts the one that is under way
	running sync.WaitGroup
	there   bool // the last body was taken: the goroutine's own
	failing bool // Failed has heard: likewise
	failed  struct {
		spool.Entry // the place has failed with this one
		times       int
	}

	mu     sync.Mutex
	counts counts
}

type counts struct{ live, late, away, refused uint64 }

// Start starts a Pusher, which does not wait for the place.
func Start(cfg Config) *Pusher {
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	}
	// A redirection is not followed: it would lose the body, or show the token to who has no TLS.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p := &Pusher{cfg: cfg, client: http.Client{Transport: cfg.Transport, CheckRedirect: stay}}
	var ctx, lasts context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	lasts, p.end = context.WithCancel(ctx)
	p.running.Go(func() { p.run(ctx, lasts.Done()) })
	return p
}

func (p *Pusher) run(ctx context.Context, ends <-chan struct{}) {
	live, late := time.NewTicker(p.cfg.Every), time.NewTicker(drainEvery)
	defer live.Stop()
	defer late.Stop()
	for {
		backlog := late.C
		if !p.there || p.cfg.Spool == nil {
			backlog = nil
		}
		select {
		case <-ends:
			return
		case <-live.C:
			p.tell(ctx, sendMost)
		case <-backlog:
			select {
			case <-live.C: // both are due
				p.tell(ctx, sendMost)
			default:
				p.drain(ctx, sendMost)
			}
		}
	}
}

// tell sends what there is to tell, or keeps it. If there is nothing, the backlog finds out
// whether somebody is there.
func (p *Pusher) tell(ctx context.Context, within time.Duration) {
	now := time.Now()
	body := p.cfg.Gather(now)
	if body == nil {
		if !p.there && p.cfg.Spool != nil {
			p.drain(ctx, within)
		}
		return
	}
	err := p.send(ctx, body, within)
	switch {
	case err == nil:
		p.there = true
		p.count(func(c *counts) { c.live++ })
	case errors.Is(err, errRefused):
		p.count(func(c *counts) { c.refused++ })
	default:
		p.there = false
		err = errors.Join(err, p.keep(now, body))
	}
	p.heard(ctx, err)
}

var errNoSpool = errors.New("it is lost, as nothing is kept here of what is not taken")

func (p *Pusher) keep(now time.Time, body []byte) error {
	if p.cfg.Spool == nil {
		p.count(func(c *counts) { c.away++ })
		return errNoSpool
	}
	return p.cfg.Spool.Put(now, body)
}

// drain sends the oldest body of the backlog.
func (p *Pusher) drain(ctx context.Context, within time.Duration) {
	e, ok, err := p.cfg.Spool.Oldest(time.Now())
	var body []byte
	if ok {
		body, ok, err = p.cfg.Spool.Read(e)
	}
	if err != nil || !ok {
		p.heard(ctx, err)
		return
	}
	err = p.send(ctx, body, within)
	switch {
	case err == nil:
		p.there = true
		p.count(func(c *counts) { c.late++ })
		err = p.cfg.Spool.Taken(e)
	case errors.Is(err, errRefused), errors.Is(err, errFailed) && p.there && p.again(e):
		p.count(func(c *counts) { c.refused++ })
		err = errors.Join(err, p.cfg.Spool.Taken(e))
	default:
		p.there = false
	}
	p.heard(ctx, err)
}

// again reports whether the place has failed with this body often enough.
func (p *Pusher) again(e spool.Entry) bool {
	if p.failed.Entry != e {
		p.failed.Entry, p.failed.times = e, 0
	}
	p.failed.times++
	return p.failed.times >= failsMost
}

// heard tells of the first failure in a row, unless it is the end that has cut a request.
func (p *Pusher) heard(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if err != nil && !p.failing && p.cfg.Failed != nil {
		p.cfg.Failed(fmt.Errorf("%s: %w", p.cfg.Name, err))
	}
	p.failing = err != nil
}

// errRefused is a body that the place will never take, errFailed one with which it fails.
// Others are not taken now: the token may be repaired, the path, the place.
var (
	errRefused = errors.New("it is refused for good")
	errFailed  = errors.New("who should take it fails")
)

// refusals are the answers that mean it: malformed, too large, of no type that is known, out
// of what is taken.
var refusals = []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity}

func (p *Pusher) send(ctx context.Context, body []byte, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = p.cfg.Header.Clone()
	if p.cfg.Bearer != nil {
		token, err := p.cfg.Bearer(ctx)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(answer.Body, answerMost))
	if answer.StatusCode/100 == 2 {
		return nil
	}
	err = fmt.Errorf("%s: %s", answer.Status, bytes.TrimSpace(said))
	switch {
	case slices.Contains(refusals, answer.StatusCode):
		err = fmt.Errorf("%w: %w", errRefused, err)
	case answer.StatusCode == http.StatusInternalServerError:
		err = fmt.Errorf("%w: %w", errFailed, err)
	}
	return err
}

func (p *Pusher) count(f func(*counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.counts)
}

// Figures fills a page with what became of bodies.
func (p *Pusher) Figures(to *metric.Page) {
	p.mu.Lock()
	c := p.counts
	p.mu.Unlock()
	to.Add("telemetry_pushed_total", float64(c.live), "to", p.cfg.Name, "when", "live")
	to.Add("telemetry_pushed_total", float64(c.late), "to", p.cfg.Name, "when", "late")
	lost := func(why string, n uint64) {
		to.Add("telemetry_push_lost_total", float64(n), "to", p.cfg.Name, "why", why)
	}
	lost("refused", c.refused)
	lost("away", c.away)
	if p.cfg.Spool == nil {
		return
	}
	f := p.cfg.Spool.Figures()
	lost("old", f.Old)
	lost("room", f.Crowded)
	lost("torn", f.Torn)
	lost("disk", f.Unwritten)
	to.Add("telemetry_spool_batches", float64(f.Batches), "to", p.cfg.Name)
	to.Add("telemetry_spool_bytes", float64(f.Bytes), "to", p.cfg.Name)
}

// Close ends it: what is under way gets a second more, and what is left to tell another.
// What is not taken is in the spool.
func (p *Pusher) Close() error {
	p.end()
	late := time.AfterFunc(endMost, p.cancel)
	p.running.Wait()
	late.Stop()
	p.tell(context.Background(), endMost)
	p.cancel()
	p.client.CloseIdleConnections()
	return nil
}
