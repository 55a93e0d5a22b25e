package console

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/seal"
)

// Role is what somebody is here for, by the names of the governance API. Nobody has
// more than one at a time.
type Role string

// Roles.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Admin    Role = "admin"
	Auditor  Role = "auditor"
)

// Roles are all that there are.
var Roles = []Role{Viewer, Operator, Admin, Auditor}

// Action is what somebody may do, by the names of the governance API.
type Action string

// Actions of the console. What is asked of the audit log its own API decides.
const (
	See         Action = "insights.read"
	SeeSettings Action = "configuration.read"
	Configure   Action = "configuration.change"
	Operate     Action = "network.operate"
	RunScenario Action = "scenarios.run"
)

// Person is who has signed in.
type Person struct {
	Name string // as events name it
	Role Role
	Org  string // "" is the network's own
	// Clearance is the most sensitive event that the person may see, if the role
	// allows it.
	Clearance uint8
	// Local people came by a link that this machine's owner was shown; they may be in
	// each role, one at a time.
	Local bool
}

const (
	// visitMost is how long one signing-in lasts, visitIdle without a request.
	visitMost = 12 * time.Hour
	visitIdle = time.Hour
	// visitsMost bounds who has signed in.
	visitsMost = 256
	// visitWatches bounds the streams of events of one of them: tabs of a browser.
	visitWatches = 8
	// visitCookie is the cookie that holds a visit's secret, by cookieName.
	visitCookie = "nyx-console"
)

// visit is what somebody is from signing in to signing out. Its fields are under the
// lock of people.
type visit struct {
	Person
	token   string // that forms show, so that another site's cannot
	begun   time.Time
	seen    time.Time
	watches int
	exports []auditExport // of the audit log, that it has asked for, the newest first
}

// people are the visits, by the hash of their secret.
type people struct {
	mu    sync.Mutex
	known map[[32]byte]*visit
}

// cookieName is what a cookie is called at the port of a request. Browsers keep cookies
// by host alone: without it two consoles of a machine would sign each other out.
func cookieName(base string, r *http.Request) string {
	if _, port, err := net.SplitHostPort(r.Host); err == nil {
		return base + "-" + port
	}
	return base
}

// secret draws one of 256 bits, in text.
func (c *Console) secret() string {
	var b [32]byte
	c.cfg.Entropy(b[:])
	return hexed(b[:])
}

// welcome begins a visit and gives the browser its cookie; false: too many are here.
func (c *Console) welcome(w http.ResponseWriter, r *http.Request, who Person) bool {
	now, secret := c.cfg.Now(), c.secret()
	v := &visit{Person: who, token: c.secret(), begun: now, seen: now}
	p := &c.people
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, old := range p.known {
		if old.over(now) {
			delete(p.known, id)
		}
	}
	if len(p.known) >= visitsMost {
		return false
	}
	p.known[seal.SHA256([]byte(secret))] = v
	http.SetCookie(w, &http.Cookie{Name: cookieName(visitCookie, r), Value: secret, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: c.secure(r), MaxAge: int(visitMost.Seconds())})
	return true
}

func (v *visit) over(now time.Time) bool {
	return now.Sub(v.begun) >= visitMost || now.Sub(v.seen) >= visitIdle && v.watches == 0
}

// guest is the visit that a request is of, as it is now.
func (c *Console) guest(r *http.Request) (v *visit, at visit, ok bool) {
	cookie, err := r.Cookie(cookieName(visitCookie, r))
	if err != nil {
		return nil, visit{}, false
	}
	id, now := seal.SHA256([]byte(cookie.Value)), c.cfg.Now()
	c.people.mu.Lock()
	defer c.people.mu.Unlock()
	v = c.people.known[id]
	if v == nil {
		return nil, visit{}, false
	}
	if v.over(now) {
		delete(c.people.known, id)
		return nil, visit{}, false
	}
	v.seen = now
	front.Known(r)
	return v, *v, true
}

// leave ends a visit.
func (c *Console) leave(v *visit) {
	c.people.mu.Lock()
	defer c.people.mu.Unlock()
	for id, other := range c.people.known {
		if other == v {
			delete(c.people.known, id)
		}
	}
}

// as has a local visit go on in another role.
func (c *Console) as(v *visit, role Role) bool {
	c.people.mu.Lock()
	defer c.people.mu.Unlock()
	if !v.Local || !slices.Contains(Roles, role) {
		return false
	}
	v.Role = role
	return true
}

// watch counts a stream of events of a visit, until the returned function is called.
func (c *Console) watch(v *visit) (done func(), ok bool) {
	c.people.mu.Lock()
	defer c.people.mu.Unlock()
	if v.watches >= visitWatches {
		return nil, false
	}
	v.watches++
	return func() {
		c.people.mu.Lock()
		defer c.people.mu.Unlock()
		v.watches--
		v.seen = c.cfg.Now()
	}, true
}

// still reports whether a visit goes on: who signed out watches no longer.
func (c *Console) still(v *visit) bool {
	now := c.cfg.Now()
	c.people.mu.Lock()
	defer c.people.mu.Unlock()
	for _, other := range c.people.known {
		if other == v {
			return !v.over(now)
		}
	}
	return false
}
