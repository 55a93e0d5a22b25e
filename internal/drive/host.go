package drive

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

const (
	// roundMax bounds the datagrams that one round takes in. At 1.5 µs each a
	// round holds the lock for 0.2 ms: the longest that a timer or a call of
	// Do waits.
	roundMax = 128
	// jobsMax bounds the jobs that a host has with the workers. More stay in
	// the machine, whose own limits decide what becomes of them.
	jobsMax = 64
	// lastRounds bounds the batches that a closing host still sends: room for
	// every link's farewell, and no more than some ms.
	lastRounds = 16
)

// ErrClosed is the error of a host that was closed on purpose.
var ErrClosed = errors.New("host is closed")

// Config says what to run. It is not changed by Start and not kept.
type Config struct {
	// Name stands in errors, for people.
	Name string
	// Machine is what to run. It belongs to the host until Close returns.
	Machine machine.Machine
	// Carrier moves its datagrams. The host closes it.
	Carrier Carrier
	// Clock gives the machine's time; nil is a new clock.
	Clock *Clock
	// Workers runs the machine's jobs; nil is a pool of the host's own, one
	// goroutine for each processor.
	Workers *Workers
	// Ways is how many goroutines open the datagrams of a batch before the loop
	// handles them in order, if Machine is a machine.Opener: so many always, 1
	// for the loop alone; 0 is one for each processor, as long as it pays.
	Ways int
	// AfterRound, if not nil, is called in every round after the machine has
	// taken its input and before it is asked for output, with the host's lock
	// held: here the application looks for events and signals those who wait.
	// It must not block and must not call Do or Close.
	AfterRound func(now machine.Time)
}

// Eventful is a machine with events for the application. Where it has some
// after it was asked for output, another round follows at once, so that
// Config.AfterRound finds them: nothing else might wake the loop for long.
type Eventful interface{ EventsWait() bool }

func (c *Config) validate() error {
	switch {
	case c.Machine == nil:
		return fmt.Errorf("host %q has no machine to run", c.Name)
	case c.Carrier == nil:
		return fmt.Errorf("host %q has no carrier to run on", c.Name)
	}
	return nil
}

// Stats counts what a host did since it started.
type Stats struct {
	Rounds        uint64
	DatagramsIn   uint64
	DatagramsOut  uint64
	Timers        uint64 // calls of HandleTimer
	Jobs          uint64 // jobs handed back
	JobsRunning   int
	RoundLongest  time.Duration // longest time that a round held the lock
	TimerLatest   time.Duration // most that a timer ran behind its time
	FullBatches   uint64        // rounds that ended because the batch was full
	FullRounds    uint64        // rounds that ended at roundMax
	Calls         uint64        // functions run by Do and Snapshot
	WakeupsUnused uint64        // rounds without any input
	Ahead         AheadStats    // datagrams opened before their turn
}

// Host runs one machine. Its methods may be called from any goroutine.
type Host struct {
	name    string
	clock   *Clock
	carrier Carrier
	workers *Workers
	hook    func(machine.Time)

	mu       sync.Mutex
	machine  machine.Machine // guarded by mu
	eventful Eventful        // the machine, if it is; guarded by mu
	stats    Stats           // guarded by mu
	ended    bool            // guarded by mu: no call of Do runs any more

	turn    atomic.Bool // the loop wants mu: callers of Do leave it alone
	calls   calls
	closing atomic.Bool
	done    chan struct{} // closed when the loop and the jobs have ended
	err     error         // why; set before done is closed

	// The loop's own.
	batch    int // datagrams of the last Read
	taken    int // of these, given to the machine
	ahead    ahead
	finished []machine.Job
	called   []*call

	jobs struct {
		mu      sync.Mutex
		done    []machine.Job
		running int
		idle    sync.Cond // running is 0
	}
}

// Start runs cfg.Machine until Close, or until the carrier fails.
func Start(cfg Config) (*Host, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	h := &Host{
		name:    cfg.Name,
		machine: cfg.Machine,
		carrier: cfg.Carrier,
		clock:   cfg.Clock,
		workers: cfg.Workers,
		hook:    cfg.AfterRound,
		done:    make(chan struct{}),
	}
	h.eventful, _ = cfg.Machine.(Eventful)
	h.ahead.begin(cfg.Machine, cfg.Ways)
	if h.clock == nil {
		h.clock = NewClock()
	}
	if h.workers == nil {
		h.workers = NewWorkers(0)
	}
	h.jobs.idle.L = &h.jobs.mu
	go h.run()
	return h, nil
}

// Addr is the carrier's address.
func (h *Host) Addr() netip.AddrPort { return h.carrier.Addr() }

// Clock is the clock that the machine's times come from.
func (h *Host) Clock() *Clock { return h.clock }

// Wake asks for a round, and with it for a call of AfterRound.
func (h *Host) Wake() { h.carrier.Wake() }

// Snapshot returns the counts so far.
func (h *Host) Snapshot() Stats {
	var s Stats
	if !h.call(func(machine.Time) { s = h.stats }, false) {
		h.mu.Lock()
		s = h.stats
		h.mu.Unlock()
	}
	h.jobs.mu.Lock()
	s.JobsRunning = h.jobs.running
	h.jobs.mu.Unlock()
	return s
}

// Done is closed when the host has ended.
func (h *Host) Done() <-chan struct{} { return h.done }

// Err is why the host has ended: ErrClosed after Close, else the carrier's
// error. It is nil while the host runs.
func (h *Host) Err() error {
	select {
	case <-h.done:
		return h.err
	default:
		return nil
	}
}

// Close lets the machine send what it has ready, ends the host, closes the
// carrier and waits for every goroutine of the host. It returns the error with
// which the host ended earlier, if it did. Calling it again is harmless.
func (h *Host) Close() error {
	h.closing.Store(true)
	h.carrier.Wake()
	<-h.done
	if errors.Is(h.err, ErrClosed) {
		return nil
	}
	return h.err
}

// run is the loop with its end.
func (h *Host) run() {
	err := h.loop()
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.calls.end()
	if closeErr := h.carrier.Close(); err == nil && closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = closeErr
	}
	h.awaitJobs()
	h.ahead.alive.Wait()
	if err == nil {
		err = ErrClosed
	}
	h.err = fmt.Errorf("host %q: %w", h.name, err)
	close(h.done)
}

// loop runs rounds until the host is closed or the carrier fails.
func (h *Host) loop() error {
	wait := time.Duration(0)
	for !h.closing.Load() {
		if h.taken == h.batch {
			n, err := h.carrier.Read(wait)
			if err != nil {
				return err
			}
			h.batch, h.taken = n, 0
		}
		more, timer := h.round()
		if err := h.carrier.Flush(); err != nil {
			return err
		}
		if wait = 0; !more {
			wait = h.until(timer)
		}
		if wait == 0 {
			runtime.Gosched() // busy: let the application and other hosts have a turn
		}
	}
	for range lastRounds {
		more := h.lastRound()
		if err := h.carrier.Flush(); err != nil {
			return err
		}
		if !more {
			break
		}
	}
	return nil
}

// until is how long the loop may wait for a timer.
func (h *Host) until(timer machine.Time) time.Duration {
	if timer == machine.Never {
		return -1
	}
	return max(0, timer.Sub(h.clock.Now()))
}

// round is steps 2 to 8 of the package comment. more says that the machine has
// or will have more to do at once; else it waits for timer.
func (h *Host) round() (more bool, timer machine.Time) {
	h.finished = h.takeFinished(h.finished)
	h.turn.Store(true)
	h.mu.Lock()
	h.turn.Store(false)
	defer h.mu.Unlock()
	now := h.clock.Now()
	s := &h.stats
	s.Rounds++
	if h.batch == 0 && len(h.finished) == 0 {
		s.WakeupsUnused++
	}

	h.receive(now)
	if h.taken < h.batch {
		more = true
		s.FullRounds++
	}
	for i, j := range h.finished {
		h.machine.HandleJob(now, j)
		h.finished[i] = nil
	}
	s.Jobs += uint64(len(h.finished))
	if due := h.machine.NextTimer(); due <= now {
		s.Timers++
		s.TimerLatest = max(s.TimerLatest, now.Sub(due))
		h.machine.HandleTimer(now)
	}
	h.runCalls(now)
	if h.hook != nil {
		h.hook(now)
	}
	h.pollJobs()
	if h.transmit(now) {
		more = true
		s.FullBatches++
	}
	if h.hook != nil && h.eventful != nil && h.eventful.EventsWait() {
		more = true // they came up while it sent, after the hook had looked
	}
	h.ahead.handled()
	s.Ahead = h.ahead.stats
	s.RoundLongest = max(s.RoundLongest, h.clock.Now().Sub(now))
	return more, h.machine.NextTimer()
}

// receive gives datagrams to the machine, in the order in which they came.
func (h *Host) receive(now machine.Time) {
	first, last := h.taken, min(h.batch, h.taken+roundMax)
	ahead := h.ahead.open(h.carrier, first, last)
	for ; h.taken < last; h.taken++ {
		b, from := h.carrier.At(h.taken)
		if ahead {
			h.ahead.machine.HandleOpened(now, from, b, h.taken-first)
		} else {
			h.machine.HandleDatagram(now, from, b)
		}
	}
	h.stats.DatagramsIn += uint64(last - first)
}

// transmit fills the batch and reports whether it became full.
func (h *Host) transmit(now machine.Time) (full bool) {
	for {
		b := h.carrier.Next()
		if b == nil {
			return true
		}
		to, n, ok := h.machine.PollTransmit(now, b)
		if !ok {
			return false
		}
		h.carrier.Commit(n, to)
		h.stats.DatagramsOut++
	}
}

// lastRound lets a closing host's machine send what it has.
func (h *Host) lastRound() (more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.transmit(h.clock.Now())
}

// pollJobs hands jobs to the workers, as far as the limit allows.
func (h *Host) pollJobs() {
	for {
		h.jobs.mu.Lock()
		room := h.jobs.running < jobsMax
		h.jobs.mu.Unlock()
		if !room {
			return // jobDone wakes the loop
		}
		j, ok := h.machine.PollJob()
		if !ok {
			return
		}
		h.jobs.mu.Lock()
		h.jobs.running++
		h.jobs.mu.Unlock()
		h.workers.submit(task{h, j})
	}
}

// jobDone takes a job back from the worker that ran it.
func (h *Host) jobDone(j machine.Job) {
	h.jobs.mu.Lock()
	defer h.jobs.mu.Unlock()
	h.jobs.done = append(h.jobs.done, j)
	if len(h.jobs.done) == 1 {
		h.carrier.Wake()
	}
	if h.jobs.running--; h.jobs.running == 0 {
		h.jobs.idle.Broadcast()
	}
}

// takeFinished swaps the list of finished jobs for an empty one.
func (h *Host) takeFinished(empty []machine.Job) []machine.Job {
	h.jobs.mu.Lock()
	defer h.jobs.mu.Unlock()
	done := h.jobs.done
	h.jobs.done = empty[:0]
	return done
}

func (h *Host) awaitJobs() {
	h.jobs.mu.Lock()
	defer h.jobs.mu.Unlock()
	for h.jobs.running > 0 {
		h.jobs.idle.Wait()
	}
}
