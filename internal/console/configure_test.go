package console

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/changes"
)

// withSettings is a board with a configuration in memory.
func withSettings(t *testing.T) (*board, *changes.Log, *[]string) {
	t.Helper()
	log, err := changes.Open(t.Context(), changes.Config{Store: registry.NewMemory(nil, nil), Schema: settings.Network(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	refused := []string{}
	b := newBoard(t, func(c *Config) {
		c.Settings = log
		c.Refused = func(actor string, why error) { refused = append(refused, actor+": "+why.Error()) }
	})
	return b, log, &refused
}

// confirms reads the form of a page that asks whether to go on.
func confirms(t *testing.T, page, action string) url.Values {
	t.Helper()
	_, form, ok := strings.Cut(page, `action="`+action+`"`)
	if !ok {
		t.Fatalf("the page has no form for %s:\n%s", action, page)
	}
	form, _, _ = strings.Cut(form, "</form>")
	out := url.Values{}
	for _, m := range regexp.MustCompile(`name="([^"]+)" value="([^"]*)"`).FindAllStringSubmatch(form, -1) {
		out.Set(m[1], html.UnescapeString(m[2]))
	}
	return out
}

// TestAChangeIsShownThenMadeThenTakenBack.
func TestAChangeIsShownThenMadeThenTakenBack(t *testing.T) {
	b, log, _ := withSettings(t)
	w := b.as(Admin)
	_, page := w.get("/configuration?draft=1&seen=0&set.log.level=debug&comment=why+not")
	if !strings.Contains(page, "<ins>debug</ins>") || log.Revision() != 0 {
		t.Fatalf("the change is not shown, or it is made: revision %d", log.Revision())
	}
	r, _ := w.post("/configuration", confirms(t, page, "/configuration"))
	want(t, "the change", r, http.StatusSeeOther)
	if got := log.State().Value("log.level"); got != "debug" || log.Revision() != 1 {
		t.Errorf("log.level is %q at revision %d", got, log.Revision())
	}
	_, page = w.get("/configuration")
	for _, must := range []string{"why not", "/configuration?back=0", "<td>operator</td>"} {
		if !strings.Contains(page, must) {
			t.Errorf("the history lacks %q", must)
		}
	}
	_, page = w.get("/configuration?back=0")
	if !strings.Contains(page, "<del>debug</del>") {
		t.Error("what goes back is not shown")
	}
	r, _ = w.post("/configuration/rollback", confirms(t, page, "/configuration/rollback"))
	want(t, "the rollback", r, http.StatusSeeOther)
	if got := log.State().Value("log.level"); got != "" || log.Revision() != 2 {
		t.Errorf("log.level is %q at revision %d", got, log.Revision())
	}
}

// TestAChangeThatCannotBeHad is told before it is made, and refused if it is sent all
// the same, on the record.
func TestAChangeThatCannotBeHad(t *testing.T) {
	b, log, refused := withSettings(t)
	w := b.as(Admin)
	_, page := w.get("/configuration?draft=1&set.admission.per_minute=many")
	if !strings.Contains(page, "is not a number from 1") || strings.Contains(page, `id="confirm"`) {
		t.Error("the page does not say what is wrong, or offers to go on")
	}
	r, _ := w.order("/configuration", url.Values{"id": {strings.Repeat("1", 32)}, "set.admission.per_minute": {"many"}})
	want(t, "a change that cannot be had", r, http.StatusBadRequest)
	if log.Revision() != 0 || len(*refused) != 1 {
		t.Errorf("revision %d, refused %q", log.Revision(), *refused)
	}
}

// TestWhoSawAnOldRevisionOverwritesNothing.
func TestWhoSawAnOldRevisionOverwritesNothing(t *testing.T) {
	b, log, _ := withSettings(t)
	one, two := b.as(Admin), b.as(Operator)
	change := func(w *browser, seen, id, level string) int {
		r, _ := w.order("/configuration", url.Values{"id": {strings.Repeat(id, 32)}, "seen": {seen}, "set.log.level": {level}})
		return r.StatusCode
	}
	if got := change(one, "0", "1", "warn"); got != http.StatusSeeOther {
		t.Fatal(got)
	}
	if got := change(one, "1", "2", "error"); got != http.StatusSeeOther {
		t.Fatal(got)
	}
	if got := change(two, "1", "3", "debug"); got != http.StatusConflict {
		t.Errorf("who saw revision 1: %d", got)
	}
	if got := log.State().Value("log.level"); got != "error" {
		t.Errorf("log.level is %q", got)
	}
}

// TestARolloutBeginsAtAShare of the nodes.
func TestARolloutBeginsAtAShare(t *testing.T) {
	b, log, _ := withSettings(t)
	w := b.as(Operator)
	_, page := w.get("/configuration?draft=1&set.telemetry.sampling=5&stages=5,25&hold=10m")
	r, _ := w.post("/configuration", confirms(t, page, "/configuration"))
	want(t, "the rollout", r, http.StatusSeeOther)
	for _, trial := range log.State().Trials() {
		if trial.Stage.Percent != 5 || len(trial.Stage.Next) != 1 || trial.Stage.Hold != 10*time.Minute {
			t.Errorf("the stage is %+v", trial.Stage)
		}
	}
	if len(log.State().Trials()) != 1 {
		t.Error("there is no trial")
	}
	if _, page := w.get("/configuration?draft=1&set.telemetry.sampling=7&stages=25,5"); strings.Contains(page, `id="confirm"`) {
		t.Error("stages that shrink are offered")
	}
}

// TestWhoMayNotChangeTheConfiguration sees it.
func TestWhoMayNotChangeTheConfiguration(t *testing.T) {
	b, log, _ := withSettings(t)
	w := b.as(Auditor)
	r, page := w.get("/configuration")
	want(t, "the page", r, http.StatusOK)
	if !strings.Contains(page, "<fieldset disabled>") {
		t.Error("the form is offered")
	}
	for _, path := range []string{"/configuration", "/configuration/rollback"} {
		r, _ := w.order(path, url.Values{"id": {strings.Repeat("1", 32)}, "set.log.level": {"debug"}, "to": {"0"}})
		want(t, path, r, http.StatusForbidden)
	}
	if log.Revision() != 0 {
		t.Error("an auditor changed the configuration")
	}
}

// What a key takes is said as everywhere in English, and in Japanese for who reads that.
func TestWhatKeysTakeIsTranslated(t *testing.T) {
	for _, k := range settings.Network().Keys() {
		if en, ja := wants("en", k), wants("ja", k); en != k.Wants() || ja == en || strings.IndexFunc(ja, func(r rune) bool { return r > 0x3000 }) < 0 {
			t.Errorf("%s takes %q, %q; the key itself says %q", k.Name, en, ja, k.Wants())
		}
	}
}
