package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// event is one of a kind, of which n tells it from others.
func event(kind audit.Kind, n int) audit.Event {
	var drawn [10]byte
	binary.BigEndian.PutUint64(drawn[:], uint64(n))
	now := time.Now().UTC()
	return audit.Event{ID: audit.NewID(now, drawn), Time: now, Kind: kind, Actor: "tester", Action: "test", Count: 1}
}

// slowStore takes a time for each batch, and may fail.
type slowStore struct {
	takes time.Duration

	mu     sync.Mutex
	fails  bool
	events map[audit.ID]time.Duration // from the event's time to when it was there
}

func (s *slowStore) Record(ctx context.Context, events ...audit.Event) error {
	time.Sleep(s.takes) // in a bubble of synctest
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails {
		return errors.New("the disk is full")
	}
	for _, e := range events {
		s.events[e.ID] = time.Since(e.Time)
	}
	return nil
}

func (s *slowStore) slowest(kind audit.Kind, of []audit.Event) (d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range of {
		if e.Kind == kind {
			d = max(d, s.events[e.ID])
		}
	}
	return d
}

func (s *slowStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

func publish(t *testing.T, b Bus, events ...audit.Event) {
	t.Helper()
	for i := range events {
		m := Message{ID: events[i].ID, Payload: audit.Append(nil, &events[i])}
		if _, err := b.Publish(t.Context(), LaneOf(&events[i]), m); err != nil {
			t.Fatal(err)
		}
	}
}

// pumping runs a pump until the returned function is called.
func pumping(t *testing.T, p *Pump) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	return func() { cancel(); running.Wait() }
}

// surge has a backlog of 20,000 events brought, with an incident behind them.
func surge(t *testing.T, slots int) (ordinary, incident time.Duration, f Figures) {
	synctest.Test(t, func(t *testing.T) {
		b, s := NewMemory(Limits{}), &slowStore{takes: 500 * time.Millisecond, events: map[audit.ID]time.Duration{}}
		var events []audit.Event
		for i := range 20000 {
			events = append(events, event(audit.AdminAction, i))
		}
		events = append(events, event(audit.Incident, 20000))
		publish(t, b, events...)
		p := &Pump{Bus: b, Store: s, Slots: slots}
		stop := pumping(t, p)
		time.Sleep(2 * time.Minute)
		ordinary, incident = s.slowest(audit.AdminAction, events), s.slowest(audit.Incident, events)
		if s.len() != len(events) {
			t.Errorf("%d of %d events are in the store", s.len(), len(events))
		}
		f = p.Figures()
		stop()
	})
	return ordinary, incident, f
}

// TestSlots: slots come with the backlog and go with it; an incident waits for
// nothing. Control: with one slot of each lane the backlog takes as long as it takes.
func TestSlots(t *testing.T) {
	ordinary, incident, f := surge(t, 0)
	if ordinary > 10*time.Second || incident > 600*time.Millisecond {
		t.Errorf("the last event was there after %v, the incident after %v", ordinary, incident)
	}
	if f.SlotsPeak[Ordinary] < 8 || f.Slots[Ordinary] != 1 || f.Slots[Incidents] != 1 {
		t.Errorf("slots %v, at most %v at once", f.Slots, f.SlotsPeak)
	}
	if f.Recorded != [NumLanes]uint64{1, 20000} || f.Capture.Count != 1 {
		t.Errorf("%v recorded, %d incidents captured", f.Recorded, f.Capture.Count)
	}
	if ordinary, _, _ := surge(t, 1); ordinary < 30*time.Second {
		t.Errorf("with one slot the last event was there after %v: the test does not see slots", ordinary)
	}
}

// TestStoreFails: while the store fails nothing is given up, however long it takes,
// and nothing counts as tried; control: a batch that nobody holds is buried.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := NewMemory(Limits{Tries: 2}), &slowStore{fails: true, events: map[audit.ID]time.Duration{}}
		publish(t, b, event(audit.KeyEvent, 1))
		p := &Pump{Bus: b, Store: s}
		stop := pumping(t, p)
		time.Sleep(10 * time.Minute)
		s.mu.Lock()
		s.fails = false
		s.mu.Unlock()
		time.Sleep(time.Minute)
		d, _ := b.Depth(t.Context())
		if s.len() != 1 || d != (Depth{}) || p.Figures().Failures == 0 {
			t.Errorf("%d events in the store, depth %+v, %d failures", s.len(), d, p.Figures().Failures)
		}
		stop()

		publish(t, b, event(audit.KeyEvent, 2))
		for range 3 {
			b.Receive(t.Context(), Ordinary, 1)
			time.Sleep(time.Minute)
		}
		if d, _ := b.Depth(t.Context()); d.Dead != 1 {
			t.Errorf("depth %+v of a message that nobody held", d)
		}
	})
}

// TestNoEvent: what is no event is buried, and what comes with it is recorded.
func TestNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := NewMemory(Limits{}), &slowStore{events: map[audit.ID]time.Duration{}}
		publish(t, b, event(audit.KeyEvent, 1))
		b.Publish(t.Context(), Ordinary, Message{ID: [16]byte{1}, Payload: []byte("no event")})
		p := &Pump{Bus: b, Store: s}
		stop := pumping(t, p)
		time.Sleep(10 * time.Second)
		stop()
		d, _ := b.Depth(t.Context())
		if s.len() != 1 || d != (Depth{Dead: 1}) || p.Figures().Buried != 1 {
			t.Errorf("%d events in the store, depth %+v", s.len(), d)
		}
	})
}
