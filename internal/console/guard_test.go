package console

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/prng"
)

// TestWhoHasNotSignedInSeesNothing: every page and every order leads to the page of
// signing in, or nowhere.
func TestWhoHasNotSignedInSeesNothing(t *testing.T) {
	w := newBoard(t, nil).browser()
	for _, path := range []string{"/", "/map", "/sessions", "/routes", "/relays", "/directory", "/configuration", "/audit", "/scenarios", "/planner", "/history?span=1h"} {
		r, body := w.get(path)
		if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/sign-in" || strings.Contains(body, "stream-0") {
			t.Errorf("%s: %s to %q", path, r.Status, r.Header.Get("Location"))
		}
	}
	for _, path := range []string{"/relays/drain", "/relays/rotate", "/configuration", "/configuration/rollback", "/audit/exports", "/scenarios/run", "/role"} {
		r, _ := w.post(path, url.Values{"node": {"mix-0"}})
		want(t, path, r, http.StatusUnauthorized)
	}
	if w.network.drained != nil || w.network.rotated != 0 {
		t.Error("somebody who has not signed in changed something")
	}
}

// TestALinkIsGoodOnce: looking at it uses nothing up, entering does, and time does.
func TestALinkIsGoodOnce(t *testing.T) {
	b := newBoard(t, nil)
	w := b.browser()
	link := b.NewLink()
	for range 2 {
		r, _ := w.get(link)
		want(t, "looking at a link", r, http.StatusOK)
	}
	enter := func(link string) int {
		r, _ := b.browser().post("/enter", url.Values{"key": {strings.TrimPrefix(link, "/enter?key=")}, "role": {"admin"}})
		return r.StatusCode
	}
	if got := enter(link); got != http.StatusSeeOther {
		t.Errorf("entering: %d", got)
	}
	if got := enter(link); got != http.StatusForbidden {
		t.Errorf("entering again: %d", got)
	}
	if got := enter("/enter?key=guess"); got != http.StatusForbidden {
		t.Errorf("a guess: %d", got)
	}
	old := b.NewLink()
	b.advance(LinkLife + 1)
	if got := enter(old); got != http.StatusForbidden {
		t.Errorf("an old link: %d", got)
	}
	has(t, "signing in is recorded", b.record.actions(), "console.sign-in console ok")
}

// TestTheCookieIsForThisSiteAlone: no script reads it and no other site sends it.
func TestTheCookieIsForThisSiteAlone(t *testing.T) {
	b := newBoard(t, nil)
	r, _ := b.browser().post("/enter", url.Values{"key": {strings.TrimPrefix(b.NewLink(), "/enter?key=")}, "role": {"viewer"}})
	c := r.Header.Get("Set-Cookie")
	for _, must := range []string{"HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(c, must) {
			t.Errorf("the cookie %q lacks %s", c, must)
		}
	}
}

// TestAVisitEnds by signing out, by idleness and by its length.
func TestAVisitEnds(t *testing.T) {
	b := newBoard(t, nil)
	out, idle := b.as(Viewer), b.as(Viewer)
	r, _ := out.order("/sign-out", url.Values{})
	want(t, "signing out", r, http.StatusSeeOther)
	b.advance(visitIdle)
	for what, w := range map[string]*browser{"who signed out": out, "who was idle": idle} {
		r, _ := w.get("/")
		want(t, what, r, http.StatusSeeOther)
	}
}

// TestRoles: who may not change a thing does not, whatever they send, and that they
// tried is recorded.
func TestRoles(t *testing.T) {
	for role, may := range map[Role]bool{Viewer: false, Auditor: false, Operator: true, Admin: true} {
		b := newBoard(t, nil)
		w := b.as(role)
		r, _ := w.order("/relays/drain", url.Values{"node": {"mix-0"}})
		_, page := w.get("/relays")
		if shown := strings.Contains(page, "/relays/drain"); shown != may {
			t.Errorf("%s is shown the order: %v", role, shown)
		}
		if may {
			want(t, string(role), r, http.StatusSeeOther)
			has(t, "what is done is recorded", b.record.actions(), "console.drain mix-0 ok")
			continue
		}
		want(t, string(role), r, http.StatusForbidden)
		has(t, "what is refused is recorded", b.record.actions(), "console.refused network.operate refused")
		if b.network.drained != nil {
			t.Errorf("%s drained a node", role)
		}
	}
}

// TestARoleIsTakenOneAtATime by who came by a link, and by nobody else.
func TestARoleIsTakenOneAtATime(t *testing.T) {
	b := newBoard(t, nil)
	w := b.as(Admin)
	r, _ := w.order("/role", url.Values{"role": {"auditor"}})
	want(t, "another role", r, http.StatusSeeOther)
	r, _ = w.order("/relays/drain", url.Values{"node": {"mix-0"}})
	want(t, "what the role before might do", r, http.StatusForbidden)
	r, _ = w.order("/role", url.Values{"role": {"root"}})
	want(t, "no role", r, http.StatusNotFound)
	has(t, "it is recorded", b.record.actions(), "console.role console ok")
}

// TestWhatCannotBeRecordedIsNotDone.
func TestWhatCannotBeRecordedIsNotDone(t *testing.T) {
	b := newBoard(t, nil)
	w := b.as(Admin)
	b.record.mu.Lock()
	b.record.fails = true
	b.record.mu.Unlock()
	r, _ := w.order("/relays/drain", url.Values{"node": {"mix-0"}})
	want(t, "drain", r, http.StatusServiceUnavailable)
	r, _ = w.order("/relays/rotate", url.Values{})
	want(t, "rotate", r, http.StatusServiceUnavailable)
	r, _ = w.order("/scenarios/run", url.Values{"id": {"DF-001"}})
	want(t, "run", r, http.StatusServiceUnavailable)
	if b.network.drained != nil || b.network.rotated != 0 || len(b.lab.started) != 0 {
		t.Error("something was done that is not on the record")
	}
}

// TestOrdersOfOtherSitesAreRefused, whoever is signed in.
func TestOrdersOfOtherSitesAreRefused(t *testing.T) {
	w := newBoard(t, nil).as(Admin)
	for what, header := range map[string][2]string{
		"by the fetch metadata": {"Sec-Fetch-Site", "cross-site"},
		"by the origin":         {"Origin", "http://evil.example"},
	} {
		r := w.request(http.MethodPost, "/relays/drain", url.Values{"node": {"mix-0"}, "token": {w.token}})
		r.Header.Set(header[0], header[1])
		resp, _ := w.do(r)
		want(t, what, resp, http.StatusForbidden)
	}
	for _, token := range []string{"", strings.Repeat("0", 64)} {
		resp, _ := w.post("/relays/drain", url.Values{"node": {"mix-0"}, "token": {token}})
		want(t, "without the form's token", resp, http.StatusForbidden)
	}
	if w.network.drained != nil {
		t.Error("another site drained a node")
	}
	r := w.request(http.MethodPost, "/relays/drain", url.Values{"node": {"mix-0"}, "token": {w.token}})
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, _ := w.do(r)
	want(t, "the console's own form", resp, http.StatusSeeOther)
}

// TestHost: a name that somebody leads here is not ours.
func TestHost(t *testing.T) {
	b := newBoard(t, func(c *Config) { c.Hosts = []string{"Console.example:443", "other.example:8443"} })
	w := b.browser()
	for host, status := range map[string]int{
		"": http.StatusOK, "127.0.0.1:80": http.StatusOK, "[::1]:80": http.StatusOK, "console.example:443": http.StatusOK,
		"console.example": http.StatusOK, "other.example:8443": http.StatusOK, "other.example": http.StatusForbidden, "console.example:8443": http.StatusForbidden,
		"evil.example": http.StatusForbidden, "localhost:80": http.StatusForbidden, "127.0.0.1.evil.example:80": http.StatusForbidden, "10.0.0.1:80": http.StatusForbidden,
	} {
		r := w.request(http.MethodGet, "/sign-in", nil)
		if host != "" {
			r.Host = host
		}
		resp, _ := w.do(r)
		want(t, "host "+host, resp, status)
	}
}

// TestContentPolicy: pages run no script and take no style but this server's, and stand
// in no frame; and none of them needs more.
func TestContentPolicy(t *testing.T) {
	b := newBoard(t, nil)
	w := b.as(Admin)
	for _, path := range append([]string{"/sign-in", "/enter?key=x", "/nowhere"}, "/", "/map", "/sessions", "/routes", "/relays", "/directory", "/configuration", "/audit", "/scenarios", "/scenarios/DF-001", "/planner") {
		r, body := w.get(path)
		csp := r.Header.Get("Content-Security-Policy")
		for _, must := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, must) {
				t.Errorf("%s: its policy lacks %s: %q", path, must, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") {
			t.Errorf("%s: %q", path, csp)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Referrer-Policy") != "no-referrer" || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", path, r.Header)
		}
		if bad := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script>|https?://`).FindString(strings.ReplaceAll(body, "http://www.w3.org", "")); bad != "" {
			t.Errorf("%s holds %q", path, bad)
		}
	}
}

// TestNothingIsFetchedFromElsewhere: scripts and styles name no other server.
func TestNothingIsFetchedFromElsewhere(t *testing.T) {
	names, err := filepath.Glob("assets/*")
	if err != nil || len(names) < 5 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "LICENSE") {
			continue
		}
		text := strings.ReplaceAll(strings.ReplaceAll(string(b), "http://www.w3.org", ""), "https://github.com/leeoniya/uPlot", "")
		if i := regexp.MustCompile(`https?://|@import|//cdn`).FindString(text); i != "" {
			t.Errorf("%s names %q", name, i)
		}
	}
}

// TestLimits: forms are small, links are not guessed by the thousand, and visits are
// bounded.
func TestLimits(t *testing.T) {
	b := newBoard(t, nil)
	w := b.as(Admin)
	r, _ := w.order("/relays/drain", url.Values{"node": {strings.Repeat("x", formMax)}})
	want(t, "a large form", r, http.StatusBadRequest)
	status := 0
	for range triesMost + 1 {
		r, _ := b.browser().post("/enter", url.Values{"key": {"guess"}, "role": {"admin"}})
		status = r.StatusCode
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("guess %d: %d", triesMost+1, status)
	}
	for i := range visitsMost {
		b.people.mu.Lock()
		b.people.known[[32]byte{byte(i), byte(i >> 8), 1}] = &visit{begun: b.clock(), seen: b.clock()}
		b.people.mu.Unlock()
	}
	b.advance(2 * 60e9) // another minute of tries
	r, _ = b.browser().post("/enter", url.Values{"key": {strings.TrimPrefix(b.NewLink(), "/enter?key=")}, "role": {"viewer"}})
	want(t, "one visit too many", r, http.StatusServiceUnavailable)
}

// TestLooksLeadBackHere and nowhere else.
func TestLooksLeadBackHere(t *testing.T) {
	w := newBoard(t, nil).browser()
	for back, to := range map[string]string{"/map": "/map", "/audit?kind=incident": "/audit?kind=incident", "//evil.example": "/", "https://evil.example/": "/", `/\evil.example`: "/", "": "/"} {
		r, _ := w.post("/looks", url.Values{"lang": {"ja"}, "theme": {"dark"}, "back": {back}})
		if got := r.Header.Get("Location"); got != to {
			t.Errorf("back to %q leads to %q", back, got)
		}
	}
	_, page := w.get("/sign-in")
	if !strings.Contains(page, `lang="ja" data-theme="dark"`) || !strings.Contains(page, "コンソール") {
		t.Error("the page is not Japanese and dark")
	}
}

// TestTheOwnerHasLinksMade, by what the owner's file holds.
func TestTheOwnerHasLinksMade(t *testing.T) {
	w := newBoard(t, nil).browser()
	for token, status := range map[string]int{"owner": http.StatusOK, "guess": http.StatusForbidden, "": http.StatusForbidden} {
		r := w.request(http.MethodPost, "/link", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		resp, body := w.do(r)
		want(t, "token "+token, resp, status)
		if status == http.StatusOK && !strings.HasPrefix(body, "/enter?key=") {
			t.Errorf("the link is %q", body)
		}
	}
}

// TestOnlyFailuresAreCounted: owners have as many links made and used as they like, and
// wrong ones are tried so often in a minute.
func TestOnlyFailuresAreCounted(t *testing.T) {
	b := newBoard(t, nil)
	link := func(token string) (int, string) {
		w := b.browser()
		r := w.request(http.MethodPost, "/link", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		resp, body := w.do(r)
		return resp.StatusCode, body
	}
	enter := func(link string) int {
		r, _ := b.browser().post("/enter", url.Values{"key": {strings.TrimPrefix(link, "/enter?key=")}, "role": {"viewer"}})
		return r.StatusCode
	}
	for i := range 2 * triesMost {
		got, path := link("owner")
		if got != http.StatusOK {
			t.Fatalf("link %d: %d", i, got)
		}
		if got := enter(path); got != http.StatusSeeOther {
			t.Fatalf("entering by link %d: %d", i, got)
		}
	}
	for range triesMost {
		link("guess")
		enter("guess")
	}
	if got, _ := link("owner"); got != http.StatusOK {
		t.Errorf("guesses of others shut the owner out: %d", got)
	}
	if got := enter(b.NewLink()); got != http.StatusTooManyRequests {
		t.Errorf("after so many guesses a link is taken: %d", got)
	}
}

// TestTwoConsolesOfOneMachine: a browser sends cookies to all ports of a host, and who
// signs in at one console, or out, stays signed in at the other.
func TestTwoConsolesOfOneMachine(t *testing.T) {
	one := newBoard(t, nil)
	w := one.as(Admin)
	draw := prng.FromUint64(2).Stream("the other console")
	two := newBoard(t, func(c *Config) { c.Entropy = func(b []byte) { draw.Read(b) } })
	v := &browser{board: two, Client: w.Client}
	r, _ := v.post("/enter", url.Values{"key": {strings.TrimPrefix(two.NewLink(), "/enter?key=")}, "role": {"viewer"}})
	want(t, "signing in at the other", r, http.StatusSeeOther)
	for what, at := range map[string]*browser{"the first": w, "the other": v} {
		r, _ := at.get("/")
		want(t, what, r, http.StatusOK)
	}
	w.order("/sign-out", url.Values{})
	r, _ = w.get("/")
	want(t, "who signed out", r, http.StatusSeeOther)
	r, _ = v.get("/")
	want(t, "the other, still", r, http.StatusOK)
}
