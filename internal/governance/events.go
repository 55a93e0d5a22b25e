package governance

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/seal"
)

const (
	pageDefault = 100
	pageMax     = 1000
	// cursorLife is how long after one page the next may be asked for.
	cursorLife = time.Hour
)

// events serves audit-events and audit-events/{id}/proof.
func (c *call) events() (*answer, error) {
	switch {
	case len(c.rest) == 0:
		return c.page()
	case len(c.rest) == 2 && c.rest[1] == "proof":
		return c.proof()
	}
	return nil, &refusal{status: http.StatusNotFound, reason: "path", say: "there are audit-events and audit-events/{id}/proof"}
}

func (c *call) page() (*answer, error) {
	q, err := parseQuery(c.URL.RawQuery, "cursor", "limit", "order")
	if err != nil {
		return nil, err
	}
	asked, err := c.filter(q, "query")
	if err != nil {
		return nil, err
	}
	limit, newest, err := paging(q)
	if err != nil {
		return nil, err
	}
	f, err := c.bounded(asked, ReadEvents, nil)
	if err != nil {
		return nil, err
	}
	bound := c.bound(asked, newest)
	inner, ref := c.api.openCursor(q.Get("cursor"), bound, c.now)
	if ref != nil {
		return nil, ref
	}
	p, err := c.api.cfg.Log.Query(c.Context(), f, newest, inner, limit)
	if err != nil {
		return nil, err
	}
	c.note("rows", strconv.Itoa(len(p.Entries)))
	body := []byte(`{"events":[`)
	for i := range p.Entries {
		if i > 0 {
			body = append(body, ',')
		}
		body = audit.AppendJSON(append(body, '\n'), &p.Entries[i])
	}
	body = append(body, "\n]"...)
	if p.Cursor != "" {
		body = append(strconv.AppendQuote(append(body, `,"cursor":`...), c.api.sealCursor(p.Cursor, bound, c.now)), '\n')
	}
	return &answer{body: append(body, "}\n"...)}, nil
}

// bounded gives what is asked for the bounds of who asks, has more look at both unless
// it is nil, and asks the policy.
func (c *call) bounded(asked audit.Filter, a Action, more func(*audit.Filter, *Resource) error) (audit.Filter, error) {
	b, err := c.api.cfg.Decider.Bounds(c.Context(), c.subject)
	if err != nil {
		return asked, err
	}
	f := narrow(asked, c.subject, b, c.now)
	resource := resourceIn(&f, c.now)
	if more != nil {
		if err := more(&asked, &resource); err != nil {
			return f, err
		}
	}
	return f, c.decide(a, &resource)
}

func (c *call) proof() (*answer, error) {
	id, err := audit.ParseID(c.rest[0])
	if err != nil {
		return nil, malformed("an event's id has 32 hexadecimal digits")
	}
	c.event.Action = "prove"
	c.note("query", id.String())
	e, err := c.api.cfg.Log.Find(c.Context(), id)
	if err != nil {
		return nil, err
	}
	resource := resourceOf(&e.Event, c.now)
	if ok, _ := c.api.cfg.Decider.Decide(c.Context(), c.subject, Prove, &resource); !ok {
		return nil, ErrNotFound // as if it were not there
	}
	b, err := c.api.cfg.Log.Prove(c.Context(), e.Seq)
	return &answer{kind: "text/plain; charset=utf-8", body: b}, err
}

// history serves configuration-history.
func (c *call) history() (*answer, error) {
	q, err := parseQuery(c.URL.RawQuery, "after", "limit")
	if err != nil {
		return nil, err
	}
	if len(c.rest) != 0 || c.api.cfg.History == nil {
		return nil, &refusal{status: http.StatusNotFound, reason: "path", say: "this process has no configuration's history"}
	}
	var after uint64
	if s := q.Get("after"); s != "" {
		if after, err = strconv.ParseUint(s, 10, 63); err != nil {
			return nil, malformed("after is a revision")
		}
	}
	limit, _, err := paging(q)
	if err != nil {
		return nil, err
	}
	if err := c.decide(ReadHistory, &Resource{Org: c.subject.Org}); err != nil {
		return nil, err
	}
	changes, err := c.api.cfg.History.Changes(c.Context(), after, limit)
	if err != nil {
		return nil, err
	}
	c.note("rows", strconv.Itoa(len(changes)))
	if changes == nil {
		changes = []json.RawMessage{}
	}
	b, err := json.Marshal(map[string]any{"changes": changes})
	return &answer{body: append(b, '\n')}, err
}

// filterNames are the parameters that a filter has.
var filterNames = []string{"from", "to", "actor", "severity", "kind", "subject", "action", "org", "outcome", "sensitivity"}

// parseQuery reads parameters of which each is known and comes once.
func parseQuery(raw string, more ...string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, malformed("the parameters are not encoded as in a URL")
	}
	for name, values := range q {
		if len(values) != 1 || !slices.Contains(filterNames, name) && !slices.Contains(more, name) {
			return nil, malformed("a parameter is unknown or comes twice; there are " + list(append(slices.Clone(more), filterNames...)))
		}
	}
	return q, nil
}

func list[S ~string](names []S) (s string) {
	for i, n := range names {
		if i > 0 {
			s += ", "
		}
		s += string(n)
	}
	return s
}

// filter reads what is wanted, and notes it for the record.
func (c *call) filter(q url.Values, detail string) (audit.Filter, error) {
	f, err := parseFilter(q)
	if err == nil {
		err = c.check(&f, detail)
	}
	return f, err
}

// FilterValues writes a filter as the parameters of a query.
func FilterValues(f *audit.Filter) url.Values {
	q := url.Values{}
	for name, t := range map[string]time.Time{"from": f.From, "to": f.To} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	for name, s := range map[string]string{"actor": f.Actor, "subject": f.Subject, "action": f.Action} {
		if s != "" {
			q.Set(name, s)
		}
	}
	if f.Kind != 0 {
		q.Set("kind", f.Kind.String())
	}
	if f.Severity != 0 {
		q.Set("severity", f.Severity.String())
	}
	if f.Outcome != nil {
		q.Set("outcome", f.Outcome.String())
	}
	if f.Sensitivity != nil {
		q.Set("sensitivity", strconv.Itoa(int(*f.Sensitivity)))
	}
	if f.Org != nil {
		q.Set("org", *f.Org)
	}
	return q
}

func parseFilter(q url.Values) (f audit.Filter, err error) {
	for name, t := range map[string]*time.Time{"from": &f.From, "to": &f.To} {
		if s := q.Get(name); s != "" {
			if *t, err = time.Parse(time.RFC3339, s); err != nil {
				return f, malformed(name + " is a time as 2026-11-23T09:00:00Z")
			}
		}
	}
	if s := q.Get("kind"); s != "" {
		if f.Kind, err = audit.ParseKind(s); err != nil {
			return f, malformed("kind is one of " + list(audit.KindNames()))
		}
	}
	if s := q.Get("severity"); s != "" {
		if f.Severity, err = audit.ParseSeverity(s); err != nil {
			return f, malformed("severity is info, notice, warning or critical: this and above")
		}
	}
	if s := q.Get("outcome"); s != "" {
		outcome, err := audit.ParseOutcome(s)
		if err != nil {
			return f, malformed("outcome is ok, refused or failed")
		}
		f.Outcome = &outcome
	}
	if s := q.Get("sensitivity"); s != "" {
		n, err := strconv.ParseUint(s, 10, 8)
		if err != nil || n > audit.SensitivityMax {
			return f, malformed("sensitivity is 0, 1 or 2: this and below")
		}
		most := uint8(n)
		f.Sensitivity = &most
	}
	if q.Has("org") {
		org := q.Get("org")
		f.Org = &org
	}
	f.Actor, f.Subject, f.Action = q.Get("actor"), q.Get("subject"), q.Get("action")
	return f, nil
}

// check refuses texts that no event has, which are none that may be recorded either.
func (c *call) check(f *audit.Filter, detail string) error {
	e := c.event
	if f.Actor != "" {
		e.Actor = f.Actor
	}
	e.Subject, e.Action = f.Subject, f.Action
	if f.Org != nil {
		e.Org = *f.Org
	}
	if e.Validate() != nil {
		return malformed("actor, subject, action and org are texts of events: short, without control characters and network addresses")
	}
	s := f.String()
	if len(s) > audit.ValueMax {
		s = "sha256 " + audit.Digest(seal.SHA256([]byte(s)))
	}
	c.note(detail, s)
	if c.event.Validate() != nil {
		return malformed("the filter is not one that can be recorded")
	}
	return nil
}

func paging(q url.Values) (limit int, newest bool, err error) {
	limit = pageDefault
	if s := q.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > pageMax {
			return 0, false, malformed("limit is 1 to " + strconv.Itoa(pageMax))
		}
	}
	switch q.Get("order") {
	case "", "oldest":
	case "newest":
		newest = true
	default:
		return 0, false, malformed("order is oldest or newest, which comes first")
	}
	return limit, newest, nil
}

// bound is to what a cursor is bound: who asked for what.
func (c *call) bound(asked audit.Filter, newest bool) [32]byte {
	return seal.SHA256([]byte(strconv.Quote(c.subject.Name) + strconv.Quote(c.subject.Org) + string(c.subject.Role) + strconv.FormatBool(newest) + asked.String()))
}

// A cursor is a MAC, a time at which it ends, and the index's own.
const cursorHead = seal.MACSize + 8

func (a *API) sealCursor(inner string, bound [32]byte, now time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(now.Add(cursorLife).Unix()))
	b = append(b, inner...)
	mac := a.cursorMAC(bound, b)
	return base64.RawURLEncoding.EncodeToString(append(mac[:], b...))
}

func (a *API) cursorMAC(bound [32]byte, b []byte) [seal.MACSize]byte {
	k := seal.Derive(a.cfg.Key, "governance cursor")
	return seal.MAC(&k, bound[:], b)
}

func (a *API) openCursor(s string, bound [32]byte, now time.Time) (inner string, ref *refusal) {
	if s == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < cursorHead || len(b) > 256 {
		return "", &refusal{status: http.StatusBadRequest, reason: "cursor", say: "not a cursor of this service"}
	}
	want := a.cursorMAC(bound, b[seal.MACSize:])
	if !seal.Equal(b[:seal.MACSize], want[:]) {
		return "", &refusal{status: http.StatusBadRequest, reason: "cursor", say: "the cursor is of another query or of somebody else"}
	}
	if now.Unix() > int64(binary.BigEndian.Uint64(b[seal.MACSize:])) {
		return "", &refusal{status: http.StatusBadRequest, reason: "cursor", say: "the cursor is older than an hour; begin anew"}
	}
	return string(b[cursorHead:]), nil
}
