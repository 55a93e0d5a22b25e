package mail

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/registry"
)

// deadMost bounds the dead messages. Where there are as many, the next stays in its lane.
const deadMost = 1 << 14

var errDead = errors.New("as many messages are dead as are kept; requeue some")

// corpse is a dead message in the store. It is one, whichever members buried it.
type corpse struct {
	Reason  string    `json:"reason"`
	Died    time.Time `json:"died"`
	Payload []byte    `json:"payload"`
}

// Bury implements pipeline.Bus.
func (b *Bus) Bury(ctx context.Context, d pipeline.Delivery, reason string) error {
	b.mu.Lock()
	full := len(b.dead) >= deadMost
	b.mu.Unlock()
	if full {
		return errDead
	}
	value, err := json.Marshal(corpse{reason, time.Now().UTC(), d.Payload})
	if err == nil {
		_, err = b.cfg.Store.Put(ctx, fmt.Sprintf("%s%v/%x", deadPrefix, d.Lane, d.ID), value, 0)
	}
	if err != nil && !errors.Is(err, registry.ErrChanged) {
		return fmt.Errorf("a message cannot be buried: %w", err)
	}
	return b.Settle(ctx, d)
}

// Dead implements pipeline.Bus.
func (b *Bus) Dead(ctx context.Context, most int) (out []pipeline.Dead, err error) {
	all, err := b.corpses(ctx)
	for _, e := range all[:min(most, len(all))] {
		out = append(out, e.Dead)
	}
	return out, err
}

type buried struct {
	pipeline.Dead
	key      string
	revision int64
}

// corpses are all dead messages, the oldest first.
func (b *Bus) corpses(ctx context.Context) (all []buried, err error) {
	_, err = b.cfg.Store.List(ctx, deadPrefix, func(e registry.Entry) error {
		var c corpse
		d := buried{key: e.Key, revision: e.Revision}
		id, err := hex.DecodeString(e.Key[strings.LastIndexByte(e.Key, '/')+1:])
		if err == nil {
			err = json.Unmarshal(e.Value, &c)
		}
		if err != nil || len(id) != len(d.ID) || !laneOf(e.Key, &d.Lane) {
			return fmt.Errorf("the entry %s is no dead message", e.Key)
		}
		d.ID, d.Payload, d.Reason, d.Died = [16]byte(id), c.Payload, c.Reason, c.Died
		all = append(all, d)
		return nil
	})
	slices.SortFunc(all, func(x, y buried) int { return cmp.Compare(x.revision, y.revision) })
	return all, err
}

// Requeue implements pipeline.Bus.
func (b *Bus) Requeue(ctx context.Context, ids ...[16]byte) (n int, err error) {
	all, err := b.corpses(ctx)
	for _, d := range all {
		if !slices.Contains(ids, d.ID) {
			continue
		}
		if err := b.send(ctx, &letter{lane: d.Lane, again: true, messages: []pipeline.Message{d.Message}}); err != nil {
			return n, err
		}
		n++
		if err := b.cfg.Store.Delete(ctx, d.key, d.revision); err != nil && !errors.Is(err, registry.ErrChanged) {
			return n, err
		}
	}
	return n, err
}
