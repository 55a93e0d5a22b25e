package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
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

	mu sync.Mutex
	at int // the server that has answered last
}

// newPlane reads the URLs of the control processes.
func newPlane(network string, urls []string, signer *seal.Signer) (*plane, error) {
	p := &plane{network: network, signer: signer}
	for _, u := range urls {
		s, err := mirror.ParseServer(u)
		if err != nil {
			return nil, fmt.Errorf("control process %s: %w", u, err)
		}
		p.servers = append(p.servers, s)
	}
	var err error
	p.clients, p.own, err = mirror.Guests(p.servers)
	return p, err
}

// ask makes a request of one control process after the other, beginning with the
// one that has answered last, until one answers. An answer is any but those that
// say that another may do better: 5xx. With the last one's of these comes an error.
func (p *plane) ask(ctx context.Context, q request) (r reply, err error) {
	p.mu.Lock()
	first := p.at
	p.mu.Unlock()
	var errs []error
	for i := range p.servers {
		at := (first + i) % len(p.servers)
		q.server = p.servers[at].URL
		if r, err = p.exchange(ctx, at, q); err == nil && r.StatusCode < http.StatusInternalServerError {
			p.mu.Lock()
			p.at = at
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
	r, err := exchange(ctx, p.clients[at], q)
	if err != nil || r.StatusCode != http.StatusUnauthorized {
		return r, err
	}
	hello, err := directory.SignIntroduction(p.signer, &directory.Introduction{
		Network: p.network, Time: time.Now().Unix(), Server: p.servers[at].Pin, Own: p.own,
	})
	if err != nil {
		return r, err
	}
	switch r, err = exchange(ctx, p.clients[at], request{server: q.server, path: introducePath, post: hello, most: 1 << 10}); {
	case err != nil:
		return r, err
	case !r.ok():
		return r, fmt.Errorf("the introduction is not taken: %s", r.said())
	}
	if r, err = exchange(ctx, p.clients[at], q); err == nil && r.StatusCode == http.StatusUnauthorized {
		err = errors.New(r.said())
	}
	return r, err
}

func (p *plane) close() {
	for _, c := range p.clients {
		c.CloseIdleConnections()
	}
}
