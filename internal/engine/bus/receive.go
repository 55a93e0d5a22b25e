package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nyxnet/nyx/internal/pipeline"
)

const (
	deadName = "dead"
	// laneHeader and reasonHeader are of dead messages.
	laneHeader   = "Nyx-Lane"
	reasonHeader = "Nyx-Reason"
)

// Receive implements pipeline.Bus.
func (b *Bus) Receive(ctx context.Context, l pipeline.Lane, most int) ([]pipeline.Delivery, error) {
	c := b.lanes[l].consumer
	got, err := b.fetch(ctx, l, func() (jetstream.MessageBatch, error) { return c.FetchNoWait(most) })
	if len(got) > 0 || err != nil {
		return got, err
	}
	got, err = b.fetch(ctx, l, func() (jetstream.MessageBatch, error) {
		return c.Fetch(1, jetstream.FetchMaxWait(receiveWait))
	})
	if len(got) == 0 || most == 1 || err != nil {
		return got, err
	}
	more, err := b.fetch(ctx, l, func() (jetstream.MessageBatch, error) { return c.FetchNoWait(most - 1) })
	return append(got, more...), err
}

// fetch collects what a request brings, and buries what has had its last try.
func (b *Bus) fetch(ctx context.Context, l pipeline.Lane, request func() (jetstream.MessageBatch, error)) (out []pipeline.Delivery, err error) {
	batch, err := request()
	if err != nil {
		return nil, failed(err)
	}
	for {
		select {
		case m, more := <-batch.Messages():
			if !more {
				if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) && len(out) == 0 {
					return nil, failed(err)
				}
				return out, ctx.Err()
			}
			about, err := m.Metadata()
			if err != nil {
				return out, failed(err)
			}
			d := pipeline.Delivery{
				Message: pipeline.Message{ID: idOf(m.Headers()), Payload: m.Data()}, Lane: l,
				Taken: about.Timestamp, Tries: int(about.NumDelivered), Token: m,
			}
			if d.Tries > b.limits.Tries {
				if err := b.Bury(ctx, d, "not processed in the last of its tries"); err != nil {
					return out, err
				}
				continue
			}
			out = append(out, d)
		case <-ctx.Done():
			return out, ctx.Err()
		}
	}
}

// Settle implements pipeline.Bus.
func (b *Bus) Settle(ctx context.Context, done ...pipeline.Delivery) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for i, d := range done {
		m := d.Token.(jetstream.Msg)
		if i < len(done)-1 {
			if err := m.Ack(); err != nil {
				return failed(err)
			}
			continue
		}
		// What comes before on the connection is processed before.
		if err := m.DoubleAck(ctx); err != nil {
			return failed(err)
		}
	}
	return nil
}

// Hold implements pipeline.Bus.
func (b *Bus) Hold(_ context.Context, held ...pipeline.Delivery) error {
	return b.tell(held, jetstream.Msg.InProgress)
}

// Return implements pipeline.Bus.
func (b *Bus) Return(_ context.Context, back ...pipeline.Delivery) error {
	return b.tell(back, jetstream.Msg.Nak)
}

func (b *Bus) tell(all []pipeline.Delivery, what func(jetstream.Msg) error) error {
	var errs []error
	for _, d := range all {
		errs = append(errs, what(d.Token.(jetstream.Msg)))
	}
	return failed(errors.Join(errs...))
}

// Bury implements pipeline.Bus.
func (b *Bus) Bury(ctx context.Context, d pipeline.Delivery, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	about, err := d.Token.(jetstream.Msg).Metadata()
	if err != nil {
		return failed(err)
	}
	m := b.message(deadName, &d.Message, fmt.Sprint("/", d.Lane, "/", about.Sequence.Stream))
	m.Header.Set(laneHeader, d.Lane.String())
	m.Header.Set(reasonHeader, reason)
	if _, err := b.js.PublishMsg(ctx, m); err != nil {
		return failed(err)
	}
	return b.Settle(ctx, d)
}

// Dead implements pipeline.Bus.
func (b *Bus) Dead(ctx context.Context, most int) (out []pipeline.Dead, err error) {
	err = b.eachDead(ctx, func(_ uint64, d pipeline.Dead) (bool, error) {
		out = append(out, d)
		return len(out) < most, nil
	})
	return out, err
}

// eachDead calls each with dead messages, the oldest first, as long as it wants more.
func (b *Bus) eachDead(ctx context.Context, each func(sequence uint64, d pipeline.Dead) (more bool, err error)) error {
	for sequence := uint64(1); ; sequence++ {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		m, err := b.dead.GetMsg(call, sequence, jetstream.WithGetMsgSubject(b.subject(deadName)))
		cancel()
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return failed(err)
		}
		sequence = m.Sequence
		d := pipeline.Dead{Message: pipeline.Message{ID: idOf(m.Header), Payload: m.Data}, Reason: m.Header.Get(reasonHeader), Died: m.Time}
		if m.Header.Get(laneHeader) != pipeline.Incidents.String() {
			d.Lane = pipeline.Ordinary
		}
		if more, err := each(m.Sequence, d); !more || err != nil {
			return err
		}
	}
}

// Requeue implements pipeline.Bus.
func (b *Bus) Requeue(ctx context.Context, ids ...[16]byte) (n int, err error) {
	err = b.eachDead(ctx, func(sequence uint64, d pipeline.Dead) (bool, error) {
		if !slices.Contains(ids, d.ID) {
			return true, nil
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if _, err := b.js.PublishMsg(call, b.message(d.Lane.String(), &d.Message, fmt.Sprint("/", sequence))); err != nil {
			return false, failed(err)
		}
		n++
		if err := b.dead.DeleteMsg(call, sequence); err != nil {
			return false, failed(err)
		}
		return true, nil
	})
	return n, err
}
