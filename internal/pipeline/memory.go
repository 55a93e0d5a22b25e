package pipeline

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Memory is a Bus in memory: it ends with the process, and is for tests.
type Memory struct {
	limits Limits

	mu    sync.Mutex
	lanes [NumLanes][]*memoryMessage
	bytes [NumLanes]int64
	dead  []Dead
	seen  map[[16]byte]time.Time
	grown [NumLanes]chan struct{} // closed, and made anew, by what makes one deliverable
}

type memoryMessage struct {
	Message
	taken time.Time
	tries int
	until time.Time // it is being processed until then; zero: it is not
}

// NewMemory returns an empty bus.
func NewMemory(l Limits) *Memory {
	m := &Memory{limits: l.WithDefaults(), seen: map[[16]byte]time.Time{}}
	for i := range m.grown {
		m.grown[i] = make(chan struct{})
	}
	return m
}

// wake lets who waits look again. The lock is held.
func (m *Memory) wake(lane Lane) {
	close(m.grown[lane])
	m.grown[lane] = make(chan struct{})
}

// Publish implements Bus.
func (m *Memory) Publish(_ context.Context, lane Lane, messages ...Message) (duplicates int, err error) {
	if err := CheckSize(messages); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	var fresh []*memoryMessage
	bytes := m.bytes[lane]
	for _, msg := range messages {
		if at, ok := m.seen[msg.ID]; ok && now.Sub(at) < m.limits.Window {
			duplicates++
			continue
		}
		fresh = append(fresh, &memoryMessage{Message: msg, taken: now})
		bytes += int64(len(msg.Payload))
	}
	if int64(len(m.lanes[lane])+len(fresh)) > m.limits.Messages || bytes > m.limits.Bytes {
		return 0, ErrFull
	}
	for _, f := range fresh {
		m.seen[f.ID] = now
	}
	m.lanes[lane], m.bytes[lane] = append(m.lanes[lane], fresh...), bytes
	if len(fresh) > 0 {
		m.wake(lane)
	}
	return duplicates, nil
}

// Receive implements Bus.
func (m *Memory) Receive(ctx context.Context, lane Lane, most int) ([]Delivery, error) {
	return Await(ctx, func() ([]Delivery, <-chan struct{}, time.Time, error) {
		out, grown, next := m.take(lane, most)
		return out, grown, next, nil
	})
}

// take takes what is deliverable; else it says when something may be.
func (m *Memory) take(lane Lane, most int) (out []Delivery, grown <-chan struct{}, next time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, msg := range slices.Clone(m.lanes[lane]) {
		switch {
		case len(out) == most:
			return out, nil, next
		case msg.until.After(now):
			if next.IsZero() || msg.until.Before(next) {
				next = msg.until
			}
		case msg.tries >= m.limits.Tries:
			m.bury(lane, msg, "not processed in the last of its tries")
		default:
			msg.tries++
			msg.until = now.Add(m.limits.Patience)
			out = append(out, Delivery{Message: msg.Message, Lane: lane, Taken: msg.taken, Tries: msg.tries, Token: msg})
		}
	}
	return out, m.grown[lane], next
}

// remove takes a message out of its lane, once. The lock is held.
func (m *Memory) remove(lane Lane, msg *memoryMessage) bool {
	i := slices.Index(m.lanes[lane], msg)
	if i < 0 {
		return false
	}
	m.lanes[lane] = slices.Delete(m.lanes[lane], i, i+1)
	m.bytes[lane] -= int64(len(msg.Payload))
	return true
}

// bury makes a message a dead one. The lock is held.
func (m *Memory) bury(lane Lane, msg *memoryMessage, reason string) {
	if m.remove(lane, msg) {
		m.dead = append(m.dead, Dead{Message: msg.Message, Lane: lane, Reason: reason, Died: time.Now()})
	}
}

// Settle implements Bus.
func (m *Memory) Settle(_ context.Context, done ...Delivery) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range done {
		m.remove(d.Lane, d.Token.(*memoryMessage))
	}
	return nil
}

// Hold implements Bus.
func (m *Memory) Hold(_ context.Context, held ...Delivery) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range held {
		d.Token.(*memoryMessage).until = time.Now().Add(m.limits.Patience)
	}
	return nil
}

// Return implements Bus.
func (m *Memory) Return(_ context.Context, back ...Delivery) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range back {
		d.Token.(*memoryMessage).until = time.Time{}
		m.wake(d.Lane)
	}
	return nil
}

// Bury implements Bus.
func (m *Memory) Bury(_ context.Context, d Delivery, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bury(d.Lane, d.Token.(*memoryMessage), reason)
	return nil
}

// Dead implements Bus.
func (m *Memory) Dead(_ context.Context, most int) ([]Dead, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.dead[:min(most, len(m.dead))]), nil
}

// Requeue implements Bus.
func (m *Memory) Requeue(_ context.Context, ids ...[16]byte) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = slices.DeleteFunc(m.dead, func(d Dead) bool {
		if !slices.Contains(ids, d.ID) {
			return false
		}
		n++
		m.lanes[d.Lane] = append(m.lanes[d.Lane], &memoryMessage{Message: d.Message, taken: time.Now()})
		m.bytes[d.Lane] += int64(len(d.Payload))
		m.wake(d.Lane)
		return true
	})
	return n, nil
}

// Depth implements Bus.
func (m *Memory) Depth(context.Context) (d Depth, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for lane := range m.lanes {
		d.Waiting[lane] = uint64(len(m.lanes[lane]))
	}
	d.Dead = uint64(len(m.dead))
	return d, nil
}

// Close implements Bus.
func (m *Memory) Close() error { return nil }
