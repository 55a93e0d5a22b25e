package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// guestFor is how long an introduction is good; then it is asked for again.
	guestFor = time.Hour
	// guestsMost bounds the certificates that are known: each costs a signature of
	// a listed node, and a hundred bytes here.
	guestsMost = 1 << 17
	// guestsEach is how many of them are one identity's, the oldest of which goes: a node
	// has one for each process that runs.
	guestsEach = 16
	// newcomerMost is how long who is not listed waits for a newer document, and
	// newcomersMost bounds those who wait.
	newcomerMost  = time.Second
	newcomersMost = 64
	// retryAfter is when who was told to wait comes again.
	retryAfter = "5"
)

// guests are those who have introduced themselves, by the hash of their
// certificate's key.
type guests struct {
	authorities [][]byte
	view        atomic.Pointer[directory.View]

	mu        sync.Mutex
	list      map[[seal.HashSize]byte]guest
	pins      map[wire.NodeID][][seal.HashSize]byte // of each, the oldest first
	newcomers int                                   // who wait for a document that lists them
	newer     chan struct{}                         // closed, and made anew, with each document; nil: nobody waits
}

// take takes a document.
func (g *guests) take(v *directory.View) {
	g.view.Store(v)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.newer != nil {
		close(g.newer)
		g.newer = nil
	}
}

type guest struct {
	id    wire.NodeID
	until time.Time
}

// knows reports whether an identity is of a node that the directory lists, or of an
// authority.
func (g *guests) knows(identity []byte) bool {
	listed := slices.ContainsFunc(g.authorities, func(key []byte) bool { return string(key) == string(identity) })
	if v := g.view.Load(); v != nil && !listed {
		_, listed = v.Node(directory.NodeID(identity))
	}
	return listed
}

// await waits for a document that lists an identity, for which want has somebody look:
// a node that has just joined knows of one before the control process does.
func (g *guests) await(ctx context.Context, identity []byte, want func()) {
	ctx, cancel := context.WithTimeout(ctx, newcomerMost)
	defer cancel()
	g.mu.Lock()
	if g.newcomers >= newcomersMost {
		g.mu.Unlock()
		return
	}
	g.newcomers++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.newcomers--
		g.mu.Unlock()
	}()
	for {
		g.mu.Lock()
		if g.newer == nil {
			g.newer = make(chan struct{})
		}
		newer := g.newer
		g.mu.Unlock()
		if g.knows(identity) {
			return
		}
		want()
		select {
		case <-newer:
		case <-ctx.Done():
			return
		}
	}
}

// admit takes an introduction.
func (g *guests) admit(pin [seal.HashSize]byte, identity []byte, now time.Time) error {
	id := directory.NodeID(identity)
	if !g.knows(identity) {
		return fmt.Errorf("the directory does not list node %x", id[:4])
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.list == nil {
		g.list, g.pins = map[[seal.HashSize]byte]guest{}, map[wire.NodeID][][seal.HashSize]byte{}
	}
	if len(g.list) >= guestsMost {
		for pin, old := range g.list {
			if now.After(old.until) {
				g.forget(pin)
			}
		}
	}
	own := slices.DeleteFunc(g.pins[id], func(p [seal.HashSize]byte) bool { return p == pin })
	if len(own) >= guestsEach {
		delete(g.list, own[0])
		own = own[1:]
	}
	if len(g.list) >= guestsMost {
		return errors.New("as many are known as can be; come again in an hour")
	}
	g.list[pin], g.pins[id] = guest{id, now.Add(guestFor)}, append(own, pin)
	return nil
}

// forget forgets a certificate. The lock is held.
func (g *guests) forget(pin [seal.HashSize]byte) {
	id := g.list[pin].id
	delete(g.list, pin)
	if g.pins[id] = slices.DeleteFunc(g.pins[id], func(p [seal.HashSize]byte) bool { return p == pin }); len(g.pins[id]) == 0 {
		delete(g.pins, id)
	}
}

// of is whose a certificate is.
func (g *guests) of(pin [seal.HashSize]byte, now time.Time) (wire.NodeID, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	known, ok := g.list[pin]
	return known.id, ok && now.Before(known.until)
}

// controlCounts are of events: taken on the bus, found there already, and not taken.
type controlCounts struct {
	taken, duplicates, refused, forged atomic.Uint64
}

func (c *Control) handler() http.Handler {
	mux := http.NewServeMux()
	if c.issuer != nil {
		c.issuer.register(mux)
	}
	mux.HandleFunc("POST "+introducePath, c.served.timed(introducePath, c.takeIntroduction))
	mux.HandleFunc("GET "+settingsPath, c.guestsOnly(c.serveSettings)) // which waits for something
	served := map[string]func(http.ResponseWriter, *http.Request, wire.NodeID){"POST " + eventsPath: c.takeEvents, "POST " + PolicyPath: c.policy.serve}
	maps.Copy(served, c.rates.Routes())
	maps.Copy(served, c.cfg.Routes)
	for pattern, f := range served {
		_, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(pattern, c.served.timed(path, c.guestsOnly(f)))
	}
	return mux
}

func (c *Control) takeIntroduction(w http.ResponseWriter, r *http.Request) {
	b, ok := takeBody(w, r, "introduction", directory.MaxIntroductionSize)
	if !ok {
		return
	}
	own, ok := front.PeerPin(r.TLS)
	if !ok {
		http.Error(w, "no certificate", http.StatusForbidden)
		return
	}
	identity, err := directory.TakeIntroduction(b, c.cfg.Trust.Network, c.pin, own, time.Now().Unix())
	if err == nil {
		c.known.await(r.Context(), identity, c.feed.want)
		err = c.known.admit(own, identity, time.Now())
	}
	if err != nil {
		c.turn(nodesDoor, notIntroduced)
		http.Error(w, err.Error(), http.StatusForbidden)
	}
}

// guestsOnly serves those who have introduced themselves.
func (c *Control) guestsOnly(f func(http.ResponseWriter, *http.Request, wire.NodeID)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		pin, ok := front.PeerPin(r.TLS)
		from, known := c.known.of(pin, time.Now())
		if !ok || !known {
			http.Error(w, "introduce yourself first", http.StatusUnauthorized)
			return
		}
		front.Known(r)
		f(w, r, from)
	}
}

// nodeKinds are the events of which a node knows, rather than an operator or the
// control plane.
var nodeKinds = []audit.Kind{audit.AdminAction, audit.KeyEvent, audit.AdmissionRefusal, audit.Incident, audit.SessionTerminate, audit.PolicyClass}

// takeEvents takes a batch of a node. 200 says that all of it is on the bus's disk,
// 400 and 403 that it never will be, 503 that the node shall keep it and come again.
func (c *Control) takeEvents(w http.ResponseWriter, r *http.Request, from wire.NodeID) {
	b, ok := takeBody(w, r, "batch of events", pipeline.BatchBytes)
	if !ok {
		return
	}
	events, messages, err := pipeline.ParseBatch(b)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	actor := hex.EncodeToString(from[:])
	for i := range events {
		if e := &events[i]; e.Actor != actor || !slices.Contains(nodeKinds, e.Kind) {
			c.counts.forged.Add(1)
			c.turn(nodesDoor, forgedEvents)
			http.Error(w, fmt.Sprintf("event %d of the batch is of %q and of kind %v: a node tells of its own acts", i+1, e.Actor, e.Kind), http.StatusForbidden)
			return
		}
	}
	if err := c.publish(r.Context(), pipeline.ByLane(events, messages)); err != nil {
		c.log.Warn("events are not taken; nodes keep them", "why", err)
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, "not taken; keep the events and come again", http.StatusServiceUnavailable)
	}
}
