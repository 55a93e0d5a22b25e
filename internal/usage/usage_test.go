package usage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/spool"
)

var (
	noon   = time.Date(2026, 11, 23, 12, 34, 56, 789, time.UTC)
	random = prng.FromUint64(7).Stream("usage")
)

// collects is who gets reports.
func collects(t *testing.T) (url string, got chan []byte) {
	got = make(chan []byte, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.Header.Get("User-Agent") != "nyx" || r.Header.Get("Cookie") != "" {
			t.Errorf("%s with %v", r.Method, r.Header)
		}
		got <- b
	}))
	t.Cleanup(s.Close)
	return s.URL + "/nyx", got
}

func allowed(t *testing.T, s Settings) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "telemetry")
	if err := Allow(dir, s); err != nil {
		t.Fatal(err)
	}
	store, err := Open(dir, random, noon)
	if err != nil {
		t.Fatal(err)
	}
	return store, dir
}

func add(t *testing.T, s *Store, now time.Time, uses ...Use) {
	t.Helper()
	for _, u := range uses {
		if err := s.Add(now, u); err != nil {
			t.Fatal(err)
		}
	}
}

// onDisk is everything in a directory, names with it.
func onDisk(t *testing.T, dir string) (all []byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		all = append(all, path...)
		if err == nil && !d.IsDir() {
			var b []byte
			b, err = os.ReadFile(path)
			all = append(all, b...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Until the user has said that anything may be told, nothing is kept, and looking makes
// nothing; when it may no more, nothing is left.
func TestNothingIsKeptUnlessItMayBe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "telemetry")
	if _, err := Open(dir, nil, noon); !errors.Is(err, ErrOff) {
		t.Fatalf("without a word: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking has made %s: %v", dir, err)
	}
	s, dir := allowed(t, Settings{URL: "https://example.org"})
	add(t, s, noon, Use{"nyx up", OK, time.Minute})
	if err := Forbid(dir); err != nil {
		t.Fatal(err)
	}
	if left := onDisk(t, dir); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	if _, err := Open(dir, nil, noon); !errors.Is(err, ErrOff) {
		t.Errorf("after it was forbidden: %v", err)
	}
	for _, wrong := range []Settings{{URL: "http://example.org"}, {URL: "https://user@example.org"}, {URL: "https://example.org/?who=me"}, {}, {URL: "https://example.org", Through: "tor"}} {
		if err := Allow(dir, wrong); err == nil {
			t.Errorf("%+v was taken", wrong)
		}
	}
}

// A report is counts of what is in closed lists, by days; nothing else can be put in, and on
// disk none of it can be read.
func TestReportHoldsNothingElse(t *testing.T) {
	s, dir := allowed(t, Settings{URL: "https://example.org"})
	add(t, s, noon, Use{"nyx audit query", OK, 3 * time.Second}, Use{"nyx audit query", OK, 9 * time.Second}, Use{"nyx up", Interrupted, 49 * time.Hour})
	add(t, s, noon.Add(13*time.Hour), Use{"nyx", Failed, 999 * time.Millisecond})
	for _, u := range []Use{
		{"nyx up --data /home/alice", OK, 0}, {"nyx proxy 192.0.2.1", OK, 0}, {"curl", OK, 0}, {"nyx Alice", OK, 0}, {"nyx a b c d", OK, 0},
		{"nyx up", "example.com refused", 0}, {"", OK, 0},
	} {
		if s.Add(noon, u) == nil {
			t.Errorf("%+v was taken", u)
		}
	}
	r, err := s.Report(noon)
	if err != nil {
		t.Fatal(err)
	}
	want := []Count{
		{"2026-11-23", "nyx audit query", OK, "under 10s", development, r.Counts[0].OS, 2}, {"2026-11-23", "nyx up", Interrupted, "1h and more", development, r.Counts[0].OS, 1},
		{"2026-11-24", "nyx", Failed, "under 1s", development, r.Counts[0].OS, 1}}
	if !slices.Equal(r.Counts, want) || r.Backlog != 4 || !slices.Contains(systems, r.Counts[0].OS) {
		t.Errorf("%+v", r)
	}
	disk := onDisk(t, filepath.Join(dir, keptDir))
	for _, planted := range []string{"audit", "nyx up", "interrupted", "2026", "linux", development} {
		if bytes.Contains(disk[len(dir):], []byte(planted)) && !strings.Contains(dir, planted) {
			t.Errorf("%q is on disk", planted)
		}
	}
	for _, e := range mustList(t, s) {
		if e.At.UnixMilli()%(24*time.Hour).Milliseconds() != 0 {
			t.Errorf("a file is named by the moment %v", e.At)
		}
	}
	var keys []string
	var shape map[string]any
	b, _ := json.Marshal(r)
	json.Unmarshal(b, &shape)
	for k := range shape {
		keys = append(keys, k)
	}
	for k := range shape["counts"].([]any)[0].(map[string]any) {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if got := strings.Join(keys, " "); got != "cli_telemetry_backlog command counts day format n os status took version" {
		t.Errorf("a report has %s", got)
	}
}

func mustList(t *testing.T, s *Store) (all []spool.Entry) {
	t.Helper()
	all, err := s.spool.List(noon)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What is told is what was shown, once; it goes to where the user has said and nowhere else.
func TestSend(t *testing.T) {
	url, got := collects(t)
	s, _ := allowed(t, Settings{URL: url})
	add(t, s, noon, Use{"nyx up", OK, 0}, Use{"nyx status", OK, 0})
	shown, err := s.Report(noon)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Send(t.Context(), noon); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	want, _ := json.Marshal(shown)
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("sent %s, shown %s", b, want)
	}
	if n, err := s.Send(t.Context(), noon); n != 0 || err != nil || len(got) != 0 {
		t.Errorf("again: %d, %v, %d reports", n, err, len(got))
	}
	moved := httptest.NewServer(http.RedirectHandler(url, http.StatusTemporaryRedirect))
	defer moved.Close()
	s, _ = allowed(t, Settings{URL: moved.URL})
	add(t, s, noon, Use{"nyx up", OK, 0})
	if _, err := s.Send(t.Context(), noon); err == nil || !strings.Contains(err.Error(), "sends elsewhere") || len(got) != 0 {
		t.Errorf("moved: %v, %d reports", err, len(got))
	}
	if r, err := s.Report(noon); err != nil || r.Backlog != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// With a proxy reports go by it, and by no other way if it is not there.
func TestThroughTheProxyOrNotAtAll(t *testing.T) {
	url, got := collects(t)
	asked := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.String() }))
	s, dir := allowed(t, Settings{URL: url, Through: proxy.URL})
	add(t, s, noon, Use{"nyx up", OK, 0})
	if n, err := s.Send(t.Context(), noon); n != 1 || err != nil || len(asked) != 1 || <-asked != url || len(got) != 0 {
		t.Errorf("%d, %v, %d directly", n, err, len(got))
	}
	proxy.Close()
	add(t, s, noon, Use{"nyx up", OK, 0})
	if n, err := s.Send(t.Context(), noon); n != 0 || err == nil || len(got) != 0 {
		t.Errorf("without the proxy: %d, %v, %d directly", n, err, len(got))
	}
	if err := Allow(dir, Settings{URL: url}); err != nil { // control: it could have gone
		t.Fatal(err)
	}
	s, err := Open(dir, random, noon)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Send(t.Context(), noon); n != 1 || err != nil || len(got) != 1 {
		t.Errorf("directly: %d, %v", n, err)
	}
}

// Reports are 6 to 18 hours apart, and 10 to 30 minutes after one that was not taken, at
// moments that are drawn; of two commands that end together one tells.
func TestTend(t *testing.T) {
	url, got := collects(t)
	s, dir := allowed(t, Settings{URL: url})
	tend := func(now time.Time) (int, error) {
		t.Helper()
		s, err := Open(dir, random, now)
		if err != nil {
			t.Fatal(err)
		}
		return s.Tend(context.Background(), now)
	}
	next := func(after time.Time, least, most time.Duration) time.Time {
		t.Helper()
		at, err := s.Next()
		if err != nil || at.Sub(after) < least-time.Second || at.Sub(after) > most {
			t.Fatalf("%v after: %v", at.Sub(after), err)
		}
		return at
	}
	add(t, s, noon, Use{"nyx up", OK, 0})
	if n, err := tend(noon); n != 0 || err != nil {
		t.Fatalf("at once: %d, %v", n, err)
	}
	at := next(noon, 6*time.Hour, 18*time.Hour)
	if n, err := tend(at.Add(-time.Second)); n != 0 || err != nil {
		t.Errorf("too early: %d, %v", n, err)
	}
	if n, err := tend(at); n != 1 || err != nil || len(got) != 1 {
		t.Errorf("when it is due: %d, %v", n, err)
	}
	at = next(at, 6*time.Hour, 18*time.Hour)
	add(t, s, at, Use{"nyx up", OK, 0})
	if err := Allow(dir, Settings{URL: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if n, err := tend(at); n != 0 || err == nil {
		t.Errorf("where nobody is: %d, %v", n, err)
	}
	retry := next(at, 10*time.Minute, 30*time.Minute)
	if n, err := tend(at); n != 0 || err != nil {
		t.Errorf("another one at the same time: %d, %v", n, err)
	}
	if _, err := tend(retry); err == nil || next(retry, 10*time.Minute, 30*time.Minute).Sub(retry) == retry.Sub(at) {
		t.Errorf("%v, or always after the same time", err)
	}
	if n, err := tend(noon.Add(-100 * time.Hour)); n != 0 || err == nil { // the clock was set back: not in years
		t.Errorf("%d, %v", n, err)
	}
}
