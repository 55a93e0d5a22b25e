package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/seal"
)

// Paths of the control plane's HTTP interface (docs/control-plane.md).
const (
	controlPath   = "/control/v1/"
	introducePath = controlPath + "introduction"
	eventsPath    = controlPath + "events"
)

// plane is the way of a node, or an authority, to the control processes: HTTP/2 on
// TLS, on which a certificate that is new with each process stands for the identity
// that has introduced itself with it. It is safe for concurrent use.
type plane struct {
	network string
	signer  *seal.Signer
	servers []mirror.Server
	clients []*http.Client
	own     [seal.HashSize]byte // hash of the certificate's key
	hellos  []hello             // of each server

	mu sync.Mutex
	at map[string]int // the server that has answered last, by path: not all serve all
}

// hello is the introduction to a server.
type hello struct {
	turn chan struct{} // has room while nobody introduces this process
	done atomic.Uint64 // how often it was
}

// newPlane reads the URLs of the control processes.
func newPlane(network string, urls []string, signer *seal.Signer) (*plane, error) {
	p := &plane{network: network, signer: signer, at: map[string]int{}}
	for _, u := range urls {
		s, err := mirror.ParseServer(u)
		if err != nil {
			return nil, fmt.Errorf("control process %s: %w", u, err)
		}
		p.servers = append(p.servers, s)
	}
	p.hellos = make([]hello, len(urls))
	for i := range p.hellos {
		p.hellos[i].turn = make(chan struct{}, 1)
	}
	var err error
	p.clients, p.own, err = mirror.Guests(p.servers)
	return p, err
}

// ask makes a request of one control process after the other, beginning with the
// one that has answered last, until one answers. An answer is any but those that
// say that another may do better: 5xx. With the last one's of these comes an error.
func (p *plane) ask(ctx context.Context, q request) (r reply, err error) {
	path, _, _ := strings.Cut(q.path, "?")
	p.mu.Lock()
	first := p.at[path]
	p.mu.Unlock()
	var errs []error
	for i := range p.servers {
		at := (first + i) % len(p.servers)
		q.server = p.servers[at].URL
		if r, err = p.exchange(ctx, at, q); err == nil && r.StatusCode < http.StatusInternalServerError {
			p.mu.Lock()
			p.at[path] = at
			p.mu.Unlock()
			return r, nil
		}
		if err == nil {
			err = errors.New(r.said())
		}
		errs = append(errs, fmt.Errorf("control process %s: %w", q.server, err))
		if ctx.Err() != nil {
			break
		}
	}
	return r, errors.Join(errs...)
}

// exchange asks one control process, and introduces itself if it is asked who it is.
func (p *plane) exchange(ctx context.Context, at int, q request) (reply, error) {
	done := p.hellos[at].done.Load()
	r, err := exchange(ctx, p.clients[at], q)
	if err != nil || r.StatusCode != http.StatusUnauthorized {
		return r, err
	}
	if err := p.introduce(ctx, at, done); err != nil {
		return reply{}, err
	}
	if r, err = exchange(ctx, p.clients[at], q); err == nil && r.StatusCode == http.StatusUnauthorized {
		err = errors.New(r.said())
	}
	return r, err
}

// introduce introduces this process to a server, unless another request has since it was
// done so often.
func (p *plane) introduce(ctx context.Context, at int, done uint64) error {
	h := &p.hellos[at]
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if h.done.Load() != done {
		return nil
	}
	post, err := directory.SignIntroduction(p.signer, &directory.Introduction{
		Network: p.network, Time: time.Now().Unix(), Server: p.servers[at].Pin, Own: p.own,
	})
	if err != nil {
		return err
	}
	r, err := exchange(ctx, p.clients[at], request{server: p.servers[at].URL, path: introducePath, post: post, most: 1 << 10})
	switch {
	case err != nil:
		return err
	case !r.ok():
		return fmt.Errorf("the introduction is not taken: %s", r.said())
	}
	h.done.Add(1)
	return nil
}

func (p *plane) close() {
	for _, c := range p.clients {
		c.CloseIdleConnections()
	}
}
