package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry/changes"
	"github.com/nyxnet/nyx/internal/telemetry"
)

// historyShown bounds the revisions of a page; older ones are told by nyx config history.
const historyShown = 50

// settingsPage is what the page of the configuration shows.
type settingsPage struct {
	Here     bool
	Revision uint64
	Keys     []setting
	Trials   []settings.Trial
	Waiting  []*settings.Change
	History  []revision
	Behind   []telemetry.NodePicture // that have another revision, or refused it
	// Of what somebody is about to change, and has not confirmed.
	Draft   bool
	Changed []settings.Difference
	Form    orderForm
	Faults  []string
	Back    *uint64 // a revision to go back to
}

// setting is a key with its value.
type setting struct {
	*settings.Key
	Value string
	Trial string // what is on trial
}

// wants is settings.Key.Wants in a language.
func wants(lang string, k *settings.Key) string {
	switch k.Kind {
	case settings.Number:
		return say(lang, "wants.number", k.Least, k.Most)
	case settings.Duration:
		return say(lang, "wants.duration", time.Duration(k.Least), time.Duration(k.Most))
	case settings.Word:
		return say(lang, "wants.word", strings.Join(k.Words, ", "))
	case settings.Truth:
		return say(lang, "wants.truth")
	case settings.Ports:
		return say(lang, "wants.ports")
	}
	return say(lang, "wants.url")
}

// revision is a change of the history.
type revision struct {
	settings.Change
	Keys []string
}

// orderForm is what somebody typed.
type orderForm struct {
	Values  map[string]string
	Comment string
	Seen    uint64
	Stages  string // percents, between commas; "": at once
	Hold    string
	ID      string
}

func (c *Console) configuration(k *call) (any, error) {
	log := c.cfg.Settings
	if log == nil {
		return &settingsPage{}, nil
	}
	p, err := c.settingsPage(k.Context(), log)
	if err != nil {
		return nil, err
	}
	q := k.URL.Query()
	switch {
	case q.Has("draft"):
		c.draft(p, q, log)
	case q.Has("back"):
		to, err := strconv.ParseUint(q.Get("back"), 10, 64)
		if err != nil {
			return nil, errors.New("a revision is a number")
		}
		then, err := log.Replay(k.Context(), to)
		if err != nil {
			return nil, err
		}
		p.Back, p.Changed = &to, log.State().All().Diff(then.All())
	}
	return p, nil
}

func (c *Console) settingsPage(ctx context.Context, log Settings) (*settingsPage, error) {
	state := log.State()
	values := state.All()
	p := &settingsPage{Here: true, Revision: state.Revision(), Waiting: state.Waiting(), Form: orderForm{Values: values, Seen: state.Revision(), Hold: "10m", ID: c.changeID().String()}}
	for _, t := range state.Trials() {
		p.Trials = append(p.Trials, t)
	}
	slices.SortFunc(p.Trials, func(a, b settings.Trial) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, key := range log.Schema().Keys() {
		s := setting{Key: key, Value: values[key.Name]}
		for _, t := range p.Trials {
			if v, ok := t.Set[key.Name]; ok {
				s.Trial = v
			}
		}
		p.Keys = append(p.Keys, s)
	}
	picture, _ := c.live.now(false)
	for _, n := range picture.Nodes {
		if n.Follows && (n.Refused != 0 || n.Revision < p.Revision) {
			p.Behind = append(p.Behind, n)
		}
	}
	from := uint64(1)
	if p.Revision > historyShown {
		from = p.Revision - historyShown + 1
	}
	err := log.History(ctx, from, func(one settings.Change) bool {
		p.History = append(p.History, revision{one, slices.Sorted(maps.Keys(one.Set))})
		return len(p.History) < 2*historyShown
	})
	slices.Reverse(p.History)
	return p, err
}

func (c *Console) changeID() (id settings.ID) {
	c.cfg.Entropy(id[:])
	return id
}

// draft shows what a form would change: what differs, and what cannot be had.
func (c *Console) draft(p *settingsPage, q map[string][]string, log Settings) {
	get := func(name string) string {
		if v := q[name]; len(v) > 0 {
			return strings.TrimSpace(v[0])
		}
		return ""
	}
	p.Draft = true
	f := orderForm{Values: map[string]string{}, Comment: get("comment"), Stages: get("stages"), Hold: cmp.Or(get("hold"), "10m"), ID: p.Form.ID, Seen: p.Revision}
	if seen, err := strconv.ParseUint(get("seen"), 10, 64); err == nil {
		f.Seen = seen
	}
	next := settings.Values{}
	for i := range p.Keys {
		name := p.Keys[i].Name
		if v := get("set." + name); v != "" {
			f.Values[name], next[name] = v, v
		}
	}
	p.Changed, p.Form = log.State().All().Diff(next), f
	for _, d := range p.Changed {
		if err := log.Schema().Key(d.Key).Check(next[d.Key]); err != nil {
			p.Faults = append(p.Faults, err.Error())
		}
	}
	if _, err := f.stage(settings.ID{1}); err != nil {
		p.Faults = append(p.Faults, oneLine(err))
	}
}

// stage is how a change is rolled out; nil: at all nodes at once.
func (f *orderForm) stage(id settings.ID) (*settings.Stage, error) {
	if f.Stages == "" {
		return nil, nil
	}
	hold, err := time.ParseDuration(f.Hold)
	if err != nil || hold <= 0 {
		return nil, fmt.Errorf("%q is not how long a stage holds; write it as in 10m", f.Hold)
	}
	s := &settings.Stage{Rollout: id, Hold: hold, Worse: 1}
	for i, part := range strings.Split(f.Stages, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%q is not a share of the nodes in percent; write them as in 5,25", part)
		}
		if i == 0 {
			s.Percent = n
		} else {
			s.Next = append(s.Next, n)
		}
	}
	c := settings.Change{ID: id, Set: map[string]string{"x": ""}, Actor: "x", Stage: s}
	return s, c.Validate()
}

// order has a change accepted. Who wants it and in which role is recorded first, under
// the ID of the change, by which the control plane records what it accepted; what was
// refused is told here.
func (c *Console) order(k *call) (string, error) {
	log := c.cfg.Settings
	if log == nil {
		return "", errNone
	}
	p, err := c.settingsPage(k.Context(), log)
	if err != nil {
		return "", err
	}
	c.draft(p, k.PostForm, log)
	id, err := settings.ParseID(k.PostForm.Get("id"))
	if err != nil {
		return "", err
	}
	change := settings.Change{ID: id, Set: map[string]string{}, Actor: k.who.Name, Comment: p.Form.Comment}
	for _, d := range p.Changed {
		change.Set[d.Key] = p.Form.Values[d.Key]
	}
	if len(change.Set) == 0 {
		return "/configuration", nil
	}
	if err := c.record(k, "console.configure", id.String()); err != nil {
		return "", err
	}
	if change.Stage, err = p.Form.stage(id); err == nil {
		_, err = log.Submit(k.Context(), changes.Submission{Change: change, Seen: p.Form.Seen})
	}
	if err != nil && c.cfg.Refused != nil {
		c.cfg.Refused(k.who.Name, err)
	}
	return "/configuration", err
}

// rollBack has all keys be as they were at a revision. It is recorded as order is.
func (c *Console) rollBack(k *call) (string, error) {
	log := c.cfg.Settings
	if log == nil {
		return "", errNone
	}
	to, err := strconv.ParseUint(k.PostForm.Get("to"), 10, 64)
	if err != nil {
		return "", errors.New("a revision is a number")
	}
	id, err := settings.ParseID(k.PostForm.Get("id"))
	if err != nil {
		return "", err
	}
	if err := c.record(k, "console.rollback", id.String()); err != nil {
		return "", err
	}
	if _, err = log.Rollback(k.Context(), id, k.who.Name, to); err != nil && c.cfg.Refused != nil {
		c.cfg.Refused(k.who.Name, err)
	}
	return "/configuration", err
}
