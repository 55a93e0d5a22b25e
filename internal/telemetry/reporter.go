package telemetry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// waitingMax bounds the reports that wait for the control plane: the newest, of
	// which it can still use some.
	waitingMax = reportsMax
	// PostMost is how long a body is waited for until it is posted again, with what came
	// since: what is known of a node is to be of some seconds ago, and a body that was
	// only late is known by its times when it comes.
	PostMost = 5 * time.Second
	// aloneAfter is how long after the last answer a node that gets none goes by its
	// guard's stricter bounds.
	aloneAfter = 5 * time.Second
)

// ErrRefused is what a Post returns, wrapped, when the control plane answers that it
// will not take the body: it is not sent again.
var ErrRefused = errors.New("telemetry: refused by the control plane")

// Reporter is a node's end of telemetry: it chooses what to send, keeps a little while
// the control plane does not answer, and knows whether it does. Offer never waits.
type Reporter struct {
	post     func(ctx context.Context, body []byte) error
	mu       sync.Mutex
	dropped  uint64
	sampler  *control.Sampler
	waiting  []wire.Telemetry
	sent     []wire.Telemetry // of which it is not known whether they were taken
	wake     chan struct{}
	failed   bool
	answered time.Time // the last time
}

// NewReporter returns a reporter of a node that starts at a time. post sends a body to
// ReportPath and returns when it is taken.
func NewReporter(now time.Time, draw *prng.Stream, post func(ctx context.Context, body []byte) error) *Reporter {
	return &Reporter{post: post, sampler: control.NewSampler(draw), wake: make(chan struct{}, 1), answered: now}
}

// Offer takes the report of a period, which is sent, or sampled away.
func (r *Reporter) Offer(t wire.Telemetry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sampler.Take(&t) {
		if len(r.waiting) == waitingMax {
			r.waiting = r.waiting[1:]
			r.dropped++
		}
		r.waiting = append(r.waiting, t)
	}
	if len(r.waiting) > 0 {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// SetSampling has one of so many reports that say nothing out of the ordinary sent; 0 is
// what the specification says.
func (r *Reporter) SetSampling(oneIn int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sampler.OneIn = oneIn
}

// Alone reports whether the control plane has not answered for a while.
func (r *Reporter) Alone(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed && now.Sub(r.answered) >= aloneAfter
}

// Dropped counts reports for which there was no room, or that were refused.
func (r *Reporter) Dropped() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// Run sends what is offered until ctx ends. What could not be sent is tried again with
// the next that is offered.
func (r *Reporter) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		r.send(ctx)
	}
}

func (r *Reporter) send(ctx context.Context) {
	body := r.Next()
	if len(body) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, PostMost)
	defer cancel()
	err := r.post(ctx, body)
	r.Done(time.Now(), err)
}

// Next is the body to be posted now; empty if nothing waits. Done must follow before the
// next.
func (r *Reporter) Next() (body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent, r.waiting = r.waiting, nil
	for i := range r.sent {
		body = r.sent[i].Append(body)
	}
	return body
}

// Done takes what became of the body at a time: without an error it was taken.
func (r *Reporter) Done(now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch := r.sent
	r.sent = nil
	if errors.Is(err, ErrRefused) {
		r.dropped += uint64(len(batch))
		err = nil
	}
	if r.failed = err != nil; err == nil {
		r.answered = now
		return
	}
	all := append(batch, r.waiting...)
	if over := len(all) - waitingMax; over > 0 {
		r.dropped += uint64(over)
		all = all[over:]
	}
	r.waiting = all
}
