package governance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/seal"
)

var begin = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// memory is a log in memory, which records too.
type memory struct {
	mu      sync.Mutex
	entries []audit.Entry
	fail    error // what Record says
}

func (m *memory) Record(_ context.Context, events ...audit.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for _, e := range events {
		if err := e.Validate(); err != nil {
			return err
		}
		m.entries = append(m.entries, audit.Entry{Seq: int64(len(m.entries)), Event: e})
	}
	return nil
}

func (m *memory) Query(_ context.Context, f audit.Filter, newest bool, cursor string, limit int) (p Page, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	skip := 0
	if cursor != "" {
		if skip, err = strconv.Atoi(cursor); err != nil {
			return p, ErrCursor
		}
	}
	entries := slices.Clone(m.entries)
	if newest {
		slices.Reverse(entries)
	}
	for i, e := range entries {
		if i < skip || !f.Match(&e.Event) {
			continue
		}
		if len(p.Entries) == limit {
			p.Cursor = strconv.Itoa(i)
			break
		}
		p.Entries = append(p.Entries, e)
	}
	return p, nil
}

func (m *memory) Find(_ context.Context, id audit.ID) (audit.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if e.Event.ID == id {
			return e, nil
		}
	}
	return audit.Entry{}, ErrNotFound
}

func (m *memory) Prove(_ context.Context, seq int64) ([]byte, error) {
	return fmt.Appendf(nil, "proof of entry %d", seq), nil
}

// accesses are what was recorded of the API, as "actor subject action outcome reason".
func (m *memory) accesses() (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if v := e.Event; v.Kind == audit.AuditAccess || v.Kind == audit.AuditExport {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %v %s", v.Actor, v.Subject, v.Action, v.Outcome, v.Reason)))
		}
	}
	return out
}

// fixture is an API on a clock that the test sets.
type fixture struct {
	*testing.T
	log *memory
	api *API
	now time.Time
	cfg Config
	n   byte
}

func newFixture(t *testing.T, change ...func(*Config)) *fixture {
	f := &fixture{T: t, log: &memory{}, now: begin}
	f.cfg = Config{Log: f.log, Recorder: f.log, Node: "control-1", Key: &seal.Key{7}, Entropy: f.draw, Now: func() time.Time { return f.now }}
	for _, c := range change {
		c(&f.cfg)
	}
	var err error
	if f.api, err = New(f.cfg); err != nil {
		t.Fatal(err)
	}
	return f
}

var drawn struct {
	sync.Mutex
	n uint64
}

func (f *fixture) draw(b []byte) {
	drawn.Lock()
	defer drawn.Unlock()
	drawn.n++
	h := seal.SHA256([]byte(strconv.FormatUint(drawn.n, 10)))
	copy(b, h[:])
}

// happen records so many events: of two organisations, three sensitivities, a day
// apart.
func (f *fixture) happen(many int) {
	f.Helper()
	for n := range many {
		at := begin.Add(-time.Duration(n) * 24 * time.Hour)
		e := audit.Event{ID: audit.NewID(at, [10]byte{1, byte(n), byte(n >> 8)}), Time: at, Kind: audit.ConfigChange, Severity: audit.Severity(n % 4), Actor: "operator-" + strconv.Itoa(n%3),
			Subject: "mix.queue_limit", Action: "set", Org: []string{"", "north"}[n%2], Sensitivity: uint8(n % 3), Count: 1}
		if err := f.log.Record(f.Context(), e); err != nil {
			f.Fatal(err)
		}
	}
}

// as is a credential of somebody, good for one request.
func (f *fixture) as(s Subject) string {
	f.n++
	return "Bearer " + NewBearer(f.cfg.Key, &s, f.now, [16]byte{f.n, byte(drawn.n), byte(drawn.n >> 8)})
}

func person(role Role) Subject {
	return Subject{Name: string(role) + "-1", Role: role, Clearance: 2}
}

// ask sends a request with a credential.
func (f *fixture) ask(credential, method, path, body string) *httptest.ResponseRecorder {
	f.Helper()
	r := httptest.NewRequestWithContext(f.Context(), method, "/", strings.NewReader(body))
	u, err := r.URL.Parse("http://governance/")
	if err != nil {
		f.Fatal(err)
	}
	r.URL = u
	r.URL.Path, r.URL.RawPath = path, ""
	if p, q, ok := strings.Cut(path, "?"); ok {
		r.URL.Path, r.URL.RawQuery = p, q
	}
	if credential != "" {
		r.Header.Set("Authorization", credential)
	}
	w := httptest.NewRecorder()
	f.api.ServeHTTP(w, r)
	return w
}

// get asks somebody's question.
func (f *fixture) get(s Subject, path string) *httptest.ResponseRecorder {
	f.Helper()
	return f.ask(f.as(s), "GET", Prefix+path, "")
}

// refused checks that an answer is a refusal of a status and reason, in clear JSON.
func (f *fixture) refused(what string, w *httptest.ResponseRecorder, status int, reason string) {
	f.Helper()
	var said struct{ Error, Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != status || said.Error != reason || said.Message == "" {
		f.Errorf("%s: %d %s, want %d %s", what, w.Code, w.Body, status, reason)
	}
	if strings.Contains(w.Body.String(), "operator-") {
		f.Errorf("%s: the refusal holds an event: %s", what, w.Body)
	}
}

// recorded checks that the newest access on the record is this one.
func (f *fixture) recorded(what, want string) {
	f.Helper()
	all := f.log.accesses()
	if len(all) == 0 || all[len(all)-1] != want {
		f.Errorf("%s: the newest on the record of %d is %q, want %q", what, len(all), all[max(0, len(all)-1):], want)
	}
}

// events are the numbers of the events of an answer, and its cursor.
func (f *fixture) events(w *httptest.ResponseRecorder) (seqs []int64, cursor string) {
	f.Helper()
	var said struct {
		Events []struct {
			Seq         int64
			Kind, Org   string
			Sensitivity uint8
		}
		Cursor string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != http.StatusOK {
		f.Fatalf("%d %s (%v)", w.Code, w.Body, err)
	}
	for _, e := range said.Events {
		seqs = append(seqs, e.Seq)
	}
	return seqs, said.Cursor
}

var errTest = errors.New("for the test")
