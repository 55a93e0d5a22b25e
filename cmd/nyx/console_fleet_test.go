//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/nyxnet/nyx/internal/daemon"
)

// visitor is somebody at the console of a network, signed in by a link.
type visitor struct {
	*testing.T
	http.Client
	base, token string
}

// visit signs somebody in at the console of a control process, by its state directory.
func visit(t *testing.T, state, role string) *visitor {
	t.Helper()
	link, err := askLink(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{T: t, base: at.Scheme + "://" + at.Host}
	v.Jar, _ = cookiejar.New(nil)
	enter := url.Values{"key": {at.Query().Get("key")}, "role": {role}}
	if status, page := v.order("/enter", enter); status != http.StatusOK {
		t.Fatalf("signing in as %s: %d\n%s", role, status, page)
	}
	if status, _ := v.order("/enter", enter); status != http.StatusForbidden {
		t.Errorf("a link is good twice: %d", status)
	}
	v.as(role)
	return v
}

// as goes on in a role, with the token of the visit's forms.
func (v *visitor) as(role string) {
	v.Helper()
	if v.token != "" {
		v.order("/role", url.Values{"role": {role}})
	}
	_, page := v.get("/")
	found := regexp.MustCompile(`name="token" value="([0-9a-f]+)"`).FindStringSubmatch(page)
	if found == nil || !strings.Contains(page, `<option value="`+role+`" selected>`) {
		v.Fatalf("nobody is signed in as %s:\n%s", role, page)
	}
	v.token = found[1]
}

func (v *visitor) get(path string) (status int, page string) {
	v.Helper()
	r, err := v.Get(v.base + path)
	return v.read(r, err)
}

// order posts a form, and follows where it leads.
func (v *visitor) order(path string, form url.Values) (status int, page string) {
	v.Helper()
	form.Set("token", v.token)
	r, err := v.PostForm(v.base+path, form)
	return v.read(r, err)
}

func (v *visitor) read(r *http.Response, err error) (status int, page string) {
	v.Helper()
	if err != nil {
		v.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		v.Fatal(err)
	}
	return r.StatusCode, html.UnescapeString(string(b))
}

// watch reads events until one shows what is waited for, and returns it.
func (v *visitor) watch(what string, shows func(text map[string]string) bool) (raw string) {
	v.Helper()
	ctx, cancel := context.WithTimeout(v.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+"/live", nil)
	if err != nil {
		v.Fatal(err)
	}
	resp, err := v.Do(r)
	if err != nil {
		v.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var event struct{ Text map[string]string }
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			v.Fatal(err)
		}
		if shows(event.Text) {
			return data
		}
	}
	v.Fatalf("the console does not show %s, but %v: %v", what, event.Text, lines.Err())
	return ""
}

// id is that of the change which a page of the configuration offers.
func (v *visitor) id(path string) string {
	v.Helper()
	_, page := v.get(path)
	found := regexp.MustCompile(`name="id" value="([0-9a-f-]+)"`).FindStringSubmatch(page)
	if found == nil {
		v.Fatalf("%s offers no change:\n%s", path, page)
	}
	return found[1]
}

// finds searches the audit log for a text, which may come a little later than what it tells
// of: between two searches it waits for an event of the console.
func (v *visitor) finds(search, text string) (page string) {
	v.Helper()
	const searches = 5 // a person has ten a minute
	for range searches {
		if _, page = v.get(search); strings.Contains(page, text) {
			return page
		}
		v.watch("anything", func(map[string]string) bool { return true })
	}
	v.Fatalf("%s does not find %q:\n%s", search, text, page)
	return ""
}

// set changes the level of logs from a revision.
func (v *visitor) set(level string, seen int) (status int, page string) {
	v.Helper()
	return v.order("/configuration", url.Values{"set.log.level": {level}, "comment": {"by a console"}, "seen": {fmt.Sprint(seen)}, "id": {daemon.NewChangeID().String()}})
}

// TestTheConsoleOfAControlProcess: an operator of a network whose nodes are processes signs
// in by a link, sees them all with figures that move, changes the configuration, which
// every node takes, and goes back, and finds it in the audit log with a proof. What another
// role may not is refused, and what is not there is not offered.
func TestTheConsoleOfAControlProcess(t *testing.T) {
	o, _, _ := operate(t, newPeople(t))
	v := visit(t, o.control, "operator")

	carried := ""
	v.watch("five nodes and what they carry", func(text map[string]string) bool {
		carried = text["carried"]
		return text["heard"] == "5" && text["listed"] == "5" && carried != "—" && carried != "0.00"
	})
	v.watch("figures that move", func(text map[string]string) bool { return text["carried"] != carried })
	if _, page := v.get("/relays"); strings.Count(page, ".strain\">") != 5 || strings.Contains(page, "/relays/drain") || !strings.Contains(page, "operator-1") {
		t.Errorf("the nodes:\n%s", page)
	}
	if _, page := v.get("/directory"); !regexp.MustCompile(`Documents in it</dt><dd>[1-9]`).MatchString(page) {
		t.Errorf("the directory and its log:\n%s", page)
	}
	for _, path := range []string{"/sessions", "/routes"} {
		if status, _ := v.get(path); status != http.StatusNotFound {
			t.Errorf("%s is there: %d", path, status)
		}
	}
	if status, _ := v.order("/relays/drain", url.Values{"node": {"any"}}); status != http.StatusNotFound {
		t.Errorf("there is an order to a node: %d", status)
	}

	v.as("viewer")
	if status, page := v.set("warn", 0); status != http.StatusForbidden {
		t.Errorf("a viewer changes the configuration: %d\n%s", status, page)
	}
	v.as("auditor")
	if status, page := v.set("warn", 0); status != http.StatusForbidden {
		t.Errorf("an auditor changes the configuration: %d\n%s", status, page)
	}
	v.as("operator")
	if status, page := v.set("loud", 0); status == http.StatusOK || !strings.Contains(page, "log.level") {
		t.Errorf("what cannot be had is set: %d\n%s", status, page)
	}
	if status, page := v.set("warn", 0); status != http.StatusOK || !strings.Contains(page, "by a console") {
		t.Fatalf("an operator changes nothing: %d\n%s", status, page)
	}
	took := func(revision string) {
		t.Helper()
		v.watch("that all nodes have revision "+revision, func(text map[string]string) bool {
			n := 0
			for place, value := range text {
				if strings.HasSuffix(place, ".revision") && value == revision {
					n++
				}
			}
			return n == 5
		})
	}
	took("1")
	value := func() string {
		t.Helper()
		out, err := nyx(t, "config", "get", "log.level", "--operator", filepath.Join(o.control, daemon.OperatorFileName))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if now := value(); !strings.Contains(now, "warn") {
		t.Errorf("nyx config has %q", now)
	}
	if status, page := v.order("/configuration/rollback", url.Values{"to": {"0"}, "id": {v.id("/configuration?back=0")}}); status != http.StatusOK {
		t.Fatalf("going back: %d\n%s", status, page)
	}
	took("2")
	if now := value(); strings.Contains(now, "warn") {
		t.Errorf("after going back nyx config has %q", now)
	}

	v.finds("/audit?search=1&action=set&kind=config.change", "log.level")
	if status, page := v.order("/audit/exports", url.Values{"format": {"csv"}}); status == http.StatusOK {
		t.Errorf("an operator exports the log:\n%s", page)
	}
	v.as("auditor")
	page := v.finds("/audit?search=1&action=console.refused", "configuration.change")
	found := regexp.MustCompile(`href="(/audit/proof/[^"]+)"`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("no proof is offered:\n%s", page)
	}
	if status, proof := v.get(found[1]); status != http.StatusOK || !strings.Contains(proof, "nyx/test/audit/control-1") {
		t.Errorf("the proof: %d\n%s", status, proof)
	}
	if status, page := v.order("/audit/exports", url.Values{"format": {"csv"}}); status != http.StatusOK {
		t.Errorf("an auditor exports nothing: %d\n%s", status, page)
	}
	o.stop()
	if _, err := os.Stat(filepath.Join(o.control, consoleFile)); !os.IsNotExist(err) {
		t.Errorf("the owner's file is there when the console is not: %v", err)
	}
}

// fleetPages are those of the console of a control process, and what moves there.
var fleetPages = []string{"", "map", "relays", "directory", "configuration", "audit?search=1&limit=50", "scenarios", "planner", "history?span=1h"}

// console is all that the console of the control process shows to an auditor.
func (o *operated) console() (out []place) {
	v := visit(o.T, o.control, "auditor")
	for _, path := range fleetPages {
		status, page := v.get("/" + path)
		if status != http.StatusOK {
			o.Errorf("/%s: %d", path, status)
		}
		out = append(out, place{"page", path, []byte(page)})
	}
	return append(out, place{"page", "live", []byte(v.watch("anything", func(map[string]string) bool { return true }))})
}

// TestFleetConsoleInABrowser does in a browser what TestTheConsoleOfAControlProcess does,
// and takes pictures where a directory is named.
func TestFleetConsoleInABrowser(t *testing.T) {
	if os.Getenv(browserEnv) == "" {
		t.Skipf("drives a browser for a minute; set %s=1", browserEnv)
	}
	path := chromium(t)
	o, _, _ := operate(t, newPeople(t))
	file, err := daemon.LoadOperatorFile(filepath.Join(o.control, consoleFile))
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{T: t, data: o.control}
	s.ready.Console = file.URL + "/"
	s.browse(path)
	s.signIn()
	figure := `document.querySelector("[data-live-text=%s]").textContent`
	s.do("nodes that are heard", holds(fmt.Sprintf(figure, "heard")+` === "5"`), holds(`/[1-9]/.test(`+fmt.Sprintf(figure, "carried")+`)`), holds(`document.querySelectorAll(".chart canvas").length === 4`))
	before := see[string](s, "what is carried", fmt.Sprintf(figure, "carried"))
	s.do("figures that move", holds(fmt.Sprintf(figure+` !== %q`, "carried", before)))
	s.do("rates of nodes", s.at("relays"), holds(`[...document.querySelectorAll("[data-live-text$='.rate']")].some(e => /^[1-9]/.test(e.textContent))`), s.at(""))
	s.changeAndBack()
	s.role("auditor")
	s.searchAndExport()
	s.lookAtFleet(axeSource(t), os.Getenv(shotsEnv))
}

// lookAtFleet has axe-core look at the pages that are not those of nyx up, and takes
// pictures of them, where either is wanted.
func (s *screen) lookAtFleet(axe, shots string) {
	s.Helper()
	if axe == "" && shots == "" {
		return
	}
	for lang, theme := range map[string]string{"en": "light", "ja": "dark"} {
		s.do("looks", s.at(""), chromedp.Click(".me > summary"), chromedp.SetValue("#lang", lang), chromedp.SetValue("#theme", theme), chromedp.Click(`form[action="/looks"] button`), holds(`document.documentElement.dataset.theme === "`+theme+`"`))
		for _, width := range []int64{320, 1280} {
			s.do("a width", chromedp.EmulateViewport(width, 900))
			for _, page := range []string{"", "map", "relays", "directory", "configuration"} {
				s.look(axe, shots, page, fmt.Sprintf("fleet-%s-%s-%d", lang, theme, width))
			}
		}
	}
}
