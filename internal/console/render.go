package console

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
)

// face is the console in one language.
type face struct {
	lang  string
	pages map[string]*template.Template
}

// pageNames are the pages of who has signed in, in the order of the menu; evidence and
// failed are in no menu.
var pageNames = []string{"overview", "map", "sessions", "routes", "relays", "directory", "configuration", "audit", "scenarios", "planner"}

// ownPages are those of them that show the client of this process.
var ownPages = []string{"sessions", "routes"}

func newFaces() (map[string]*face, error) {
	faces := map[string]*face{}
	for _, lang := range languages {
		f := &face{lang: lang, pages: map[string]*template.Template{}}
		tools := template.FuncMap{
			"t":      func(key string, args ...any) string { return say(lang, key, args...) },
			"wants":  func(k *settings.Key) string { return wants(lang, k) },
			"lang":   func() string { return lang },
			"bytes":  bytesOf,
			"n":      func(v any) string { return groupedAny(v) },
			"at":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
			"short":  func(s string) string { return s[:min(len(s), 16)] },
			"pct":    percent,
			"dur":    func(d time.Duration) string { return d.Round(time.Second).String() },
			"ms":     func(d time.Duration) string { return millis(float64(d.Microseconds()) / 1000) },
			"join":   func(s []string) string { return strings.Join(s, ", ") },
			"plus":   func(a, b int) int { return a + b },
			"minus":  func(a, b uint64) uint64 { return a - min(a, b) },
			"choice": func(value string, of ...string) choice { return choice{value, of} },
		}
		base, err := template.New("base").Funcs(tools).ParseFS(files, "pages/base.html")
		if err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
		for _, name := range append(slices.Clone(pageNames), "evidence", "failed", "sign-in") {
			own, err := base.Clone()
			if err == nil {
				own, err = own.ParseFS(files, "pages/"+name+".html")
			}
			if err != nil {
				return nil, fmt.Errorf("console: page %s: %w", name, err)
			}
			f.pages[name] = own
		}
		faces[lang] = f
	}
	return faces, nil
}

// choice is what a select offers.
type choice struct {
	Value string
	Of    []string
}

func groupedAny(v any) string {
	switch n := v.(type) {
	case int:
		return signed(int64(n))
	case int64:
		return signed(n)
	case uint64:
		return grouped(n)
	case uint32:
		return grouped(uint64(n))
	}
	return fmt.Sprint(v)
}

func signed(n int64) string {
	if n < 0 {
		return "−" + grouped(uint64(-n))
	}
	return grouped(uint64(n))
}

func (f *face) say(key string, args ...any) string { return say(f.lang, key, args...) }

// faceOf is the language that somebody chose, or that the browser prefers.
func (c *Console) faceOf(r *http.Request) *face {
	if cookie, err := r.Cookie("nyx-lang"); err == nil && c.faces[cookie.Value] != nil {
		return c.faces[cookie.Value]
	}
	return c.faces[preferred(r.Header.Get("Accept-Language"))]
}

// preferred is the first of our languages in a header of preferences, as browsers send
// it: the most wanted first.
func preferred(header string) string {
	for part := range strings.SplitSeq(header, ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		base, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if slices.Contains(languages, base) {
			return base
		}
	}
	return languages[0]
}

func themeOf(r *http.Request) string {
	if cookie, err := r.Cookie("nyx-theme"); err == nil && (cookie.Value == "light" || cookie.Value == "dark") {
		return cookie.Value
	}
	return "system"
}

// frame is what every page has.
type frame struct {
	Page, Theme, Path string
	Who               *Person // nil: nobody has signed in
	Token             string
	Roles             []Role
	Menu              []string
	Network, Level    string
	May               map[string]bool // by action
	Content           any
}

// show shows a page to who has signed in.
func (c *Console) show(k *call, name string, status int, content any) {
	p, _ := c.live.now(false)
	who := k.who.Person
	f := frame{Page: name, Theme: themeOf(k.Request), Path: pathOf(k.Request), Who: &who, Token: k.who.token, Menu: c.menu, Network: p.Network, Level: p.Level, Content: content, May: map[string]bool{}}
	if who.Local {
		f.Roles = Roles
	}
	for _, a := range []Action{Operate, Configure, RunScenario} {
		ok, _ := c.cfg.Policy.Decide(k.Context(), who, a)
		f.May[string(a)] = ok && c.cfg.Record != nil && (a != Operate || c.cfg.Orders != nil)
	}
	c.write(k.w, k.face, name, status, f)
}

// showOut shows the page of signing in.
func (c *Console) showOut(w http.ResponseWriter, r *http.Request, status int, content signIn) {
	path := pathOf(r)
	content.Command = c.cfg.Command
	if content.Key != "" || r.Method != http.MethodGet || strings.HasPrefix(path, "/oidc/") {
		path = "/sign-in" // a secret of the address does not go into forms
	}
	c.write(w, c.faceOf(r), "sign-in", status, frame{Page: "sign-in", Theme: themeOf(r), Path: path, Content: content})
}

// fail shows why something could not be done.
func (c *Console) fail(k *call, status int, kind, why string) {
	c.show(k, "failed", status, struct{ Kind, Why string }{kind, why})
}

func pathOf(r *http.Request) string {
	if r.Method != http.MethodGet {
		return "/"
	}
	return r.URL.RequestURI()
}

func (c *Console) write(w http.ResponseWriter, f *face, name string, status int, of frame) {
	var b bytes.Buffer
	if err := f.pages[name].ExecuteTemplate(&b, "base.html", of); err != nil {
		c.cfg.Log.Error("a page of the console could not be made", "page", name, "why", err)
		http.Error(w, "the page could not be made; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", f.lang)
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
