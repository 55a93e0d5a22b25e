package mail

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/pipeline"
)

// message is a message that this member has not settled.
type message struct {
	pipeline.Message
	of    *letter
	tries int
	until time.Time // it is being processed until then; zero: it is not
}

// laneOf reads the lane of a key.
func laneOf(key string, lane *pipeline.Lane) bool {
	_, rest, _ := strings.Cut(key, "/")
	name, _, _ := strings.Cut(rest, "/")
	for l := range pipeline.NumLanes {
		if l.String() == name {
			*lane = l
			return true
		}
	}
	return false
}

// wake lets who waits look again. The lock is held.
func (b *Bus) wake(lane pipeline.Lane) {
	close(b.grown[lane])
	b.grown[lane] = make(chan struct{})
}

// Receive implements pipeline.Bus.
func (b *Bus) Receive(ctx context.Context, lane pipeline.Lane, most int) ([]pipeline.Delivery, error) {
	return pipeline.Await(ctx, func() ([]pipeline.Delivery, <-chan struct{}, time.Time, error) {
		out, last, grown, next := b.deliverable(lane, most)
		for _, d := range last {
			if err := b.Bury(ctx, d, "not processed in the last of its tries"); err != nil {
				return out, grown, next, err
			}
		}
		return out, grown, next, nil
	})
}

// deliverable takes what is deliverable, and what has had its last try; else it says when
// something may be.
func (b *Bus) deliverable(lane pipeline.Lane, most int) (out, last []pipeline.Delivery, grown <-chan struct{}, next time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, m := range b.lanes[lane] {
		if len(out) == most {
			break
		}
		if m.until.After(now) {
			if next.IsZero() || m.until.Before(next) {
				next = m.until
			}
			continue
		}
		m.tries++
		m.until = now.Add(b.limits.Patience)
		d := pipeline.Delivery{Message: m.Message, Lane: lane, Taken: m.of.at, Tries: m.tries, Token: m}
		if m.tries > b.limits.Tries {
			last = append(last, d)
		} else {
			out = append(out, d)
		}
	}
	return out, last, b.grown[lane], next
}

// Settle implements pipeline.Bus. After the end of the process what was settled last may
// come again.
func (b *Bus) Settle(_ context.Context, done ...pipeline.Delivery) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	settled := map[*message]bool{}
	for _, d := range done {
		settled[d.Token.(*message)] = true
	}
	for lane := range b.lanes {
		b.lanes[lane] = slices.DeleteFunc(b.lanes[lane], func(m *message) bool {
			if settled[m] {
				b.settle(m.of)
			}
			return settled[m]
		})
	}
	b.advance()
	return nil
}

// Hold implements pipeline.Bus.
func (b *Bus) Hold(_ context.Context, held ...pipeline.Delivery) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range held {
		d.Token.(*message).until = time.Now().Add(b.limits.Patience)
	}
	return nil
}

// Return implements pipeline.Bus.
func (b *Bus) Return(_ context.Context, back ...pipeline.Delivery) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range back {
		d.Token.(*message).until = time.Time{}
		b.wake(d.Lane)
	}
	return nil
}
