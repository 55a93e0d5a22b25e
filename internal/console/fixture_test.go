package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/telemetry"
)

// fakeNetwork is a network of two nodes that counts what it is asked.
type fakeNetwork struct {
	mu       sync.Mutex
	pictures int
	drained  []string
	rotated  int
	fails    error // what orders answer
	change   func(*telemetry.Picture)
}

func (f *fakeNetwork) Picture() telemetry.Picture {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pictures++
	p := telemetry.Picture{
		At: time.Now(), Network: "local", Level: "fast",
		Own: &telemetry.OwnPicture{CoverRatio: -1, Sessions: []telemetry.SessionPicture{{RTT: 12 * time.Millisecond, Sent: 1e6, Packets: 100, Lost: 1, Streams: 3, Paths: 2}},
			Routes: []telemetry.RoutePicture{{Hops: []string{"stream-0", "mix-0", "stream-1"}, Session: 1, Ready: true, Life: time.Minute}}},
		Nodes: []telemetry.NodePicture{
			{Name: "stream-0", ID: strings.Repeat("ab", 32), Region: "west", Stream: true, Capacity: 1000, DatagramsIn: uint64(f.pictures) * 100},
			{Name: "mix-0", ID: strings.Repeat("cd", 32), Region: "east", Capacity: 1000, DatagramsIn: uint64(f.pictures) * 50},
		},
		Delays:    []telemetry.DelayPicture{{From: "east", To: "west", Millis: 40}},
		Directory: &telemetry.DirectoryPicture{Epoch: 7, Nodes: 2, ValidUntil: time.Now().Add(time.Hour), Witnesses: 3, Quorum: 2, Recent: []telemetry.DocumentPicture{{Epoch: 7, Hash: "00ff"}}},
		Parts:     []telemetry.PartPicture{{Name: "stream-0"}, {Name: "mix-0"}},
	}
	if f.change != nil {
		f.change(&p)
	}
	return p
}

func (f *fakeNetwork) Drain(node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drained = append(f.drained, node)
	return f.fails
}

func (f *fakeNetwork) RotateKeys(time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rotated++
	return f.fails
}

// fakePolicy lets operators and admins change things, as the built-in policy does.
type fakePolicy struct{}

func (fakePolicy) Decide(_ context.Context, who Person, a Action) (bool, string) {
	reads := a == See || a == SeeSettings
	if reads || who.Role == Operator || who.Role == Admin {
		return true, ""
	}
	return false, fmt.Sprintf("role %s may not do %s", who.Role, a)
}

// fakeRecord keeps what it is told, or fails.
type fakeRecord struct {
	mu     sync.Mutex
	events []audit.Event
	fails  bool
}

func (f *fakeRecord) Record(_ context.Context, events ...audit.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails {
		return errors.New("the disk is full")
	}
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return err
		}
	}
	f.events = append(f.events, events...)
	return nil
}

func (f *fakeRecord) actions() (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		out = append(out, e.Action+" "+e.Subject+" "+e.Outcome.String())
	}
	return out
}

// fakeLab has one scenario, whose run waits.
type fakeLab struct {
	started chan string
	finish  chan struct{}
}

func (f *fakeLab) Ledger() ([]ScenarioRow, error) {
	return []ScenarioRow{{ID: "DF-001", Title: "something holds", Mode: "sim", Verdict: "not run", Objectives: []string{"p95 of x <= 5 ms"}}}, nil
}

func (f *fakeLab) Evidence(string) ([]byte, error) { return nil, nil }

func (f *fakeLab) Run(ctx context.Context, id string, progress func(string)) (string, error) {
	progress("half")
	f.started <- id
	select {
	case <-f.finish:
		return "met", nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// board is a console that serves, with all that it stands on.
type board struct {
	*testing.T
	*Console
	network *fakeNetwork
	record  *fakeRecord
	lab     *fakeLab
	server  *httptest.Server
	now     time.Time
	nowMu   sync.Mutex
}

func newBoard(t *testing.T, change func(*Config)) *board {
	t.Helper()
	b := &board{T: t, network: &fakeNetwork{}, record: &fakeRecord{}, lab: &fakeLab{make(chan string, 1), make(chan struct{})}, now: time.Now()}
	var mu sync.Mutex
	draw := prng.FromUint64(1).Stream("console test")
	cfg := Config{Network: b.network, Orders: b.network, Policy: fakePolicy{}, Record: b.record, Scenarios: b.lab, Owner: "owner", Now: b.clock,
		Entropy: func(p []byte) { mu.Lock(); defer mu.Unlock(); draw.Read(p) }}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Console = c
	<-b.looked()
	b.server = httptest.NewServer(c)
	t.Cleanup(func() { c.Close(); b.server.CloseClientConnections(); b.server.Close() })
	return b
}

// looked is closed when there is a picture.
func (b *board) looked() <-chan struct{} {
	b.live.mu.Lock()
	defer b.live.mu.Unlock()
	if b.live.owner.picture.Network == "" {
		return b.live.moved // as it was before the first
	}
	there := make(chan struct{})
	close(there)
	return there
}

func (b *board) clock() time.Time {
	b.nowMu.Lock()
	defer b.nowMu.Unlock()
	return b.now
}

func (b *board) advance(d time.Duration) {
	b.nowMu.Lock()
	defer b.nowMu.Unlock()
	b.now = b.now.Add(d)
}

// browser is somebody at the console. It follows no redirection by itself.
type browser struct {
	*board
	*http.Client
	token string
}

func (b *board) browser() *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{board: b, Client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// as signs somebody in.
func (b *board) as(role Role) *browser {
	b.Helper()
	w := b.browser()
	key := strings.TrimPrefix(b.NewLink(), "/enter?key=")
	if r, _ := w.post("/enter", url.Values{"key": {key}, "role": {string(role)}}); r.StatusCode != http.StatusSeeOther {
		b.Fatalf("signing in as %s: %s", role, r.Status)
	}
	w.takeToken()
	return w
}

// takeToken takes the visit's token from a page, for the forms that follow.
func (w *browser) takeToken() {
	w.Helper()
	_, page := w.get("/")
	m := regexp.MustCompile(`name="token" value="([0-9a-f]+)"`).FindStringSubmatch(page)
	if m == nil {
		w.Fatalf("no token on the page:\n%s", page)
	}
	w.token = m[1]
}

func (w *browser) do(r *http.Request) (*http.Response, string) {
	w.Helper()
	resp, err := w.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return resp, string(body)
}

func (w *browser) request(method, path string, form url.Values) *http.Request {
	r, err := http.NewRequest(method, w.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		w.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

func (w *browser) get(path string) (*http.Response, string) {
	w.Helper()
	return w.do(w.request(http.MethodGet, path, nil))
}

func (w *browser) post(path string, form url.Values) (*http.Response, string) {
	w.Helper()
	return w.do(w.request(http.MethodPost, path, form))
}

// order posts a form with the visit's token.
func (w *browser) order(path string, form url.Values) (*http.Response, string) {
	w.Helper()
	form.Set("token", w.token)
	return w.post(path, form)
}

func want(t *testing.T, what string, r *http.Response, status int) {
	t.Helper()
	if r.StatusCode != status {
		t.Errorf("%s: %s, want %d", what, r.Status, status)
	}
}

func has(t *testing.T, what string, all []string, one string) {
	t.Helper()
	if !slices.Contains(all, one) {
		t.Errorf("%s: %q is not among %q", what, one, all)
	}
}
