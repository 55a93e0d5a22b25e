package changes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
)

// deadPrefix is where dead letters lie, by their ids. Any process puts them there
// and corrects them; the leader of the control plane tends to them.
const deadPrefix = "dead/"

// Post is Submit for who does not wait for an operator: a change that the schema
// refuses becomes a dead letter, and why says so. An error means that it is not kept
// anywhere.
func (l *Log) Post(ctx context.Context, s Submission) (c settings.Change, why, err error) {
	if why = l.cfg.Schema.Accept(&s.Change); why == nil {
		c, err = l.Submit(ctx, s)
		return c, nil, err
	}
	if s.Change.Validate() != nil {
		return c, nil, why // it is no change at all
	}
	return s.Change, why, l.Bury(ctx, s.Change, why)
}

// Bury makes a change that could not be had a dead letter.
func (l *Log) Bury(ctx context.Context, c settings.Change, why error) error {
	letter := settings.Letter{Change: c, Why: why.Error(), Since: l.cfg.Now().UTC().Truncate(time.Millisecond)}
	_, err := l.cfg.Store.Put(ctx, deadPrefix+c.ID.String(), encodeLetter(&letter), 0)
	if errors.Is(err, registry.ErrChanged) {
		return nil // it is one already
	}
	return err
}

// Correct has a dead letter set something else, and be tried again at once.
func (l *Log) Correct(ctx context.Context, id settings.ID, set map[string]string) error {
	e, err := l.cfg.Store.Get(ctx, deadPrefix+id.String())
	if err != nil {
		return err
	}
	if e.Revision == 0 {
		return fmt.Errorf("no dead letter %v; nyx config status lists them", id)
	}
	letter, err := parseLetter(e.Value)
	if err != nil {
		return err
	}
	letter.Change.Set = set
	if err := l.cfg.Schema.Accept(&letter.Change); err != nil {
		return err
	}
	_, err = l.cfg.Store.Put(ctx, e.Key, encodeLetter(&letter), e.Revision)
	return err
}

// Drop gives a dead letter up.
func (l *Log) Drop(ctx context.Context, id settings.ID) error {
	e, err := l.cfg.Store.Get(ctx, deadPrefix+id.String())
	if err == nil && e.Revision != 0 {
		err = l.cfg.Store.Delete(ctx, e.Key, e.Revision)
	}
	return err
}

// Dead returns the dead letters that there are.
func (l *Log) Dead(ctx context.Context) (out []settings.Letter, err error) {
	_, err = l.cfg.Store.List(ctx, deadPrefix, func(e registry.Entry) error {
		letter, err := parseLetter(e.Value)
		out = append(out, letter)
		return err
	})
	return out, err
}

// Alert tells an operator of a dead letter: a new one, or with overdue one that was
// not corrected in settings.DeadLimit.
type Alert func(letter settings.Letter, overdue bool)

// Tend tries dead letters again until ctx ends: when they are corrected, and now and
// then by itself. One process does it, the leader.
func (l *Log) Tend(ctx context.Context, alert Alert) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, ended := make(chan registry.Entry), make(chan error, 1)
	send := func(e registry.Entry) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}
	go func() {
		at, err := l.cfg.Store.List(ctx, deadPrefix, func(e registry.Entry) error { send(e); return ctx.Err() })
		if err == nil {
			err = l.cfg.Store.Watch(ctx, deadPrefix, at, send)
		}
		ended <- err
	}()
	t := tending{log: l, alert: alert, told: map[settings.ID]bool{}}
	for {
		timer := time.NewTimer(t.pause())
		select {
		case e := <-events:
			t.take(e)
		case <-timer.C:
			t.retry(ctx)
		case err := <-ended:
			timer.Stop()
			return err
		}
		timer.Stop()
	}
}

// tending is the work of Tend.
type tending struct {
	log   *Log
	dead  settings.DeadLetters
	alert Alert
	told  map[settings.ID]bool // that they are overdue
}

// lookMost bounds the time between two looks at what is overdue.
const lookMost = 5 * time.Second

func (t *tending) pause() time.Duration {
	next, ok := t.dead.Next()
	if !ok {
		return time.Hour
	}
	return min(max(next.Sub(t.log.cfg.Now()), 0), lookMost)
}

// take hears of an entry: a new letter, a corrected one, or one that is gone.
func (t *tending) take(e registry.Entry) {
	now := t.log.cfg.Now()
	if e.Value == nil {
		if id, err := settings.ParseID(e.Key[len(deadPrefix):]); err == nil {
			t.dead.Done(id, false)
			delete(t.told, id)
		}
		return
	}
	letter, err := parseLetter(e.Value)
	if err != nil {
		t.log.cfg.Log.Error("a dead letter cannot be read", "key", e.Key, "why", err)
		return
	}
	if t.dead.Correct(now, letter.Change.ID, letter.Change.Set) == nil {
		return
	}
	if t.dead.Bury(letter.Since, letter.Change, errors.New(letter.Why)) {
		t.log.buried.Add(1)
		t.alert(letter, false)
	}
}

// retry tries what is due, and tells of what is overdue.
func (t *tending) retry(ctx context.Context) {
	now := t.log.cfg.Now()
	for _, c := range t.dead.Due(now) {
		_, err := t.log.Submit(ctx, Submission{Change: c})
		if err != nil {
			t.dead.Bury(now, c, err)
			continue
		}
		t.log.revived.Add(1)
		if err := t.log.Drop(ctx, c.ID); err == nil {
			t.dead.Done(c.ID, true)
		}
	}
	for _, letter := range t.dead.All() {
		if id := letter.Change.ID; letter.Overdue(now) && !t.told[id] {
			t.told[id] = true
			t.alert(*letter, true)
		}
	}
}

// DeadCount is how many changes became dead letters in the time of this leader, and
// how many of them went through.
func (l *Log) DeadCount() (count, revived uint64) { return l.buried.Load(), l.revived.Load() }

func encodeLetter(letter *settings.Letter) []byte {
	b, err := json.Marshal(letter)
	if err != nil {
		panic("changes: a letter that does not encode: " + err.Error())
	}
	return b
}

func parseLetter(b []byte) (letter settings.Letter, err error) {
	if err = json.Unmarshal(b, &letter); err != nil {
		err = fmt.Errorf("not a dead letter: %w", err)
	}
	return letter, err
}
