package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// ErrRefused is a batch that will never be taken: it, or who sends it, is not what
// the other side takes. It is given up and counted.
var ErrRefused = errors.New("the events are refused")

const (
	// outboxEvents and outboxBytes bound what waits: for a node that tells of a
	// dozen things a minute, five hours without a control process.
	outboxEvents = 4096
	outboxBytes  = 1 << 20
	// gather is how long an ordinary event waits for others before it is sent, in
	// which time an incident is on its way.
	gather = time.Second
	// sendFirst and sendMost bound the doubling time between tries to send.
	sendFirst = 250 * time.Millisecond
	sendMost  = 30 * time.Second
)

// OutboxConfig is a node's outbox.
type OutboxConfig struct {
	// Path is its file; "" for none, where the events end with the process.
	Path string
	// Send brings a batch to a control process; without an error it is on disk
	// there. ErrRefused gives the batch up, after any other error it is sent again.
	Send func(ctx context.Context, batch []byte) error
	// Jitter returns a duration below d, by chance, so that nodes that lost a
	// control process do not come back to it in step; nil: none.
	Jitter func(d time.Duration) time.Duration
	// Lost makes the event that tells of n events given up for want of room.
	Lost func(n uint64) audit.Event
	Log  *slog.Logger // nil: none
}

// Outbox is an audit.Recorder that keeps events until a control process has them:
// on the disk of this machine, through restarts, and bounded. Where there is no
// room for another event, the oldest that is no incident is given up, and it is
// told later how many were.
type Outbox struct {
	cfg  OutboxConfig
	news chan struct{} // something waits; of capacity 1
	rush chan struct{} // an incident does; likewise

	mu     sync.Mutex
	queue  [NumLanes][]boxed
	events int
	bytes  int
	lost   uint64 // not told yet
	file   *boxFile
	sent   OutboxFigures
}

type boxed struct {
	id    audit.ID
	event []byte
}

// OutboxFigures are what an outbox has done.
type OutboxFigures struct {
	Waiting             int
	Sent, Refused, Lost uint64
	// Failures to send, in a row.
	Failures int
}

// OpenOutbox opens the outbox, with what its file holds.
func OpenOutbox(cfg OutboxConfig) (*Outbox, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	o := &Outbox{cfg: cfg, news: make(chan struct{}, 1), rush: make(chan struct{}, 1)}
	if cfg.Path == "" {
		return o, nil
	}
	file, held, err := openBox(cfg.Path)
	if err != nil {
		return nil, err
	}
	o.file = file
	for _, one := range held {
		if e, err := audit.Parse(one); err == nil {
			o.push(&e, one)
		}
	}
	if o.events > 0 {
		wake(o.news)
	}
	return o, nil
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Record implements audit.Recorder: the events are on the disk of this machine when
// it returns, and the way to the compliance store is before them.
func (o *Outbox) Record(_ context.Context, events ...audit.Event) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var batch []byte
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return err
		}
		one := audit.Append(nil, &events[i])
		batch = AppendBatch(batch, one)
		if o.push(&events[i], one) == Incidents {
			wake(o.rush)
		}
	}
	wake(o.news)
	return errors.Join(o.file.add(batch), o.file.keep(o.queue))
}

// push puts an event into its lane. The lock is held.
func (o *Outbox) push(e *audit.Event, one []byte) Lane {
	for o.events >= outboxEvents || o.bytes+len(one) > outboxBytes {
		lane := Ordinary
		if len(o.queue[lane]) == 0 {
			lane = Incidents
		}
		o.drop(lane, 1)
		o.lost++
		o.sent.Lost++
	}
	lane := LaneOf(e)
	o.queue[lane] = append(o.queue[lane], boxed{e.ID, one})
	o.events++
	o.bytes += len(one)
	return lane
}

// drop takes the first n of a lane out. The lock is held.
func (o *Outbox) drop(lane Lane, n int) {
	for _, b := range o.queue[lane][:n] {
		o.bytes -= len(b.event)
	}
	o.events -= n
	o.queue[lane] = slices.Delete(o.queue[lane], 0, n)
}

// Run sends what waits until ctx ends.
func (o *Outbox) Run(ctx context.Context) {
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-o.news:
		}
		o.wait(ctx, max(wait, gather))
		wait = o.send(ctx, wait)
	}
}

// wait waits for a time, or only until an incident comes.
func (o *Outbox) wait(ctx context.Context, d time.Duration) {
	if o.cfg.Jitter != nil {
		d = d/2 + o.cfg.Jitter(d/2+1)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-o.rush:
	}
}

// Flush sends what waits now, as far as ctx and the other side let it.
func (o *Outbox) Flush(ctx context.Context) { o.send(ctx, 0) }

// send sends batches until nothing waits or one is not taken, and returns how long
// to wait then.
func (o *Outbox) send(ctx context.Context, last time.Duration) (wait time.Duration) {
	for {
		batch, taken := o.batch()
		if len(batch) == 0 {
			return 0
		}
		err := o.cfg.Send(ctx, batch)
		refused := errors.Is(err, ErrRefused)
		o.note(err, refused)
		if err != nil && !refused {
			wake(o.news)
			return min(max(2*last, sendFirst), sendMost)
		}
		last = 0
		o.done(taken, refused)
	}
}

// batch makes the next batch, incidents first.
func (o *Outbox) batch() (batch []byte, taken [NumLanes][]audit.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for lane := range o.queue {
		for _, b := range o.queue[lane] {
			if n == BatchEvents || len(batch)+batchHead+len(b.event) > BatchBytes {
				return batch, taken
			}
			n++
			batch, taken[lane] = AppendBatch(batch, b.event), append(taken[lane], b.id)
		}
	}
	return batch, taken
}

// done takes what was sent out of the outbox; some of it may have been given up
// meanwhile.
func (o *Outbox) done(taken [NumLanes][]audit.ID, refused bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for lane, ids := range taken {
		n := 0
		for _, id := range ids {
			if n < len(o.queue[lane]) && o.queue[lane][n].id == id {
				n++
			}
		}
		o.drop(Lane(lane), n)
		if refused {
			o.sent.Refused += uint64(len(ids))
		} else {
			o.sent.Sent += uint64(len(ids))
		}
	}
	if n := o.lost; n > 0 && !refused && o.cfg.Lost != nil {
		o.lost = 0
		if e := o.cfg.Lost(n); e.Validate() == nil {
			one := audit.Append(nil, &e)
			o.push(&e, one)
			o.file.add(AppendBatch(nil, one))
		}
	}
	if err := o.file.keep(o.queue); err != nil {
		o.cfg.Log.Warn("events that were sent will be sent again", "why", err)
	}
}

func (o *Outbox) note(err error, refused bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.sent.Failures
	switch {
	case refused:
		o.cfg.Log.Error("the control plane refuses events of this node; they are given up", "why", err)
	case err != nil:
		if o.sent.Failures++; was == 0 {
			o.cfg.Log.Warn("events wait on this node's disk", "why", err)
		}
		return
	case was > 0:
		o.cfg.Log.Info("the control plane takes events again")
	}
	o.sent.Failures = 0
}

// Figures returns what the outbox has done.
func (o *Outbox) Figures() OutboxFigures {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.sent
	f.Waiting = o.events
	return f
}

// Close closes the file. What waits is there at the next start.
func (o *Outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.file.close(); err != nil {
		return fmt.Errorf("the outbox of events: %w", err)
	}
	return nil
}
