package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/trace"
)

// How what becomes of sessions at a Stream node reaches the records that its fleet
// shares:
//
//  1. collect, after each round of the machine: its changes wait in a bounded queue.
//     Nobody waits for them; what finds no room is counted and lost.
//  2. run: changes gather for a moment, so that a rush of sessions is a few
//     statements, and the time of a row says little of when a session began.
//  3. batch.write: what began is created, what is resumed here is claimed, what ended
//     is removed. What fails is tried again, at growing distances, from where it failed.
//  4. run, once a minute: records whose time is over go.

const (
	// registeredMost bounds the changes that wait: 40 s of the seeds' rush of 1,500
	// set-ups a second, in 5 MB.
	registeredMost = 1 << 16
	// gatherFor is how long changes gather.
	gatherFor = 100 * time.Millisecond
	// registerFirst and registerLast are the pauses after failures, which double.
	registerFirst, registerLast = 250 * time.Millisecond, 30 * time.Second
	// registerTimeout bounds a step of a batch, registerAtEnd what is still written when
	// the node stops.
	registerTimeout, registerAtEnd = 10 * time.Second, 2 * time.Second
	// expireEvery is how often records are looked for whose time is over, expireMost how
	// many go in a statement.
	expireEvery, expireMost = time.Minute, 1000
)

// registered is a change, and when it came about.
type registered struct {
	control.RecordChange
	at time.Time
}

// registrar takes what becomes of sessions at a node to the fleet's records. A nil
// registrar takes nothing.
type registrar struct {
	store records.Store
	note  func(error) // that it went wrong, or well again

	mu      sync.Mutex
	waiting []registered
	come    chan struct{} // there are some
	figures recordFigures // under mu
}

// recordFigures are what a node has done with records.
type recordFigures struct {
	// Lag is how long changes took until the store had them, Looked how long look-ups
	// at resumptions took, in µs.
	Lag, Looked trace.Values
	// Lost counts changes for which there was no room, Duplicates sessions that were
	// there already as another record, Again those that were resumed twice, Unknown
	// those resumed of which there was no record, Conflicts claims that another change
	// overtook, and Expired records that went.
	Lost, Duplicates, Again, Unknown, Conflicts, Expired uint64
	missed                                               uint64 // of the machine, in Lost
}

func newRegistrar(store records.Store, note func(error)) *registrar {
	if store == nil {
		return nil
	}
	return &registrar{store: store, note: note, come: make(chan struct{}, 1)}
}

var errNoRecords = errors.New("this program has no session records; use nyx, or remove [records] from the configuration")

// openRecords opens the session records of a configuration, nil for none.
func openRecords(cfg *setup.Config, open func(string) (records.Store, error)) (records.Store, error) {
	if cfg.Records == "" {
		return nil, nil
	}
	if open == nil {
		return nil, errNoRecords
	}
	return open(cfg.Records)
}

// collect takes a machine's changes, and how many it has missed in all. The host's
// lock is held.
func (r *registrar) collect(changes []control.RecordChange, missed uint64) {
	if len(changes) == 0 && missed == 0 {
		return
	}
	at := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures.Lost, r.figures.missed = r.figures.Lost+missed-r.figures.missed, missed
	for i, c := range changes {
		if len(r.waiting) == registeredMost {
			r.figures.Lost += uint64(len(changes) - i)
			break
		}
		r.waiting = append(r.waiting, registered{c, at})
	}
	select {
	case r.come <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and then once more.
func (r *registrar) run(ctx context.Context) {
	expire := time.NewTicker(expireEvery)
	defer expire.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.Background(), registerAtEnd)
			defer cancel()
			r.take().write(last, r)
			return
		case <-expire.C:
			r.note(r.expire(ctx))
		case <-r.come:
			if pause(ctx, gatherFor) {
				r.persist(ctx, r.take())
			}
		}
	}
}

// persist writes a batch, however often it takes.
func (r *registrar) persist(ctx context.Context, b *batch) {
	for wait := registerFirst; ; wait = min(2*wait, registerLast) {
		err := b.write(ctx, r)
		if ctx.Err() != nil {
			return
		}
		if r.note(err); err == nil || !pause(ctx, wait) {
			return
		}
	}
}

// batch is changes on their way, of which each step takes out what it has done.
type batch struct {
	created []control.SessionRecord
	claimed []control.SessionRecord
	ended   []control.TokenHash
	since   map[control.TokenHash]time.Time // when what is in created and ended came about
	claims  []time.Time                     // likewise of claimed
}

// take makes a batch of what waits. A session that begins and ends in it is none.
func (r *registrar) take() *batch {
	r.mu.Lock()
	all := r.waiting
	r.waiting = nil
	r.mu.Unlock()
	b := &batch{since: map[control.TokenHash]time.Time{}}
	over := map[control.TokenHash]bool{}
	for _, c := range all {
		if c.Kind == control.RecordEnded {
			over[c.Record.Token] = true
		}
	}
	for _, c := range all {
		token := c.Record.Token
		switch c.Kind {
		case control.RecordCreated:
			if over[token] {
				delete(over, token)
				continue
			}
			b.created = append(b.created, c.Record)
		case control.RecordClaimed:
			b.claimed, b.claims = append(b.claimed, c.Record), append(b.claims, c.at)
			continue
		case control.RecordEnded:
			if !over[token] {
				continue
			}
			b.ended = append(b.ended, token)
		}
		b.since[token] = c.at
	}
	return b
}

// write does what is left of a batch.
func (b *batch) write(ctx context.Context, r *registrar) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	now := time.Now().Unix()
	if len(b.created) > 0 {
		duplicates, err := r.store.Create(ctx, b.created, now)
		if err != nil {
			return err
		}
		r.count(func(f *recordFigures) {
			f.Duplicates += uint64(duplicates)
			for i := range b.created {
				f.lag(b.since[b.created[i].Token])
			}
		})
		b.created = nil
	}
	for len(b.claimed) > 0 {
		own := b.claimed[0]
		c, err := records.Take(ctx, r.store, own.Token, own.Expires, now)
		if err != nil {
			return err
		}
		at := b.claims[0]
		b.claimed, b.claims = b.claimed[1:], b.claims[1:]
		r.count(func(f *recordFigures) {
			f.lag(at)
			f.Looked.Observe(uint64(c.Looked / time.Microsecond))
			f.Conflicts += uint64(c.Conflicts)
			if c.Again {
				f.Again++
			}
			if !c.Known {
				f.Unknown++
			}
		})
	}
	if len(b.ended) > 0 {
		if err := r.store.Remove(ctx, b.ended); err != nil {
			return err
		}
		r.count(func(f *recordFigures) {
			for _, token := range b.ended {
				f.lag(b.since[token])
			}
		})
		b.ended = nil
	}
	return nil
}

func (f *recordFigures) lag(since time.Time) {
	f.Lag.Observe(uint64(time.Since(since) / time.Microsecond))
}

func (r *registrar) count(f func(*recordFigures)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.figures)
}

// expire removes the records whose time is over.
func (r *registrar) expire(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	for {
		n, err := r.store.Expire(ctx, time.Now().Unix(), expireMost)
		r.count(func(f *recordFigures) { f.Expired += uint64(n) })
		if err != nil || n < expireMost {
			return err
		}
	}
}

// known returns what a node has done with records, or nil.
func (r *registrar) known() *recordFigures {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.figures
	return &f
}

func (r *registrar) close() error {
	if r == nil {
		return nil
	}
	return r.store.Close()
}

// writeRecords writes what nodes have done with session records.
func writeRecords(to *metric.Page, parts []part) {
	for i := range parts {
		f, name := parts[i].records, parts[i].Name
		if f == nil {
			continue
		}
		to.Distribute("stream_state_replication_lag", metric.Times(&f.Lag), "part", name)
		to.Distribute("stream_state_lookup_latency", metric.Times(&f.Looked), "part", name)
		to.Add("nyx_session_records_lost_total", float64(f.Lost), "part", name)
		to.Add("nyx_session_records_duplicate_total", float64(f.Duplicates), "part", name)
		to.Add("nyx_session_records_claimed_again_total", float64(f.Again), "part", name)
		to.Add("nyx_session_records_unknown_total", float64(f.Unknown), "part", name)
		to.Add("nyx_session_records_conflicts_total", float64(f.Conflicts), "part", name)
		to.Add("nyx_session_records_expired_total", float64(f.Expired), "part", name)
	}
}
