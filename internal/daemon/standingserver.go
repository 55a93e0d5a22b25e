package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/setup"
)

// The standing of a process is served on a socket in a directory that only its user can
// enter: no port, nothing that a page in a browser can reach, and found by whoever looks
// into the directory.

const (
	// standingLook is how often the parts of a process are looked at, so that it is
	// known since when they are as they are.
	standingLook = 2 * time.Second
	// standingWait bounds how long a process is waited for that does not answer.
	standingWait = 3 * time.Second
	// standingSuffix is that of the sockets' names.
	standingSuffix = ".sock"
	standingPath   = "/standing"
	// standingMax bounds an answer: 200 nodes with all their counters.
	standingMax = 4 << 20
)

var errNoStandingDir = errors.New("this user has no directory for configuration: nyx status will not find this process")

// StandingServer serves the standing of this process.
type StandingServer struct {
	server  *http.Server
	path    string
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// serveStanding begins to serve in a directory, which it makes.
func serveStanding(dir string, w *beholder) (*StandingServer, error) {
	if dir == "" {
		return nil, errNoStandingDir
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory for nyx status: %w", err)
	}
	s := &StandingServer{path: filepath.Join(dir, fmt.Sprintf("%s-%d%s", w.about.Program, w.about.PID, standingSuffix))}
	os.Remove(s.path) // of a process that had this number before
	ln, err := net.Listen("unix", s.path)
	if err == nil {
		err = os.Chmod(s.path, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("nyx status will not find this process: %w", err)
	}
	if err := leaveNote(s.path, &w.about); err != nil {
		ln.Close()
		return nil, fmt.Errorf("nyx doctor would not miss this process: %w", err)
	}
	w.look(time.Now())
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+standingPath, func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		json.NewEncoder(out).Encode(w.look(time.Now()))
	})
	s.server = newServer(mux)
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(func() { s.server.Serve(ln) })
	s.running.Go(func() {
		every, note := time.NewTicker(standingLook), time.NewTicker(noteEvery)
		defer every.Stop()
		defer note.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-every.C:
				w.look(now)
			case now := <-note.C:
				os.Chtimes(notePath(s.path), now, now)
			}
		}
	})
	return s, nil
}

// Close stops the server; nil is none.
func (s *StandingServer) Close() {
	if s != nil {
		os.Remove(notePath(s.path))
		s.cancel()
		s.server.Close()
		s.running.Wait()
	}
}

// ServeStanding shows a network on this machine to nyx status.
func (l *Local) ServeStanding(dir, level string) (*StandingServer, error) {
	about := standingOf("up", &l.trust)
	about.Local, about.Level, about.Socks = true, level, l.Socks()
	return serveStanding(dir, newBeholder(about, l.parts))
}

// ServeStanding shows a proxy to nyx status.
func (p *Proxy) ServeStanding(dir string, n *setup.Network, level string) (*StandingServer, error) {
	about := standingOf("proxy", &n.Trust)
	about.Level, about.Socks = level, p.Addr()
	return serveStanding(dir, newBeholder(about, func() []part { return []part{p.Client.part()} }))
}

// Standings asks the processes that show themselves in a directory. What became of those
// that do not answer is in the error; the sockets of those that are gone are removed.
func Standings(ctx context.Context, dir string) (all []Standing, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+standingSuffix))
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		s, err := askStanding(ctx, path)
		switch {
		case err == nil:
			all = append(all, s)
		case gone(err):
			os.Remove(path)
		default:
			errs = append(errs, fmt.Errorf("the process of %s does not answer: %w", path, err))
		}
	}
	return all, errors.Join(errs...)
}

// gone reports whether nobody listens on a socket any more. A process that ends closes
// its socket while it answers, too.
func gone(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && !op.Timeout() && !errors.Is(err, fs.ErrPermission)
}

func askStanding(ctx context.Context, path string) (s Standing, err error) {
	ctx, cancel := context.WithTimeout(ctx, standingWait)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	got, err := exchange(ctx, &http.Client{Transport: transport}, request{server: "http://nyx", path: standingPath, most: standingMax})
	if err == nil && !got.ok() {
		err = errors.New(got.said())
	}
	if err == nil {
		err = json.Unmarshal(got.body, &s)
	}
	return s, err
}
