package lab

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/bus"
	"github.com/nyxnet/nyx/internal/pipeline"
)

// auditTrail is a bus on this machine's disk and a pump behind it, with a compliance
// store that takes a time for each batch, as one on the far side of a network does.
type auditTrail struct {
	bus    *bus.Bus
	pump   pipeline.Pump
	store  remoteStore
	dir    string
	cancel context.CancelFunc
	ended  sync.WaitGroup
	made   uint64
}

// startTrail starts a bus, and a pump of at most so many slots a lane.
func startTrail(storeTakes time.Duration, slots int) (*auditTrail, error) {
	t := &auditTrail{store: remoteStore{takes: storeTakes, at: map[audit.ID]time.Time{}}}
	var err error
	if t.dir, err = os.MkdirTemp("", "nyx-audit-*"); err != nil {
		return nil, err
	}
	if t.bus, err = bus.Embedded(t.dir, "nyx", pipeline.Limits{}); err != nil {
		os.RemoveAll(t.dir)
		return nil, err
	}
	t.pump = pipeline.Pump{Bus: t.bus, Store: &t.store, Slots: slots}
	var ctx context.Context
	ctx, t.cancel = context.WithCancel(context.Background())
	t.ended.Go(func() { t.pump.Run(ctx) })
	return t, nil
}

func (t *auditTrail) close() error {
	t.cancel()
	t.ended.Wait()
	err := t.bus.Close()
	os.RemoveAll(t.dir)
	return err
}

// events makes events of a kind that came about now.
func (t *auditTrail) events(kind audit.Kind, n int) (out []audit.Event) {
	for range n {
		t.made++
		var drawn [10]byte
		binary.BigEndian.PutUint64(drawn[:], t.made)
		now := time.Now().UTC()
		out = append(out, audit.Event{ID: audit.NewID(now, drawn), Time: now, Kind: kind, Actor: "lab", Action: "test", Count: 1})
	}
	return out
}

// batchOf is how many events a node posts at a time.
const batchOf = 100

// publish puts events into a lane, some at a time.
func (t *auditTrail) publish(lane pipeline.Lane, events []audit.Event) error {
	var messages []pipeline.Message
	for i := range events {
		messages = append(messages, pipeline.Message{ID: events[i].ID, Payload: audit.Append(nil, &events[i])})
	}
	for len(messages) > 0 {
		some := messages[:min(len(messages), batchOf)]
		if _, err := t.bus.Publish(context.Background(), lane, some...); err != nil {
			return err
		}
		messages = messages[len(some):]
	}
	return nil
}

// outbox is that of a node whose batches come to the bus, as a control process takes
// them: into the lanes of their events, or all into one.
func (t *auditTrail) outbox(lanes bool) (*pipeline.Outbox, error) {
	return pipeline.OpenOutbox(pipeline.OutboxConfig{Path: filepath.Join(t.dir, "node.events"), Send: func(ctx context.Context, batch []byte) error {
		events, messages, err := pipeline.ParseBatch(batch)
		if err != nil {
			return err
		}
		byLane := pipeline.ByLane(events, messages)
		if !lanes {
			byLane = [pipeline.NumLanes][]pipeline.Message{pipeline.Ordinary: messages}
		}
		for lane, some := range byLane {
			if len(some) == 0 {
				continue
			}
			if _, err := t.bus.Publish(ctx, pipeline.Lane(lane), some...); err != nil {
				return err
			}
		}
		return nil
	}})
}

// await waits until the store has n events, or for no longer than limit.
func (t *auditTrail) await(n int, limit time.Duration) {
	for end := time.Now().Add(limit); t.store.len() < n && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
}

// remoteStore takes a time for each batch. Each event is there once.
type remoteStore struct {
	takes time.Duration

	mu     sync.Mutex
	at     map[audit.ID]time.Time // when the event was there
	double uint64                 // events that came again
}

// Record implements audit.Recorder.
func (s *remoteStore) Record(_ context.Context, events ...audit.Event) error {
	time.Sleep(s.takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		if _, there := s.at[e.ID]; there {
			s.double++
			continue
		}
		s.at[e.ID] = time.Now()
	}
	return nil
}

func (s *remoteStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.at)
}

// delay is how long after a moment an event was there, or how long it has not been.
func (s *remoteStore) delay(id audit.ID, since time.Time) (d time.Duration, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, there := s.at[id]
	if !there {
		at = time.Now()
	}
	return at.Sub(since), there
}
