package daemon

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/seal"
)

// Paths of bulletins: those of a threshold of authorities, for whoever asks; and
// what there is, be it less, for other authorities, who make a threshold of it.
const (
	bulletinPath = "/nyx/v1/bulletins"
	sharedPath   = "/nyx/v1/bulletins/shared"
)

// bulletinPoll is how often clients and authorities ask for bulletins: with a round,
// a replica's replicaPoll, a draw of the moment at which routes move and a set-up,
// less than 30 s.
const bulletinPoll = 5 * time.Second

// noticeboard is what a server of the directory hands out of bulletins. An authority
// posts its own and those of the others, a replica what it is handed.
type noticeboard struct {
	mu     sync.Mutex
	board  *directory.Board
	bundle []byte
	tag    string
	enough bool // bulletins for somebody to use
}

// bind makes what is handed out of what the board holds. The lock is held.
func (n *noticeboard) bind() {
	all := n.board.Bulletins()
	_, need := n.board.Seats()
	n.bundle, n.enough = directory.EncodeBundle(all), len(all) >= need
	hash := seal.Hash("bulletins", n.bundle)
	n.tag = hex.EncodeToString(hash[:8])
}

// register has a server answer who asks for bulletins.
func (n *noticeboard) register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+bulletinPath, func(w http.ResponseWriter, r *http.Request) {
		bundle, tag, enough := n.newest()
		if !enough {
			http.Error(w, "no bulletins yet", http.StatusServiceUnavailable)
			return
		}
		mirror.ServeTagged(w, r, tag, bundle)
	})
}

// share has a server answer other authorities.
func (n *noticeboard) share(mux *http.ServeMux) {
	mux.HandleFunc("GET "+sharedPath, func(w http.ResponseWriter, r *http.Request) {
		bundle, tag, _ := n.newest()
		mirror.ServeTagged(w, r, tag, bundle)
	})
}

func (n *noticeboard) newest() (bundle []byte, tag string, enough bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.bundle, n.tag, n.enough
}

// sharedBulletins asks an authority for what it has.
func sharedBulletins(ctx context.Context, client *http.Client, url string) ([][]byte, error) {
	got, err := exchange(ctx, client, request{server: url, path: sharedPath, most: directory.MaxBundleSize + 1})
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", url, err)
	}
	if !got.ok() {
		return nil, fmt.Errorf("directory %s answers %s to who asks for bulletins", url, got.Status)
	}
	return directory.ParseBundle(got.body)
}

// reading asks servers for bulletins: replicas first, and another where one's bundle
// is refused, or it has had nothing new for long. That is reported as what is wrong
// with documents is (docs/protocol.md, section 7.8). It belongs to one goroutine.
type reading struct {
	asker *mirror.Asker
	tag   string // of what was taken last
}

// read has take keep what a server hands out. late says whether what was kept is old,
// once the answer was.
func (r *reading) read(ctx context.Context, take func(bundle []byte) error, late func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, bulletinPoll)
	defer cancel()
	return r.asker.Ask(ctx, &mirror.Question{Path: bulletinPath, Tag: r.tag, Most: directory.MaxBundleSize, Take: func(a mirror.Answer) error {
		if a.Body != nil {
			if err := take(a.Body); err != nil {
				return err
			}
			r.tag = a.Tag
		}
		if late() {
			return fmt.Errorf("%w: no bulletins of the last %v", directory.ErrExpired, directory.BulletinAge)
		}
		return nil
	}})
}

// follow fills a replica's noticeboard until ctx ends.
func (n *noticeboard) follow(ctx context.Context, from *reading) {
	tick := time.NewTicker(replicaPoll)
	defer tick.Stop()
	for {
		from.read(ctx, func(bundle []byte) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			news, err := n.board.AcceptBundle(bundle)
			if news {
				n.bind()
			}
			return err
		}, func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.board.Late(time.Now().Unix())
		})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
