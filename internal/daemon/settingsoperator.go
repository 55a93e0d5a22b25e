package daemon

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry/changes"
	"github.com/nyxnet/nyx/internal/seal"
)

// What operators ask the control plane about the configuration: JSON over HTTP.
const (
	// OperatorPath is where operators ask and order.
	OperatorPath = "/control/v1/operator/config"
	// operatorMost bounds a request.
	operatorMost = 64 << 10
	// historyMost bounds the changes of one answer.
	historyMost = 1000
)

// SettingsView is the configuration as operators see it.
type SettingsView struct {
	Revision uint64             `json:"revision"`
	Hash     string             `json:"hash"`
	Values   settings.Values    `json:"values"`
	Keys     []SettingsKey      `json:"keys,omitempty"`
	Trials   []settings.Trial   `json:"trials,omitempty"`
	Waiting  []*settings.Change `json:"waiting,omitempty"`
}

// SettingsKey is a key that may be set.
type SettingsKey struct {
	Name    string `json:"name"`
	Wants   string `json:"wants"`
	Default string `json:"default,omitempty"`
	Roles   string `json:"roles"`
	Help    string `json:"help"`
}

// SettingsStatus is how the configuration stands.
type SettingsStatus struct {
	SettingsView
	Queue int               `json:"queue"` // changes that are not accepted yet
	Nodes []NodeSettings    `json:"nodes,omitempty"`
	Dead  []settings.Letter `json:"dead,omitempty"`
}

// SettingsOrder is what an operator orders.
type SettingsOrder struct {
	ID        settings.ID       `json:"id"`
	Set       map[string]string `json:"set,omitempty"`
	Comment   string            `json:"comment,omitempty"`
	Effective time.Time         `json:"effective_at,omitzero"`
	Seen      uint64            `json:"seen,omitempty"`
	Stage     *settings.Stage   `json:"stage,omitempty"`
	// To is the revision to go back to.
	To *uint64 `json:"to,omitempty"`
	// Keep has a change that the schema refuses kept as a dead letter.
	Keep bool `json:"keep,omitempty"`
}

// RegisterOperator has a server answer operators. who tells the name of the operator
// that asks, or why it is refused, which turned is told.
func (d *SettingsDesk) RegisterOperator(mux *http.ServeMux, who func(*http.Request) (name, why string), turned func(why string)) {
	handle := func(pattern string, do func(r *http.Request, actor string) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			actor, why := who(r)
			if why != "" {
				turned(why)
				http.Error(w, "the configuration is for operators of the network; the operator file has what to show", http.StatusForbidden)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, operatorMost)
			answer, err := do(r, actor)
			if err != nil {
				if r.Method == http.MethodPost {
					d.tell(refusal(actor, err))
				}
				status := http.StatusBadRequest
				if errors.Is(err, changes.ErrStale) {
					status = http.StatusConflict
				}
				http.Error(w, oneLine(err), status)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(answer)
		})
	}
	handle("GET "+OperatorPath, func(*http.Request, string) (any, error) { return d.view(true), nil })
	handle("GET "+OperatorPath+"/at", d.viewAt)
	handle("GET "+OperatorPath+"/history", d.history)
	handle("GET "+OperatorPath+"/status", d.status)
	handle("POST "+OperatorPath, d.order)
	handle("POST "+OperatorPath+"/rollback", d.rollBack)
	handle("POST "+OperatorPath+"/retry", d.retry)
}

func (d *SettingsDesk) view(keys bool) SettingsView {
	s := d.log.State()
	v := SettingsView{Revision: s.Revision(), Hash: StateHash(s), Values: s.All(), Waiting: s.Waiting()}
	for _, t := range s.Trials() {
		v.Trials = append(v.Trials, t)
	}
	if keys {
		for _, k := range d.log.Schema().Keys() {
			v.Keys = append(v.Keys, SettingsKey{k.Name, k.Wants(), k.Default, k.Roles.String(), k.Help})
		}
	}
	return v
}

func (d *SettingsDesk) viewAt(r *http.Request, _ string) (any, error) {
	to, err := strconv.ParseUint(r.URL.Query().Get("revision"), 10, 64)
	if err != nil {
		return nil, errors.New("revision is a number")
	}
	s, err := d.log.Replay(r.Context(), to)
	if err != nil {
		return nil, err
	}
	return SettingsView{Revision: to, Hash: StateHash(s), Values: s.All()}, nil
}

func (d *SettingsDesk) history(r *http.Request, _ string) (any, error) {
	from, err := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
	if err != nil {
		return nil, errors.New("from is a revision")
	}
	out := []settings.Change{}
	err = d.log.History(r.Context(), from, func(c settings.Change) bool {
		out = append(out, c)
		return len(out) < historyMost
	})
	return out, err
}

func (d *SettingsDesk) status(r *http.Request, _ string) (any, error) {
	dead, err := d.log.Dead(r.Context())
	return SettingsStatus{SettingsView: d.view(false), Queue: d.log.Depth(), Nodes: d.Nodes(), Dead: dead}, err
}

func readOrder(r *http.Request) (o SettingsOrder, err error) {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err = dec.Decode(&o); err != nil {
		return o, errors.New("the request is not an order: " + err.Error())
	}
	if _, err = dec.Token(); !errors.Is(err, io.EOF) {
		return o, errors.New("the request is not one order: something follows it")
	}
	return o, nil
}

func (d *SettingsDesk) order(r *http.Request, actor string) (any, error) {
	o, err := readOrder(r)
	if err != nil {
		return nil, err
	}
	s := changes.Submission{Seen: o.Seen, Change: settings.Change{
		ID: o.ID, Set: o.Set, Actor: actor, Comment: o.Comment, Effective: o.Effective.UTC().Truncate(time.Millisecond), Stage: o.Stage,
	}}
	if !o.Keep {
		return d.log.Submit(r.Context(), s)
	}
	c, why, err := d.log.Post(r.Context(), s)
	if err == nil && why != nil {
		err = errors.New("kept as a dead letter until it is corrected: " + why.Error())
	}
	return c, err
}

func (d *SettingsDesk) rollBack(r *http.Request, actor string) (any, error) {
	o, err := readOrder(r)
	if err == nil && o.To == nil {
		err = errors.New("to which revision?")
	}
	if err != nil {
		return nil, err
	}
	return d.log.Rollback(r.Context(), o.ID, actor, *o.To)
}

// retry corrects a dead letter, or with nothing to set gives it up.
func (d *SettingsDesk) retry(r *http.Request, actor string) (any, error) {
	o, err := readOrder(r)
	if err != nil {
		return nil, err
	}
	action := "dead-letter.correct"
	if len(o.Set) == 0 {
		action = "dead-letter.drop"
		err = d.log.Drop(r.Context(), o.ID)
	} else {
		err = d.log.Correct(r.Context(), o.ID, o.Set)
	}
	if err == nil {
		d.tell(audit.Event{Kind: audit.AdminAction, Severity: audit.Notice, Actor: actor, Action: action, Subject: "dead-letter/" + o.ID.String()})
	}
	return o.ID, err
}

// ByToken tells an operator by the token of the operator file.
func ByToken(name, token string) func(*http.Request) (who, why string) {
	return func(r *http.Request) (string, string) {
		shown, ok := BearerOf(r)
		switch {
		case !ok:
			return "", noCredential
		case token == "" || !seal.Equal([]byte(shown), []byte(token)):
			return "", forgedToken
		}
		return name, ""
	}
}

// oneLine makes an error of several lines one.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}
