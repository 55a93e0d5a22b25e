package console

import (
	"bufio"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/telemetry"
)

// TestPages: every page is made, in both languages, without a word that is missing.
func TestPages(t *testing.T) {
	b := newBoard(t, nil)
	for _, lang := range languages {
		w := b.as(Admin)
		w.post("/looks", url.Values{"lang": {lang}, "back": {"/"}})
		for path, holds := range map[string]string{
			"/": `data-live-text="p95"`, "/map": "<svg class=\"map\"", "/sessions": "12 ms", "/routes": "<li>mix-0</li>", "/relays": "/relays/drain",
			"/directory": "00ff", "/configuration": say(lang, "none.settings"), "/audit": say(lang, "none.audit"), "/scenarios": "DF-001", "/scenarios/DF-001": "something holds", "/planner": "400",
		} {
			r, body := w.get(path)
			want(t, path, r, http.StatusOK)
			if !strings.Contains(body, holds) || strings.Contains(body, "⟨") || strings.Contains(body, "%!") || !strings.Contains(body, `<html lang="`+lang+`"`) {
				t.Errorf("%s in %s lacks %q, or a word:\n%s", path, lang, holds, body)
			}
		}
	}
}

// TestAPageWithoutItsSourceSaysSo.
func TestAPageWithoutItsSourceSaysSo(t *testing.T) {
	b := newBoard(t, func(c *Config) {
		c.Scenarios, c.Record = nil, nil
		c.Network.(*fakeNetwork).change = func(p *telemetry.Picture) { p.Own, p.Nodes, p.Directory = nil, nil, nil }
	})
	w := b.as(Admin)
	for path, key := range map[string]string{
		"/map": "none.nodes", "/sessions": "none.own", "/routes": "none.own", "/relays": "none.nodes", "/directory": "none.directory",
		"/configuration": "none.settings", "/audit": "none.audit", "/scenarios": "none.lab",
	} {
		if _, body := w.get(path); !strings.Contains(html.UnescapeString(body), say("en", key)) {
			t.Errorf("%s does not say %q", path, say("en", key))
		}
	}
	r, _ := w.order("/relays/rotate", url.Values{})
	want(t, "an order without an audit log", r, http.StatusServiceUnavailable)
}

// TestTheOverviewSaysWhyThereIsNoCover: a dash of λ and cover ratio has its reason beside
// it, by level.
func TestTheOverviewSaysWhyThereIsNoCover(t *testing.T) {
	for level, why := range map[string]string{"fast": "none", "standard": "yet"} {
		b := newBoard(t, func(c *Config) {
			c.Network.(*fakeNetwork).change = func(p *telemetry.Picture) { p.Level = level }
		})
		_, page := b.as(Viewer).get("/")
		for _, reading := range []string{"rate.", "cover."} {
			for _, key := range []string{"none", "yet"} {
				if strings.Contains(page, `<span class="if-none">`+say("en", reading+key)) != (key == why) {
					t.Errorf("%s: whether it says %q", level, say("en", reading+key))
				}
			}
		}
	}
}

// TestWords: every key that is used is there in both languages, with the same
// arguments, and every key that is there is used.
func TestWords(t *testing.T) {
	used := map[string]bool{}
	prefixes := []string{}
	names, _ := filepath.Glob("pages/*.html")
	sources, _ := filepath.Glob("*.go")
	literal := regexp.MustCompile(`(?:\bt|say\("en",|say\() "?([a-z][a-z0-9 _.-]*)"|say\([a-z]+, "([a-z.-]+)"|"((?:alert|signin|none|error)\.[a-z.]+)"`)
	tKey, tPrefix := regexp.MustCompile(`\bt "([^"]+)"`), regexp.MustCompile(`\bt \(printf "([^%"]*)%s`)
	for _, name := range append(names, sources...) {
		if strings.HasPrefix(name, "words_") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range tKey.FindAllStringSubmatch(string(b), -1) {
			used[m[1]] = true
		}
		for _, m := range tPrefix.FindAllStringSubmatch(string(b), -1) {
			prefixes = append(prefixes, m[1])
		}
		if strings.HasSuffix(name, ".go") {
			for _, m := range literal.FindAllStringSubmatch(string(b), -1) {
				used[m[1]+m[2]+m[3]] = true
			}
		}
	}
	for key := range used {
		if _, ok := words[key]; !ok && key != "" && strings.ContainsAny(key, ".") {
			t.Errorf("%q is used and not there", key)
		}
	}
	verbs := regexp.MustCompile(`%(?:\[(\d)\])?[a-z%]`)
	for key, texts := range words {
		if texts[0] == "" || texts[1] == "" {
			t.Errorf("%q lacks a language", key)
		}
		if a, b := len(verbs.FindAllString(texts[0], -1)), len(verbs.FindAllString(texts[1], -1)); a != b {
			t.Errorf("%q has %d arguments in English and %d in Japanese", key, a, b)
		}
		there := used[key]
		for _, p := range prefixes {
			there = there || strings.HasPrefix(key, p)
		}
		if !there {
			t.Errorf("%q is there and not used", key)
		}
	}
	if len(frameWords)+len(networkWords)+len(orderWords) != len(words) {
		t.Error("a key stands in two tables")
	}
}

// TestPreferred: the language that a browser wants most, of those that there are.
func TestPreferred(t *testing.T) {
	for header, lang := range map[string]string{"": "en", "ja": "ja", "ja-JP,en;q=0.5": "ja", "fr,de;q=0.9": "en", "de, ja;q=0.8, en;q=0.7": "ja", "en-GB,ja": "en"} {
		if got := preferred(header); got != lang {
			t.Errorf("%q: %s", header, got)
		}
	}
}

// TestLive: events come with figures of the newest picture, one picture for all who
// watch, and end when the visit does.
func TestLive(t *testing.T) {
	b := newBoard(t, nil)
	read := func(w *browser) *bufio.Scanner {
		r := w.request(http.MethodGet, "/live", nil)
		r.Header.Set("Accept", "text/event-stream")
		resp, err := w.Do(r.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		want(t, "live", resp, http.StatusOK)
		s := bufio.NewScanner(resp.Body)
		s.Buffer(nil, 1<<20)
		return s
	}
	next := func(s *bufio.Scanner) (event struct {
		At   int64
		Text map[string]string
	}) {
		for s.Scan() {
			if data, ok := strings.CutPrefix(s.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), &event); err != nil {
					t.Fatal(err)
				}
				return event
			}
		}
		t.Fatal("the stream ended")
		return event
	}
	w := b.as(Viewer)
	streams := []*bufio.Scanner{read(w), read(w), read(w)}
	b.network.mu.Lock()
	before := b.network.pictures
	b.network.mu.Unlock()
	for range 2 {
		for _, s := range streams {
			if e := next(s); e.Text["node.stream-0.rate"] == "" || e.At == 0 {
				t.Errorf("the event %v has no figures", e)
			}
		}
	}
	b.network.mu.Lock()
	made := b.network.pictures - before
	b.network.mu.Unlock()
	if made > 4 {
		t.Errorf("%d pictures were made for two events of three who watch", made)
	}
	w.order("/sign-out", url.Values{})
	for _, s := range streams {
		for i := 0; s.Scan(); i++ {
			if i > 8 {
				t.Fatal("who signed out watches on")
			}
		}
	}
}

// TestViewersAreBounded, of one visit and in all.
func TestViewersAreBounded(t *testing.T) {
	b := newBoard(t, nil)
	w := b.as(Viewer)
	watch := func() int {
		r := w.request(http.MethodGet, "/live", nil)
		resp, err := w.Do(r.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp.StatusCode
	}
	for range visitWatches {
		if got := watch(); got != http.StatusOK {
			t.Fatal(got)
		}
	}
	if got := watch(); got != http.StatusServiceUnavailable {
		t.Errorf("one page too many: %d", got)
	}
	b.live.mu.Lock()
	b.live.watched = viewersMost
	b.live.mu.Unlock()
	w = b.as(Viewer)
	if got := watch(); got != http.StatusServiceUnavailable {
		t.Errorf("one viewer too many: %d", got)
	}
}

// TestAlerts: what is wrong is told, in both languages.
func TestAlerts(t *testing.T) {
	p := (&fakeNetwork{}).Picture()
	p.Parts[1].Trouble, p.Nodes[0].Refused, p.Nodes[1].Draining = "no keys", 4, true
	p.Own.CoverRatio, p.Directory.ValidUntil = 0.5, p.At.Add(time.Minute)
	f := figuresOf(&p, make([]moment, 2), sample{}, 0)
	f.Asked, f.Failed = 1000, 2
	f.alert(&p)
	for i, lang := range languages {
		said := ""
		for _, a := range f.in(lang) {
			said += a.State + ": " + a.Text + "\n"
		}
		for _, part := range [][2]string{{"bad: The error budget", "bad: 24 時間のエラーバジェット"}, {"warn: stream-0 cannot have revision 4", "warn: stream-0 は設定リビジョン 4"}, {"leaving: mix-0", "leaving: mix-0"}, {"warn: The cover ratio is 50 %", "warn: カバー比率が 50 %"}, {"bad: The directory", "bad: ディレクトリ文書"}} {
			if !strings.Contains(said, part[i]) {
				t.Errorf("%q is not told in %s:\n%s", part[i], lang, said)
			}
		}
	}
}

// TestScenarioRuns: one at a time, and its page says how it stands.
func TestScenarioRuns(t *testing.T) {
	b := newBoard(t, nil)
	w := b.as(Operator)
	r, _ := w.order("/scenarios/run", url.Values{"id": {"DF-099"}})
	want(t, "a scenario that is not there", r, http.StatusNotFound)
	r, _ = w.order("/scenarios/run", url.Values{"id": {"DF-001"}})
	want(t, "a run", r, http.StatusSeeOther)
	if id := <-b.lab.started; id != "DF-001" {
		t.Errorf("%s runs", id)
	}
	r, _ = w.order("/scenarios/run", url.Values{"id": {"DF-001"}})
	want(t, "another run", r, http.StatusConflict)
	if _, page := w.get("/scenarios/DF-001"); !strings.Contains(page, "DF-001 runs. half") {
		t.Error("the page does not say how far the run is")
	}
	has(t, "it is recorded", b.record.actions(), "console.scenario DF-001 ok")
	close(b.lab.finish)
}
