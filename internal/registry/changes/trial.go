package changes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
)

// trialPrefix is where processes put what they count of trials, for the one that judges
// them: trial/ROLLOUT/PERCENT/LIFE. Each life of a process has a place of its own, where
// it puts its sums: so they can be put twice, and stay when the process dies.
const trialPrefix = "trial/"

// Stage is a stage of a trial.
type Stage struct {
	Rollout settings.ID
	Percent int
}

// StageOf is the stage at which a trial is.
func StageOf(t settings.Trial) Stage { return Stage{t.Stage.Rollout, t.Stage.Percent} }

func (s Stage) prefix() string { return fmt.Sprintf("%s%v/%d/", trialPrefix, s.Rollout, s.Percent) }

// Count is how nodes are at a stage, those that have the trial and the others. It names
// none of them.
type Count struct {
	On     settings.Health `json:"on"`
	Others settings.Health `json:"others"`
}

// Share puts what a life of a process has counted at a stage, in place of what it has put
// before.
func (l *Log) Share(ctx context.Context, s Stage, life settings.ID, c Count) error {
	value, err := json.Marshal(c)
	if err != nil {
		return err
	}
	e, err := l.cfg.Store.Get(ctx, s.prefix()+life.String())
	if err == nil {
		_, err = l.cfg.Store.Put(ctx, e.Key, value, e.Revision)
	}
	return err
}

// Unshare removes what a life of a process has put at a stage.
func (l *Log) Unshare(ctx context.Context, s Stage, life settings.ID) error {
	e, err := l.cfg.Store.Get(ctx, s.prefix()+life.String())
	if err != nil || e.Revision == 0 {
		return err
	}
	return l.cfg.Store.Delete(ctx, e.Key, e.Revision)
}

// UnshareOld removes what anybody has put at stages that are over.
func (l *Log) UnshareOld(ctx context.Context) error {
	var on []string
	for _, t := range l.State().Trials() {
		on = append(on, StageOf(t).prefix())
	}
	var old []registry.Entry
	_, err := l.cfg.Store.List(ctx, trialPrefix, func(e registry.Entry) error {
		if !slices.ContainsFunc(on, func(prefix string) bool { return strings.HasPrefix(e.Key, prefix) }) {
			old = append(old, e)
		}
		return nil
	})
	for _, e := range old {
		if err := l.cfg.Store.Delete(ctx, e.Key, e.Revision); err != nil && !errors.Is(err, registry.ErrChanged) {
			return err
		}
	}
	return err
}

// Counted is what all have put at a stage, added up.
func (l *Log) Counted(ctx context.Context, s Stage) (sum Count, err error) {
	_, err = l.cfg.Store.List(ctx, s.prefix(), func(e registry.Entry) error {
		var c Count
		if err := json.Unmarshal(e.Value, &c); err != nil {
			return fmt.Errorf("the entry %s is no count of a trial: %w", e.Key, err)
		}
		sum.On.Add(c.On)
		sum.Others.Add(c.Others)
		return nil
	})
	return sum, err
}
