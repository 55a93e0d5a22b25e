package console

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/seal"
)

const (
	// LinkLife is how long a link may wait for its one use.
	LinkLife = 15 * time.Minute
	// linksMost bounds links that wait.
	linksMost = 16
	// localName is who comes by a link: the owner of the machine, whose operator file
	// names an operator likewise.
	localName = "operator"
)

// links are those that were made and not used, by the hash of their secret.
type links struct {
	mu   sync.Mutex
	open map[[32]byte]time.Time // until when
}

// NewLink makes a path by which somebody may sign in, once and soon: for the owner of
// this machine.
func (c *Console) NewLink() string {
	secret, now := c.secret(), c.cfg.Now()
	c.links.mu.Lock()
	defer c.links.mu.Unlock()
	for id, until := range c.links.open {
		if now.After(until) || len(c.links.open) >= linksMost {
			delete(c.links.open, id)
		}
	}
	c.links.open[seal.SHA256([]byte(secret))] = now.Add(LinkLife)
	return "/enter?key=" + secret
}

// link hands a new link to who shows what the owner's file holds.
func (c *Console) link(w http.ResponseWriter, r *http.Request) {
	shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || c.cfg.Owner == "" || !seal.Equal([]byte(shown), []byte(c.cfg.Owner)) {
		http.Error(w, "only the owner of this machine has links made", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, c.NewLink())
}

// spend uses a link up.
func (l *links) spend(secret string, now time.Time) bool {
	id := seal.SHA256([]byte(secret))
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.open[id]
	delete(l.open, id)
	return ok && !now.After(until)
}

// signIn is what the page of signing in shows.
type signIn struct {
	Key   string // of a link, which this page is of
	OIDC  bool
	Roles []Role
	Why   string
	// Command has a link made, or prints one; "": there are none.
	Command string
}

func (c *Console) signInPage(w http.ResponseWriter, r *http.Request) {
	c.showOut(w, r, http.StatusOK, signIn{OIDC: c.cfg.OIDC != nil})
}

// enterPage asks in which role; the link is used by the answer only, so that what looks
// at links ahead does not use them up.
func (c *Console) enterPage(w http.ResponseWriter, r *http.Request) {
	c.showOut(w, r, http.StatusOK, signIn{Key: r.URL.Query().Get("key"), Roles: Roles})
}

func (c *Console) enter(w http.ResponseWriter, r *http.Request) {
	f := c.faceOf(r)
	tries := c.tries.from(r, "enter")
	if !c.tries.take(tries, triesMost, c.cfg.Now()) {
		c.showOut(w, r, http.StatusTooManyRequests, signIn{Why: f.say("signin.slow")})
		return
	}
	who := Person{Name: localName, Role: Role(r.PostFormValue("role")), Clearance: audit.SensitivityMax, Local: true}
	if !slices.Contains(Roles, who.Role) {
		c.showOut(w, r, http.StatusBadRequest, signIn{Key: r.PostFormValue("key"), Roles: Roles, Why: f.say("signin.role")})
		return
	}
	if !c.links.spend(r.PostFormValue("key"), c.cfg.Now()) {
		c.showOut(w, r, http.StatusForbidden, signIn{OIDC: c.cfg.OIDC != nil, Why: f.say("signin.spent")})
		return
	}
	c.tries.give(tries)
	if err := c.admit(w, r, who); err != nil {
		c.showOut(w, r, statusOf(err), signIn{Why: oneLine(err)})
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// admit begins a visit, which is recorded where there is a log.
func (c *Console) admit(w http.ResponseWriter, r *http.Request, who Person) error {
	if c.cfg.Record != nil {
		if err := c.recordFor(r, who, "console.sign-in", "console", audit.OK); err != nil {
			return err
		}
	}
	if !c.welcome(w, r, who) {
		return errFull
	}
	return nil
}

func (c *Console) signOut(k *call) (string, error) {
	c.leave(k.visit)
	http.SetCookie(k.w, &http.Cookie{Name: cookieName(visitCookie, k.Request), Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	return "/sign-in", nil
}

// changeRole has a local visit go on in another role.
func (c *Console) changeRole(k *call) (string, error) {
	role := Role(k.PostForm.Get("role"))
	if !k.who.Local || !slices.Contains(Roles, role) {
		return "", errNone
	}
	if c.cfg.Record != nil {
		who := k.who.Person
		who.Role = role
		if err := c.recordFor(k.Request, who, "console.role", "console", audit.OK); err != nil {
			return "", err
		}
	}
	c.as(k.visit, role)
	return "/", nil
}

// looks keeps language and colours in cookies, and leads back.
func (c *Console) looks(w http.ResponseWriter, r *http.Request) {
	for name, values := range map[string][]string{"lang": languages, "theme": {"system", "light", "dark"}} {
		if v := r.PostFormValue(name); slices.Contains(values, v) {
			http.SetCookie(w, &http.Cookie{Name: "nyx-" + name, Value: v, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: c.secure(r), MaxAge: 365 * 24 * 3600})
		}
	}
	http.Redirect(w, r, backTo(r.PostFormValue("back")), http.StatusSeeOther)
}

// backTo is a path of this console, whatever a form says.
func backTo(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.Host != "" || u.Scheme != "" || len(u.Path) == 0 || u.Path[0] != '/' || len(u.Path) > 1 && (u.Path[1] == '/' || u.Path[1] == '\\') {
		return "/"
	}
	return u.EscapedPath() + map[bool]string{true: "?" + u.RawQuery}[u.RawQuery != ""]
}
