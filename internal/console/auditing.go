package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

const (
	// auditPath is where the governance API has its paths.
	auditPath = "/governance/v1/"
	pageSize  = "50"
	// exportsShown bounds the exports that a visit remembers.
	exportsShown = 5
	answerMost   = 8 << 20
)

// lasts are the times until now that one button searches.
var lasts = []string{"1h", "24h", "168h"}

// auditFilters are the fields of a search, by the names of the governance API.
var auditFilters = []string{"from", "to", "kind", "severity", "actor", "subject", "action", "outcome"}

// auditPage is what the page of the audit log shows.
type auditPage struct {
	Here     bool
	Filter   map[string]string
	Lasts    []string
	Query    string // of the filter, for links
	Kinds    []string
	Searched bool
	Events   []auditEvent
	Next     string // link to the next page; "" is the last
	Exports  []auditExport
	Making   bool // one of them is not over, so that the page asks again
	Formats  []audit.Format
}

// auditEvent is one event as the governance API writes it.
type auditEvent struct {
	Seq      int64             `json:"seq"`
	ID       string            `json:"id"`
	Time     string            `json:"time"`
	Kind     string            `json:"kind"`
	Severity string            `json:"severity"`
	Actor    string            `json:"actor"`
	Subject  string            `json:"subject"`
	Action   string            `json:"action"`
	Outcome  string            `json:"outcome"`
	Reason   string            `json:"reason"`
	Count    uint64            `json:"count"`
	Details  map[string]string `json:"details"`
}

// auditExport is a copy of the log that a visit has asked for, as the governance API
// told of it last.
type auditExport struct {
	by     Role
	ID     string   `json:"id"`
	State  string   `json:"state"`
	Format string   `json:"format"`
	Rows   int64    `json:"rows"`
	Files  []string `json:"files"`
}

// making reports whether there is more to be told of an export.
func (e *auditExport) making() bool { return e.State == "waiting" || e.State == "running" }

// answer is what a source wrote, whole.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) { a.status = status }

func (a *answer) Write(b []byte) (int, error) {
	if a.body.Len()+len(b) > answerMost {
		return 0, errors.New("the answer is too large for a page")
	}
	return a.body.Write(b)
}

// asks asks the governance API as somebody, and decodes what it answers.
func (c *Console) asks(k *call, method, path string, body []byte, into any) error {
	r, err := http.NewRequestWithContext(k.Context(), method, auditPath+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	a := &answer{header: http.Header{}, status: http.StatusOK}
	c.cfg.Audit.ServeAs(a, r, k.who.Person)
	if a.status >= http.StatusBadRequest {
		var said struct{ Message string }
		if json.Unmarshal(a.body.Bytes(), &said) != nil || said.Message == "" {
			said.Message = http.StatusText(a.status)
		}
		return errors.New(said.Message)
	}
	return json.Unmarshal(a.body.Bytes(), into)
}

func (c *Console) audit(k *call) (any, error) {
	p := &auditPage{Here: c.cfg.Audit != nil, Filter: map[string]string{}, Lasts: lasts, Kinds: audit.KindNames(), Formats: []audit.Format{audit.CSV, audit.JSONLines, audit.Parquet}}
	if !p.Here {
		return p, nil
	}
	q := k.URL.Query()
	if last := q.Get("last"); last != "" {
		if !slices.Contains(lasts, last) {
			return nil, errors.New(k.face.say("error.last"))
		}
		long, _ := time.ParseDuration(last)
		q.Set("from", c.cfg.Now().Add(-long).UTC().Format(time.RFC3339))
		q.Del("to")
	}
	asked := url.Values{"limit": {pageSize}, "order": {"newest"}}
	for _, name := range auditFilters {
		v := strings.TrimSpace(q.Get(name))
		if name == "from" || name == "to" {
			v = pickedTime(v)
		}
		if v != "" {
			p.Filter[name] = v
			asked.Set(name, v)
		}
	}
	own := url.Values{"search": {"1"}}
	for name, v := range p.Filter {
		own.Set(name, v)
	}
	p.Query = own.Encode()
	if p.Searched = q.Has("search"); p.Searched {
		if cursor := q.Get("cursor"); cursor != "" {
			asked.Set("cursor", cursor)
		}
		var said struct {
			Events []auditEvent
			Cursor string
		}
		if err := c.asks(k, http.MethodGet, "audit-events?"+asked.Encode(), nil, &said); err != nil {
			return nil, err
		}
		p.Events = said.Events
		if said.Cursor != "" {
			own.Set("cursor", said.Cursor)
			p.Next = "/audit?" + own.Encode()
		}
	}
	p.Exports = c.exportsOf(k)
	for i := range p.Exports {
		p.Making = p.Making || p.Exports[i].making()
	}
	return p, nil
}

// localLayouts are how browsers write what somebody picks as a time, with what is 0 left
// out.
var localLayouts = []string{"2006-01-02T15:04", "2006-01-02T15:04:05"} // fractions of a second are read by either

// pickedTime is a time that a form sends, as the governance API wants it: the form asks for
// UTC. What is of another form stays as it is, for the API to take or refuse.
func pickedTime(s string) string {
	for _, layout := range localLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Format(time.RFC3339Nano)
		}
	}
	return s
}

// Picked is a time of the filter as a form holds it.
func (p *auditPage) Picked(name string) string {
	t, err := time.Parse(time.RFC3339, p.Filter[name])
	if err != nil {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.999")
}

// proof hands out the proof that an event is in the log, which nyx audit verify reads.
func (c *Console) proof(k *call) {
	c.pass(k, "audit-events/"+k.PathValue("id")+"/proof", k.PathValue("id")+".proof")
}

// exported hands out a file of an export.
func (c *Console) exported(k *call) {
	c.pass(k, "exports/"+k.PathValue("id")+"/files/"+k.PathValue("name"), "")
}

// pass has the governance API answer by itself: it writes as its reader takes it.
func (c *Console) pass(k *call, path, name string) {
	if c.cfg.Audit == nil {
		c.fail(k, http.StatusNotFound, "failed", errNone.Error())
		return
	}
	r, err := http.NewRequestWithContext(k.Context(), http.MethodGet, auditPath+path, http.NoBody)
	if err != nil {
		c.fail(k, http.StatusBadRequest, "failed", oneLine(err))
		return
	}
	if name != "" {
		k.w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	}
	c.cfg.Audit.ServeAs(k.w, r, k.who.Person)
}

// export has a copy of what a filter finds made.
func (c *Console) export(k *call) (string, error) {
	if c.cfg.Audit == nil {
		return "", errNone
	}
	filter := map[string]string{}
	for _, name := range auditFilters {
		if v := strings.TrimSpace(k.PostForm.Get(name)); v != "" {
			filter[name] = v
		}
	}
	body, err := json.Marshal(map[string]any{"format": k.PostForm.Get("format"), "filter": filter})
	if err != nil {
		return "", err
	}
	var one auditExport
	if err := c.asks(k, http.MethodPost, "exports", body, &one); err != nil {
		return "", err
	}
	one.by = k.who.Role
	c.people.mu.Lock()
	defer c.people.mu.Unlock()
	v := k.visit
	v.exports = slices.Insert(v.exports, 0, one)
	v.exports = v.exports[:min(len(v.exports), exportsShown)]
	return "/audit#exports", nil
}

// exportsOf are those that a visit has asked for in its role. Each question about one is
// an event of the log and counts towards what somebody may ask, so that what is over is
// never asked about again.
func (c *Console) exportsOf(k *call) (out []auditExport) {
	c.people.mu.Lock()
	kept := slices.Clone(k.visit.exports)
	c.people.mu.Unlock()
	for _, one := range kept {
		if one.by != k.who.Role {
			continue
		}
		if one.making() {
			now := auditExport{by: one.by}
			if err := c.asks(k, http.MethodGet, "exports/"+one.ID, nil, &now); err == nil {
				one = now
				c.keep(k.visit, one)
			}
		}
		out = append(out, one)
	}
	return out
}

// keep remembers what was told of an export.
func (c *Console) keep(v *visit, one auditExport) {
	c.people.mu.Lock()
	defer c.people.mu.Unlock()
	if i := slices.IndexFunc(v.exports, func(e auditExport) bool { return e.ID == one.ID }); i >= 0 {
		v.exports[i] = one
	}
}
