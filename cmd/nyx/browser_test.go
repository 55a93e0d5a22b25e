package main

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/net/proxy"

	"github.com/nyxnet/nyx/internal/setup"
)

const (
	// browserScenario is a scenario whose run takes some seconds.
	browserScenario = "DF-048"
	// axeVersion is the checker of accessibility that is fetched from npm, and axeIntegrity
	// what it must be, as npm writes it.
	axeVersion   = "4.11.0"
	axeIntegrity = "sha512-ilYanEU8vxxBexpJd8cWM4ElSQq4QctCLKih0TSfjIfCQTeyH/6zVrmIJfLPrKTKJRbiG+cfnZbQIjAlJmF1jQ=="
	// shotsEnv names a directory for pictures of all pages; axeEnv a copy of axe-core,
	// or "npm" to fetch it.
	shotsEnv = "NYX_CONSOLE_SHOTS"
	// browserEnv has the browser tests run: a minute on a machine that is busy.
	browserEnv = "NYX_CONSOLE_BROWSER"
	axeEnv     = "NYX_CONSOLE_AXE"
)

var consolePages = []string{"", "map", "sessions", "routes", "relays", "directory", "configuration", "audit", "scenarios", "planner"}

// screen is a browser at the console of a network that runs.
type screen struct {
	*testing.T
	ctx   context.Context
	ready setup.Ready
	data  string
}

// newScreen runs nyx up and a browser.
func newScreen(t *testing.T) *screen {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a network and a browser")
	}
	path := chromium(t)
	s := &screen{T: t, data: t.TempDir()}
	ready := filepath.Join(s.data, "ready.json")
	f := upFlags{data: s.data, socks: "127.0.0.1:0", level: "fast", profile: "full", congestion: "bbr", carrier: "udp", console: "127.0.0.1:0", ready: ready, streams: 3, mixes: 6, regions: 3, witnesses: 3, control: 1}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	said, say := io.Pipe()
	go func() { ended <- runUp(ctx, f, say); say.Close() }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	// The last line that nyx up says comes when all else is there.
	if err := until(said, "try "); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, said)
	b, err := os.ReadFile(ready)
	if err == nil {
		err = json.Unmarshal(b, &s.ready)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.browse(path)
	return s
}

// chromium is where the browser is.
func chromium(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium here; on Debian: apt-get install chromium")
	}
	return path
}

// browse starts the browser.
func (s *screen) browse(path string) {
	s.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("lang", "en"), chromedp.Flag("disable-dev-shm-usage", true))
	alloc, cancel := chromedp.NewExecAllocator(s.Context(), options...)
	s.Cleanup(cancel)
	s.ctx, cancel = chromedp.NewContext(alloc)
	s.Cleanup(cancel)
	if err := chromedp.Do(s.ctx); err != nil { // the browser lives as long as the first context
		s.Fatal(err)
	}
}

// until reads lines until one begins with a text.
func until(r io.Reader, begin string) error {
	b, line := make([]byte, 1), ""
	for {
		if _, err := r.Read(b); err != nil {
			return err
		}
		if line += string(b); b[0] == '\n' {
			if strings.HasPrefix(line, begin) {
				return nil
			}
			line = ""
		}
	}
}

// step is what a browser does.
type step = chromedp.Action[chromedp.Void]

func (s *screen) do(what string, steps ...step) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, stepMost)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		page, _ := chromedp.Run(s.ctx, chromedp.Text("main"))
		s.Fatalf("%s: %v; the page says:\n%s", what, err, page)
	}
}

// stepMost bounds what takes a moment on a machine that has nothing else to do.
const stepMost = 60 * time.Second

// see evaluates an expression in the page, and waits for what it promises.
func see[T any](s *screen, what, expression string) T {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, stepMost)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
	return v
}

// holds waits until an expression holds in the page, which may become another page
// meanwhile: what changes the page has it looked at again.
func holds(expression string) step {
	script := `new Promise(done => {
		const look = () => { try { if (` + expression + `) { watch.disconnect(); done(true); } } catch {} };
		const watch = new MutationObserver(look);
		watch.observe(document, { attributes: true, childList: true, characterData: true, subtree: true });
		look();
	})`
	return func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
		for ctx.Err() == nil {
			held, err := chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise)(ctx, t)
			if held && err == nil {
				return none, nil
			}
			// Else the page went away while it was looked at.
		}
		return none, fmt.Errorf("it does not come about that %s: %w", expression, ctx.Err())
	}
}

func (s *screen) at(page string) step { return chromedp.Navigate(s.ready.Console + page) }

// signIn signs in by a link that the owner has made.
func (s *screen) signIn() {
	s.Helper()
	link, err := askLink(s.Context(), s.data)
	if err != nil {
		s.Fatal(err)
	}
	s.do("signing in", chromedp.Navigate(link), chromedp.Click(`button.main`), holds(`document.getElementById("pulse")?.dataset.state === "true"`))
}

// role goes on in another role.
func (s *screen) role(role string) {
	s.Helper()
	s.do("role "+role, chromedp.Click(".me > summary"), chromedp.SetValue("#role", role), chromedp.Click(`form[action="/role"] button`), holds(`document.querySelector("#role option[selected]")?.value === "`+role+`"`))
}

// traffic asks a server through the network's proxy until the test ends.
func (s *screen) traffic() *atomic.Int64 {
	s.Helper()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 32<<10)) }))
	s.Cleanup(target.Close)
	socks, err := proxy.SOCKS5("tcp", s.ready.Socks, nil, proxy.Direct)
	if err != nil {
		s.Fatal(err)
	}
	var done atomic.Int64
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return socks.(proxy.ContextDialer).DialContext(ctx, network, addr)
	}}}
	ctx, stop := context.WithCancel(s.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, target.URL, nil)
			resp, err := client.Do(r)
			if err != nil {
				continue
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			done.Add(1)
		}
	}()
	s.Cleanup(func() { stop(); <-ended })
	return &done
}

// TestConsoleInABrowser signs in, sees figures move under traffic, changes a
// configuration and takes it back, searches and exports the audit log, runs a scenario.
func TestConsoleInABrowser(t *testing.T) {
	if os.Getenv(browserEnv) == "" {
		t.Skipf("drives a browser for a minute; set %s=1", browserEnv)
	}
	s := newScreen(t)
	s.signIn()
	s.do("the overview again", chromedp.Reload(), holds(`performance.getEntriesByName("first-contentful-paint").length > 0`))
	paint := see[float64](s, "first paint", `performance.getEntriesByName("first-contentful-paint")[0].startTime`)
	t.Logf("first contentful paint after %.0f ms", paint)
	if paint > 1000 {
		t.Errorf("the first paint took %.0f ms", paint)
	}
	s.figuresMove()
	s.changeAndBack()
	s.role("auditor")
	s.searchAndExport()
	s.role("operator")
	s.do("a scenario", s.at("scenarios/"+browserScenario), chromedp.Click("#run-it"), holds(`document.getElementById("run-state")?.dataset.running === "false"`), holds(`document.getElementById("verdict")?.textContent === "met"`))
}

// figuresMove watches latency, requests and throughput under traffic, and how far apart
// updates are.
func (s *screen) figuresMove() {
	s.Helper()
	s.traffic()
	s.do("figures that move", s.at(""),
		holds(`/^[1-9]/.test(document.querySelector("[data-live-text=asked]").textContent) && document.querySelector("[data-live-text=p95]").textContent !== "—"`),
		holds(`document.querySelector(".chart canvas") !== null`))
	gaps := see[[]float64](s, "updates", `new Promise(done => { const at = []; new MutationObserver(() => { at.push(performance.now()); if (at.length === 6) done(at.slice(1).map((t, i) => t - at[i])); }).observe(document.body, { attributes: true, attributeFilter: ["data-live-at"] }); })`)
	slices.Sort(gaps)
	s.Logf("updates came %.0f ms apart", gaps)
	if gaps[len(gaps)/2] > 2000 {
		s.Errorf("updates are %.0f ms apart", gaps)
	}
}

func (s *screen) changeAndBack() {
	s.Helper()
	s.do("a change", s.at("configuration"), chromedp.SetValue(`#k-log\.level`, "warn"), chromedp.SetValue("#comment", "by a browser"), chromedp.Click("#look"),
		chromedp.WaitVisible("#confirm"), chromedp.Click("#confirm"), holds(`/by a browser/.test(document.getElementById("history")?.textContent || "")`))
	level := `document.getElementById("k-log.level").value`
	if value := see[string](s, "what is set", level); value != "warn" {
		s.Errorf("log.level is %q", value)
	}
	s.do("the way back", chromedp.Click("#history tbody tr:first-child a.button"), chromedp.WaitVisible("#confirm-back"), chromedp.Click("#confirm-back"),
		holds(`/back to revision/.test(document.getElementById("history")?.textContent || "")`))
	if value := see[string](s, "what is set", level); value != "" {
		s.Errorf("log.level is %q after going back", value)
	}
}

func (s *screen) searchAndExport() {
	s.Helper()
	var found string
	for try := range 8 { // that a change was accepted is told a little later
		s.do("a search", s.at("audit"), chromedp.SetValue("#kind", "config.change"), chromedp.Click("#search"), holds(`document.getElementById("found-h") !== null`))
		found = see[string](s, "what was found", `document.getElementById("main").innerText`)
		if strings.Contains(found, "rollback") || strings.Count(found, "log.level") >= 2 || try == 7 {
			break
		}
		s.do("a pause", chromedp.Sleep(time.Second))
	}
	if strings.Count(found, "log.level") < 2 {
		s.Errorf("the log does not tell of the change and of its way back:\n%s", found)
	}
	proof := see[string](s, "a proof", `fetch(document.querySelector("#events a").href).then(r => r.text())`)
	if !regexp.MustCompile("nyx/[a-z]+/audit").MatchString(proof) {
		s.Errorf("the proof is %q", proof)
	}
	s.do("an export", chromedp.Click("#export"), holds(`document.querySelector("#made a[href*='.csv']") !== null`),
		holds(`!document.getElementById("made").hasAttribute("data-refresh")`))
	file := see[string](s, "its file", `fetch(document.querySelector("#made a[href*='.csv']").href).then(r => r.text())`)
	if !strings.Contains(file, "config.change") || !strings.Contains(file, "log.level") {
		s.Errorf("the export holds:\n%s", file)
	}
}

// looks are the ways in which every page is looked at: in both languages and schemes and at
// four widths where pictures are taken, else in two ways that have nothing in common, at the
// least and the greatest width that pages are made for.
func looks(pictures bool) (all []look) {
	if !pictures {
		return []look{{"en", "light", []int64{320}}, {"ja", "dark", []int64{1920}}}
	}
	for _, lang := range []string{"en", "ja"} {
		for _, theme := range []string{"light", "dark"} {
			all = append(all, look{lang, theme, []int64{320, 768, 1440, 1920}})
		}
	}
	return all
}

type look struct {
	lang, theme string
	widths      []int64
}

// TestConsoleIsAccessible has axe-core look at every page; and takes pictures where a
// directory is named.
func TestConsoleIsAccessible(t *testing.T) {
	axe, shots := axeSource(t), os.Getenv(shotsEnv)
	if axe == "" && shots == "" {
		t.Skipf("name axe-core in %s (npm fetches it), or a directory for pictures in %s", axeEnv, shotsEnv)
	}
	s := newScreen(t)
	s.signIn()
	s.traffic()
	s.do("figures", holds(`document.querySelector("[data-live-text=p95]").textContent !== "—"`))
	for _, l := range looks(shots != "") {
		s.do("looks", s.at(""), chromedp.Click(".me > summary"), chromedp.SetValue("#lang", l.lang), chromedp.SetValue("#theme", l.theme), chromedp.Click(`form[action="/looks"] button`), holds(`document.documentElement.dataset.theme === "`+l.theme+`"`))
		for _, width := range l.widths {
			s.do("a width", chromedp.EmulateViewport(width, 900))
			for _, page := range consolePages {
				s.look(axe, shots, page, fmt.Sprintf("%s-%s-%d", l.lang, l.theme, width))
			}
		}
	}
}

// look checks and takes a picture of one page.
func (s *screen) look(axe, shots, page, how string) {
	s.Helper()
	s.do(page, s.at(page), holds(`document.getElementById("pulse")?.dataset.state === "true"`))
	if see[bool](s, page, `document.documentElement.scrollWidth > innerWidth`) {
		s.Errorf("%s %s is wider than the window", page, how)
	}
	if cut := see[[]string](s, page, `[...document.querySelectorAll(".readings > div, .facts > div, .search > div, figure, .panel, .hops li")].filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)`); len(cut) > 0 {
		s.Errorf("%s %s: %q does not fit where it stands", page, how, cut)
	}
	if mute := see[[]string](s, page, `[...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth && !(e.tabIndex === 0 && e.dataset.more && getComputedStyle(e, "::after").display === "block" && (e.ariaLabel || e.getAttribute("aria-labelledby")))).map(e => e.innerText)`); len(mute) > 0 {
		s.Errorf("%s %s: %q goes on to the right without a sign, a name or a way there by keyboard", page, how, mute)
	}
	if axe != "" {
		see[int](s, "axe", axe+";0")
		found := see[[]struct{ ID, Impact, Help, Where string }](s, page, `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v => ({ID: v.id, Impact: v.impact, Help: v.help, Where: v.nodes.slice(0, 3).map(n => n.html).join(" | ")})))`)
		for _, v := range found {
			if v.Impact == "serious" || v.Impact == "critical" {
				s.Errorf("%s %s: %s: %s: %s", page, how, v.ID, v.Help, v.Where)
			} else {
				s.Logf("%s %s: %s (%s): %s", page, how, v.ID, v.Impact, v.Where)
			}
		}
	}
	if shots != "" {
		png, err := chromedp.Run(s.ctx, chromedp.FullScreenshot(100))
		if err != nil {
			s.Fatal(err)
		}
		if page == "" {
			page = "overview"
		}
		if err := os.WriteFile(filepath.Join(shots, page+"-"+how+".png"), png, 0o644); err != nil {
			s.Fatal(err)
		}
	}
}

// fetchAxe has npm fetch axe-core, and returns its file. What is not the pinned one is not
// run, in a browser that is signed in.
func fetchAxe(t *testing.T) string {
	dir := t.TempDir()
	fetch := exec.Command("npm", "pack", "axe-core@"+axeVersion)
	fetch.Dir = dir
	if out, err := fetch.CombinedOutput(); err != nil {
		t.Skipf("axe-core cannot be had from npm, nothing is checked: %v\n%s", err, out)
	}
	pack := filepath.Join(dir, "axe-core-"+axeVersion+".tgz")
	b, err := os.ReadFile(pack)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha512.Sum512(b); "sha512-"+base64.StdEncoding.EncodeToString(sum[:]) != axeIntegrity {
		t.Fatalf("npm has handed out another axe-core %s than the pinned one, of hash %x", axeVersion, sum)
	}
	if out, err := exec.Command("tar", "xzf", pack, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "package", "axe.min.js")
}

// axeSource is the text of axe-core; "" without.
func axeSource(t *testing.T) string {
	where := os.Getenv(axeEnv)
	if where == "npm" {
		where = fetchAxe(t)
	}
	if where == "" {
		return ""
	}
	b, err := os.ReadFile(where)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
