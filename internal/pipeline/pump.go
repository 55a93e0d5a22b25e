package pipeline

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/trace"
)

const (
	// batchMost is how many events a slot brings to the store at once: what is then
	// synced to disk together. A slot that gets as many takes another to help.
	batchMost = 256
	// defaultSlots bounds the slots of a lane: with a store that takes 50 ms for a
	// batch they carry 80,000 events a second.
	defaultSlots = 16
	// holdEvery is how often the bus is told that a batch is still on its way,
	// well within its patience.
	holdEvery = time.Second
	// retryFirst and retryMost bound the doubling time between tries of a store, or
	// of a bus, that fails.
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
)

// Pump brings what a bus holds to the store. Each lane has slots of its own, each of
// which brings a batch at a time: one always, and more while whole batches wait. A
// store that fails keeps its slots waiting, and nothing is given up: the bus fills,
// and those who publish are told.
type Pump struct {
	Bus   Bus
	Store audit.Recorder
	// Slots bounds the slots of a lane; 0 is a default, 1 never takes another.
	Slots int
	Log   *slog.Logger // nil: none

	running sync.WaitGroup
	mu      sync.Mutex
	figures Figures
	failing bool // the store, and it was said
}

// Figures are what a pump has done.
type Figures struct {
	// Slots are at work now, SlotsPeak were at once.
	Slots, SlotsPeak [NumLanes]int
	// Recorded events, and Buried messages that were none.
	Recorded [NumLanes]uint64
	Buried   uint64
	// Failures of the store.
	Failures uint64
	// Delay is from when the bus took an event until the store had it, and Capture
	// of incidents from when they came about; in µs.
	Delay   [NumLanes]trace.Values
	Capture trace.Values
}

// Run pumps until ctx ends, and waits for its slots.
func (p *Pump) Run(ctx context.Context) {
	if p.Slots == 0 {
		p.Slots = defaultSlots
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	for lane := range NumLanes {
		p.grow(ctx, lane)
	}
	p.running.Wait()
}

// Figures returns what the pump has done so far.
func (p *Pump) Figures() Figures {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.figures
}

// grow starts a slot if there may be one more.
func (p *Pump) grow(ctx context.Context, lane Lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &p.figures
	if f.Slots[lane] >= p.Slots {
		return
	}
	first := f.Slots[lane] == 0
	f.Slots[lane]++
	f.SlotsPeak[lane] = max(f.SlotsPeak[lane], f.Slots[lane])
	p.running.Go(func() {
		p.slot(ctx, lane, first)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.figures.Slots[lane]--
	})
}

// slot brings batch after batch. Any but the first ends when nothing is left.
func (p *Pump) slot(ctx context.Context, lane Lane, first bool) {
	for wait := retryFirst; ctx.Err() == nil; {
		got, err := p.Bus.Receive(ctx, lane, batchMost)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				p.Log.Warn("the bus delivers nothing", "lane", lane.String(), "why", err)
			}
			wait = pause(ctx, wait)
			continue
		case len(got) == 0 && !first:
			return
		case len(got) == batchMost:
			p.grow(ctx, lane)
		}
		wait = retryFirst
		if len(got) > 0 {
			p.bring(ctx, lane, got)
		}
	}
}

// pause waits, and returns how long to wait next.
func pause(ctx context.Context, d time.Duration) time.Duration {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return min(2*d, retryMost)
}

// bring records a batch, however often that takes, and settles it.
func (p *Pump) bring(ctx context.Context, lane Lane, got []Delivery) {
	defer p.hold(ctx, got)()
	events, whole := p.parse(ctx, got)
	if len(events) == 0 {
		return
	}
	for wait := retryFirst; ; {
		err := p.Store.Record(ctx, events...)
		if err != nil && ctx.Err() != nil {
			return // it is the end of the pump, and no fault of the store
		}
		p.note(err)
		if err == nil {
			break
		}
		if wait = pause(ctx, wait); ctx.Err() != nil {
			return
		}
	}
	p.observe(lane, whole, events)
	if err := p.Bus.Settle(ctx, whole...); err != nil && ctx.Err() == nil {
		p.Log.Warn("events that are recorded will come again", "why", err)
	}
}

// hold tells the bus that a batch is on its way, until the returned function is
// called.
func (p *Pump) hold(ctx context.Context, got []Delivery) func() {
	ctx, cancel := context.WithCancel(ctx)
	var holding sync.WaitGroup
	holding.Go(func() {
		tick := time.NewTicker(holdEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				p.Bus.Hold(ctx, got...) // else it comes again, which does no harm
			}
		}
	})
	return func() { cancel(); holding.Wait() }
}

// parse returns the events of a batch with their deliveries, and buries what is
// none.
func (p *Pump) parse(ctx context.Context, got []Delivery) (events []audit.Event, whole []Delivery) {
	for _, d := range got {
		e, err := audit.Parse(d.Payload)
		if err == nil {
			events, whole = append(events, e), append(whole, d)
			continue
		}
		p.Log.Error("a message that is no event; it is among the dead letters", "why", err)
		if err := p.Bus.Bury(ctx, d, err.Error()); err == nil {
			p.mu.Lock()
			p.figures.Buried++
			p.mu.Unlock()
		}
	}
	return events, whole
}

// note counts and says what became of the store.
func (p *Pump) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.figures.Failures++
	}
	switch was := p.failing; {
	case err != nil && !was:
		p.Log.Error("the compliance store takes no events; they wait on the bus", "why", err)
	case err == nil && was:
		p.Log.Info("the compliance store takes events again")
	}
	p.failing = err != nil
}

func (p *Pump) observe(lane Lane, whole []Delivery, events []audit.Event) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.figures.Recorded[lane] += uint64(len(events))
	for i := range events {
		p.figures.Delay[lane].Observe(micros(now.Sub(whole[i].Taken)))
		if lane == Incidents {
			p.figures.Capture.Observe(micros(now.Sub(events[i].Time)))
		}
	}
}

func micros(d time.Duration) uint64 { return uint64(max(d, 0) / time.Microsecond) }
