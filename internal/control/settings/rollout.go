package settings

import (
	"fmt"
	"time"
)

// Health is what is known of some nodes since a moment: of what they did, and how
// much of it failed.
type Health struct{ Tried, Failed uint64 }

// Add adds.
func (h *Health) Add(o Health) { h.Tried, h.Failed = h.Tried+o.Tried, h.Failed+o.Failed }

func (h Health) share() float64 {
	if h.Tried == 0 {
		return 0
	}
	return 100 * float64(h.Failed) / float64(h.Tried)
}

// triedLeast is how much a share of nodes must have tried before it is judged.
const triedLeast = 20

// Judge says what is to become of a trial that began at a time, by the health of
// the nodes that it is on and of all others since: nothing yet, a next change that
// carries it further, or one that takes it back, with the reason. id is that of the
// next change.
func (s *State) Judge(now time.Time, rollout ID, id ID, on, others Health) (next *Change, why string) {
	t, there := s.Trials()[rollout]
	set, began, stage := t.Set, t.Since, t.Stage
	if !there {
		return nil, ""
	}
	if on.Tried >= triedLeast && on.share() > others.share()+float64(stage.Worse) {
		back := map[string]string{}
		for key := range set {
			back[key] = s.Value(key)
		}
		why = fmt.Sprintf("%.1f %% fails at the nodes with it, %.1f %% at the others", on.share(), others.share())
		return &Change{ID: id, Set: back, Actor: rolloutActor, Comment: "taken back: " + why}, why
	}
	if now.Sub(began) < stage.Hold || on.Tried < triedLeast {
		return nil, ""
	}
	next = &Change{ID: id, Set: set, Actor: rolloutActor, Comment: fmt.Sprintf("went well at %d %%", stage.Percent)}
	if len(stage.Next) > 0 {
		next.Stage = &Stage{Rollout: stage.Rollout, Percent: stage.Next[0], Next: stage.Next[1:], Hold: stage.Hold, Worse: stage.Worse}
	}
	return next, next.Comment
}

// rolloutActor is who carries rollouts on.
const rolloutActor = "rollout"

// Trial is a rollout that is on.
type Trial struct {
	Stage Stage             `json:"stage"`
	Since time.Time         `json:"since"`
	Set   map[string]string `json:"set"`
	// Revision is that of the present stage.
	Revision uint64 `json:"revision"`
}

// Trials are the rollouts that are on, by id.
func (s *State) Trials() map[ID]Trial {
	out := map[ID]Trial{}
	for key, e := range s.trial {
		id := e.stage.Rollout
		t := out[id]
		if t.Set == nil {
			t = Trial{*e.stage, e.since, map[string]string{}, e.revision}
		}
		t.Set[key] = e.value
		out[id] = t
	}
	return out
}
