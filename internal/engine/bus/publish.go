package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/nyxnet/nyx/internal/pipeline"
)

// atomicMost is how many messages are published as one, which are synced together:
// all of them are taken, or none.
const atomicMost = 512

// Publish implements pipeline.Bus.
func (b *Bus) Publish(ctx context.Context, l pipeline.Lane, messages ...pipeline.Message) (duplicates int, err error) {
	if err := pipeline.CheckSize(messages); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	select {
	case b.turns <- struct{}{}:
		defer func() { <-b.turns }()
	case <-ctx.Done():
		return 0, fmt.Errorf("bus: too many publish at once: %w", ctx.Err())
	}
	for len(messages) > 0 {
		some := messages[:min(len(messages), atomicMost)]
		messages = messages[len(some):]
		n, err := b.publish(ctx, l, some)
		if duplicates += n; err != nil {
			return duplicates, failed(err)
		}
	}
	return duplicates, nil
}

func (b *Bus) publish(ctx context.Context, l pipeline.Lane, some []pipeline.Message) (duplicates int, err error) {
	if len(some) > 1 {
		if err = b.atomic(ctx, l, some); err == nil || errors.Is(failed(err), pipeline.ErrFull) || ctx.Err() != nil {
			return 0, err
		}
		// One of them was there before, or the server cannot do it: one by one.
	}
	return b.each(ctx, l, some)
}

// Headers of messages that are published as one.
const (
	batchHeader    = "Nats-Batch-Id"
	sequenceHeader = "Nats-Batch-Sequence"
	commitHeader   = "Nats-Batch-Commit"
)

// atomic publishes all or none: the last message of a batch commits it, and has the
// answer.
func (b *Bus) atomic(ctx context.Context, l pipeline.Lane, some []pipeline.Message) error {
	batch := nuid.Next()
	for i := range some {
		m := b.message(l.String(), &some[i], "")
		m.Header.Set(batchHeader, batch)
		m.Header.Set(sequenceHeader, strconv.Itoa(i+1))
		if i < len(some)-1 {
			if err := b.conn.PublishMsg(m); err != nil {
				return err
			}
			continue
		}
		m.Header.Set(commitHeader, "1")
		answer, err := b.conn.RequestMsgWithContext(ctx, m)
		if err != nil {
			return err
		}
		var ack struct {
			Error *jetstream.APIError `json:"error"`
			Batch string              `json:"batch"`
			Count int                 `json:"count"`
		}
		switch err := json.Unmarshal(answer.Data, &ack); {
		case err != nil:
			return err
		case ack.Error != nil:
			return ack.Error
		case ack.Batch != batch || ack.Count != len(some):
			return fmt.Errorf("%d of %d messages were committed", ack.Count, len(some))
		}
	}
	return nil
}

// each publishes one by one, and waits for all.
func (b *Bus) each(ctx context.Context, l pipeline.Lane, some []pipeline.Message) (duplicates int, err error) {
	futures := make([]jetstream.PubAckFuture, len(some))
	for i := range some {
		if futures[i], err = b.js.PublishMsgAsync(b.message(l.String(), &some[i], "")); err != nil {
			return 0, err
		}
	}
	for _, f := range futures {
		select {
		case ack := <-f.Ok():
			if ack.Duplicate {
				duplicates++
			}
		case err := <-f.Err():
			return duplicates, err
		case <-ctx.Done():
			return duplicates, ctx.Err()
		}
	}
	return duplicates, nil
}
