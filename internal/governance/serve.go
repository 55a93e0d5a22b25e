package governance

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// The way of a request (ServeHTTP):
//
//	1. it has a plain path and there is room for it       route, slots
//	2. who sends it is known                              identify
//	3. they have not sent too many                        rates
//	4. what is asked for is well-formed                   the route's handler
//	5. they may have it                                   decide
//	6. it is made, of bounded size                        the route's handler
//	7. that it was asked for is recorded                  record
//	8. it leaves                                          answer
//
// Where a stage refuses, that is recorded, and what leaves is an object with a reason.

// Prefix is that of all paths.
const Prefix = "/governance/v1/"

const (
	// recordMax is how long an answer waits for its record.
	recordMax = 10 * time.Second
	// writeMax is how long a client may take for a piece of an answer.
	writeMax   = 20 * time.Second
	writePiece = 64 << 10

	eventsPerMinute = 10
	otherPerMinute  = 60
)

// call is one request of somebody who is known.
type call struct {
	*http.Request
	api     *API
	subject *Subject
	now     time.Time
	rest    []string // of the path, after the route's own name
	event   audit.Event
	done    bool // event is recorded
}

// answer is what may leave, when it is recorded.
type answer struct {
	status int    // 0: 200
	kind   string // content type; "": JSON
	name   string // of a file
	body   []byte
	// stream writes what is not in body; w gives each piece the time of writeMax.
	stream func(ctx context.Context, w io.Writer) error
	size   int64 // of what stream writes; 0: not known
}

// route is what a method and the first part of a path lead to.
type route struct {
	perMinute int
	serve     func(*call) (*answer, error)
}

func (a *API) route(method, name string) (route, bool) {
	switch method + " " + name {
	case "GET audit-events":
		return route{eventsPerMinute, (*call).events}, true
	case "GET exports":
		return route{otherPerMinute, exportDesk.made}, true
	case "POST exports":
		return route{eventsPerMinute, exportDesk.makes}, true
	case "GET reports":
		return route{otherPerMinute, reportDesk.made}, true
	case "POST reports":
		return route{eventsPerMinute, reportDesk.makes}, true
	case "GET insights":
		return route{otherPerMinute, (*call).insights}, true
	case "GET configuration-history":
		return route{otherPerMinute, (*call).history}, true
	}
	return route{}, false
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := a.cfg.Now()
	r.Body = http.MaxBytesReader(w, r.Body, bodyMax)
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	default:
		a.deny(w, r, nil, "api", &refusal{status: http.StatusServiceUnavailable, reason: "busy", say: "too many requests are worked on; come again", retry: 5}, now)
		return
	}
	path, ref := cutPath(r)
	if ref != nil {
		a.deny(w, r, nil, "api", ref, now)
		return
	}
	s, ref := a.identify(r, now)
	if ref != nil {
		a.deny(w, r, nil, "api", ref, now)
		return
	}
	route, ok := a.route(r.Method, path[0])
	if !ok {
		a.deny(w, r, s, "api", &refusal{status: http.StatusNotFound, reason: "path", say: "there is nothing of this method and path; see docs/governance.md"}, now)
		return
	}
	if wait := a.rates.take(r.Method+" "+path[0]+" "+s.Name, route.perMinute, now); wait > 0 {
		a.deny(w, r, s, path[0], &refusal{status: http.StatusTooManyRequests, reason: "rate", say: strconv.Itoa(route.perMinute) + " requests a minute are yours", retry: int(math.Ceil(wait.Seconds()))}, now)
		return
	}
	c := &call{Request: r, api: a, subject: s, now: now, rest: path[1:], event: a.newEvent(audit.AuditAccess, s.Name, now)}
	c.event.Subject, c.event.Action, c.event.Org = path[0], "read", s.Org
	out, err := route.serve(c)
	if err == nil {
		err = c.record()
	}
	if err != nil {
		a.deny(w, r, s, path[0], asRefusal(err, a), now)
		return
	}
	a.answer(w, r, out)
}

var pathPart = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)

// cutPath cuts a path below Prefix into its parts. Parts have the characters of names
// and nothing else, so that none of them leads anywhere.
func cutPath(r *http.Request) ([]string, *refusal) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), Prefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) > 4 {
		return nil, &refusal{status: http.StatusNotFound, reason: "path", say: "paths begin with " + Prefix}
	}
	for _, p := range parts {
		if !pathPart.MatchString(p) || strings.Contains(p, "..") {
			return nil, &refusal{status: http.StatusBadRequest, reason: "path", say: "a part of a path is 1 to 64 of a-z, 0-9, - and ."}
		}
	}
	return parts, nil
}

// decide asks the policy.
func (c *call) decide(a Action, r *Resource) error {
	if ok, why := c.api.cfg.Decider.Decide(c.Context(), c.subject, a, r); !ok {
		return &refusal{status: http.StatusForbidden, reason: "policy", say: why}
	}
	return nil
}

// note adds a detail to the record of the call.
func (c *call) note(key, value string) {
	if value != "" {
		c.event.Details = append(c.event.Details, audit.Detail{Key: key, Value: value})
	}
}

// record records the call, once.
func (c *call) record() error {
	if c.done {
		return nil
	}
	c.note("role", string(c.subject.Role))
	ctx, cancel := context.WithTimeout(c.Context(), recordMax)
	defer cancel()
	if err := c.api.cfg.Recorder.Record(ctx, c.event); err != nil {
		c.api.log.Error("an answer of the governance API was held back: it is not recorded", "why", err)
		return &refusal{status: http.StatusServiceUnavailable, reason: "record", say: "that you asked cannot be recorded now, so there is no answer; come again", retry: 10}
	}
	c.done = true
	return nil
}

// asRefusal makes an error what a client may see of it.
func asRefusal(err error, a *API) *refusal {
	var ref *refusal
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &ref):
		return ref
	case errors.As(err, &large):
		return &refusal{status: http.StatusRequestEntityTooLarge, reason: "body", say: "a body has at most " + strconv.Itoa(bodyMax) + " bytes"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{status: http.StatusRequestTimeout, reason: "slow", say: "a request must be here within " + requestMax.String()}
	case errors.Is(err, ErrNotFound):
		return &refusal{status: http.StatusNotFound, reason: "nothing", say: "there is nothing that you may see"}
	case errors.Is(err, ErrCursor):
		return malformed("the cursor is not one of this query; begin anew")
	}
	a.log.Error("the governance API could not answer", "why", err)
	return &refusal{status: http.StatusInternalServerError, reason: "fault", say: "it could not be made; the process's log says why"}
}

// deny records a refusal and answers with it.
func (a *API) deny(w http.ResponseWriter, r *http.Request, s *Subject, subject string, ref *refusal, now time.Time) {
	name := ""
	if s != nil {
		name = s.Name
	}
	a.refuse(r.Context(), name, subject, ref, now)
	if ref.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(ref.retry))
	}
	if ref.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	body, _ := json.Marshal(map[string]string{"error": ref.reason, "message": ref.say}) // of strings: it cannot fail
	a.answer(w, r, &answer{status: ref.status, body: append(body, '\n')})
}

func (a *API) answer(w http.ResponseWriter, r *http.Request, out *answer) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if out.kind != "" {
		h.Set("Content-Type", out.kind)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	if out.name != "" {
		h.Set("Content-Disposition", `attachment; filename="`+out.name+`"`)
	}
	if size := out.size + int64(len(out.body)); out.stream == nil || out.size > 0 {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	w.WriteHeader(max(out.status, http.StatusOK))
	p := &paced{w, http.NewResponseController(w)}
	if _, err := p.Write(out.body); err != nil || out.stream == nil {
		return
	}
	if err := out.stream(r.Context(), p); err != nil {
		a.log.Warn("an answer of the governance API was cut off", "why", err)
		panic(http.ErrAbortHandler) // so that the client sees that it is not whole
	}
}

// paced writes in pieces, each of which the client must take within writeMax.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (p *paced) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		p.control.SetWriteDeadline(time.Now().Add(writeMax)) // not of every writer of tests
		m, err := p.ResponseWriter.Write(b[:min(len(b), writePiece)])
		if n += m; err != nil {
			return n, err
		}
		b = b[m:]
	}
	return n, nil
}
