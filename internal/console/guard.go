package console

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/seal"
)

const (
	// requestMax is how long a client may take to send a request, answerMax to take an
	// answer that is no stream of events.
	requestMax = 10 * time.Second
	answerMax  = 30 * time.Second
	idleMax    = time.Minute
	headersMax = 16 << 10
	formMax    = 32 << 10
	// connectionsMost bounds connections: as many as viewers, and as many for pages.
	connectionsMost = 2 * viewersMost
	recordMax       = 10 * time.Second
)

// contentPolicy lets a page have what this server has, and nothing else: no script and
// no style in the page itself, no frame around it, no form that leads elsewhere.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// otherSite is said to who was led here by another site.
const otherSite = "this came from another site; go to the console's own page"

// NewServer returns a server of a console, on which no client can hold a connection for
// long without reading what it is sent. With a certificate it is for ServeTLS; nil is for
// loopback addresses.
func NewServer(c *Console, certificate *tls.Certificate) *http.Server {
	s := &http.Server{
		Handler: c, ReadHeaderTimeout: requestMax, ReadTimeout: requestMax, WriteTimeout: answerMax, IdleTimeout: idleMax,
		MaxHeaderBytes: headersMax, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), // it would name clients
	}
	if certificate != nil {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS13}
	}
	return s
}

// Limit bounds the connections of a listener, and watches the server that is to serve it:
// where there is no room the oldest of those who are not signed in yields.
func Limit(ln net.Listener, s *http.Server) net.Listener {
	bounded := &front.Listener{Listener: ln, Limits: front.NewLimits(connectionsMost, connectionsMost), Yields: true}
	bounded.Watch(s)
	return bounded
}

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if !c.hostIsOurs(r.Host) {
		http.Error(w, "use the address at which the console was shown, not a name for it", http.StatusForbidden)
		return
	}
	if err := c.guard.Check(r); err != nil {
		http.Error(w, otherSite, http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, formMax)
	c.mux.ServeHTTP(w, r)
}

// hostIsOurs refuses names that somebody else has lead here (DNS rebinding).
func (c *Console) hostIsOurs(host string) bool {
	name, _, err := net.SplitHostPort(host)
	return c.named(host) || err == nil && loopback(name)
}

// named reports whether a host is one of those that are configured. Browsers write names in
// small letters, and leave the port of a scheme out.
func (c *Console) named(host string) bool {
	written := func(host string) string {
		return strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(host), ":443"), ":80")
	}
	return slices.ContainsFunc(c.cfg.Hosts, func(own string) bool { return written(own) == written(host) })
}

func loopback(name string) bool {
	ip := net.ParseIP(name)
	return ip != nil && ip.IsLoopback()
}

// secure reports whether a browser came by TLS, to this process or to a front of it: a name
// that is not this machine's is only ever shown with https.
func (c *Console) secure(r *http.Request) bool {
	name, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
	}
	return r.TLS != nil || name != "localhost" && !loopback(name) && c.named(r.Host)
}

// call is a request of somebody who has signed in.
type call struct {
	*http.Request
	w     http.ResponseWriter
	visit *visit
	who   visit // as it was when the request came
	face  *face
}

// signed serves a pattern to who has signed in and may do an action; "" is left to what
// serves it.
func (c *Console) signed(pattern string, a Action, serve func(*call)) {
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v, at, ok := c.guest(r)
		if !ok {
			if r.Method == http.MethodGet && r.Header.Get("Accept") != "text/event-stream" {
				http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
			} else {
				http.Error(w, "sign in first", http.StatusUnauthorized)
			}
			return
		}
		c.tellSoon(r)
		k := &call{r, w, v, at, c.faceOf(r)}
		if a != "" {
			if ok, why := c.cfg.Policy.Decide(r.Context(), at.Person, a); !ok {
				c.tellRefused(k, string(a))
				c.fail(k, http.StatusForbidden, "refused", why)
				return
			}
		}
		serve(k)
	})
}

// page serves a page under a name.
func (c *Console) page(pattern, name string, a Action, make func(*call) (any, error)) {
	c.signed(pattern, a, func(k *call) {
		content, err := make(k)
		if err != nil {
			c.fail(k, statusOf(err), "failed", oneLine(err))
			return
		}
		c.show(k, name, http.StatusOK, content)
	})
}

// change serves a request that changes something: the form shows the visit's token. It
// leads to a page when it is done.
func (c *Console) change(pattern string, a Action, do func(*call) (next string, err error)) {
	c.signed(pattern, a, func(k *call) {
		if err := k.ParseForm(); err != nil {
			c.fail(k, http.StatusBadRequest, "failed", "the form is too large or cut off")
			return
		}
		if !seal.Equal([]byte(k.PostForm.Get("token")), []byte(k.who.token)) {
			c.fail(k, http.StatusForbidden, "refused", k.face.say("error.form"))
			return
		}
		next, err := do(k)
		if err != nil {
			c.fail(k, statusOf(err), "failed", oneLine(err))
			return
		}
		http.Redirect(k.w, k.Request, next, http.StatusSeeOther)
	})
}

// record records what somebody is about to do. What cannot be recorded is not done.
func (c *Console) record(k *call, action, subject string) error {
	return c.recordFor(k.Request, k.who.Person, action, subject, audit.OK)
}

func (c *Console) recordFor(r *http.Request, who Person, action, subject string, outcome audit.Outcome) error {
	if c.cfg.Record == nil {
		return errNoRecord
	}
	ctx, cancel := timed(r, recordMax)
	defer cancel()
	e := c.newEvent(who, action, subject)
	e.Outcome = outcome
	return c.keepEvent(ctx, e)
}

func (c *Console) keepEvent(ctx context.Context, e audit.Event) error {
	if err := c.cfg.Record.Record(ctx, e); err != nil {
		c.cfg.Log.Error("an event of the console cannot be recorded", "action", e.Action, "outcome", e.Outcome, "why", err)
		return errNotRecorded
	}
	return nil
}

// attempt records what somebody is about to do, does it, and records it again if it
// failed.
func (c *Console) attempt(k *call, action, subject string, do func() error) error {
	if err := c.record(k, action, subject); err != nil {
		return err
	}
	err := do()
	if err != nil {
		c.recordFor(k.Request, k.who.Person, action, subject, audit.Failed)
	}
	return err
}

func (c *Console) newEvent(who Person, action, subject string) audit.Event {
	var drawn [10]byte
	c.cfg.Entropy(drawn[:])
	now := c.cfg.Now().UTC().Truncate(time.Millisecond)
	return audit.Event{
		ID: audit.NewID(now, drawn), Time: now, Kind: audit.AdminAction, Severity: audit.Notice, Actor: who.Name, Org: who.Org,
		Action: action, Subject: subject, Count: 1, Sensitivity: 1, Details: []audit.Detail{{Key: "role", Value: string(who.Role)}, {Key: "command", Value: "console"}},
	}
}

// triesMost is how often people of one address may fail to sign in in a minute, or begin to
// at an issuer.
const triesMost = 20

// rate counts what may come so often in a minute.
type rate struct {
	mu     sync.Mutex
	minute int64
	taken  map[string]int
}

// triersMost bounds the addresses that are counted apart.
const triersMost = 4096

// from is what a request wants, with whom it comes from: strangers use up no tries but
// their own, while there are not too many of them.
func (t *rate) from(r *http.Request, what string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || len(t.taken) >= triersMost {
		return what
	}
	return what + " " + front.Block(at.Addr()).String()
}

func (t *rate) take(what string, most int, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := now.Unix() / 60; m != t.minute || t.taken == nil {
		t.minute, t.taken = m, map[string]int{}
	}
	t.taken[what]++
	return t.taken[what] <= most
}

// give takes one back that was no failure.
func (t *rate) give(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken[what] > 0 { // else another minute has begun
		t.taken[what]--
	}
}

func hexed(b []byte) string { return hex.EncodeToString(b) }
