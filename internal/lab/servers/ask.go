package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// answerMost bounds an answer, and askMost how long one may take.
	answerMost = 64 << 20
	askMost    = 30 * time.Second
	// lookEvery is between looks at what a program of others tells of itself.
	lookEvery = 200 * time.Millisecond
)

// ErrNotFound is what Get returns of a page that is not there.
var ErrNotFound = errors.New("there is no such page")

// Get fetches a page of a server.
func Get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, answerMost))
	switch {
	case err == nil && resp.StatusCode == http.StatusNotFound:
		err = fmt.Errorf("%s: %w", url, ErrNotFound)
	case err == nil && resp.StatusCode >= 300:
		err = fmt.Errorf("%s answers %s: %.200s", url, resp.Status, got)
	}
	return got, err
}

// Sum reads a page of Prometheus' text and adds up the samples of a series, of those whose
// labels hold all of some texts. A series that is not there is 0.
func Sum(ctx context.Context, page, name string, with ...string) (sum float64, err error) {
	text, err := Get(ctx, page)
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	lines.Buffer(nil, 1<<20)
next:
	for lines.Scan() {
		labels, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || labels == "" || labels[0] != '{' && labels[0] != ' ' {
			continue
		}
		at := strings.LastIndexByte(labels, ' ')
		for _, w := range with {
			if !strings.Contains(labels[:at], w) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(labels[at+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %q: %w", page, lines.Text(), err)
		}
		sum += v
	}
	return sum, lines.Err()
}

// Await looks until something holds, or until ctx ends.
func Await(ctx context.Context, holds func() (bool, error)) error {
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// server is a process that is asked over HTTP, and tells figures of itself under /metrics.
type server struct {
	*process
	URL string // where it is asked
}

// serve runs a program that is asked at a URL, until it has printed a text, listens at an
// address and says under /ready that it is.
func serve(url, said, at string, cmd *exec.Cmd) (server, error) {
	p, err := start(said, at, cmd)
	if err != nil {
		return server{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startMost)
	defer cancel()
	var last error
	if Await(ctx, func() (bool, error) {
		_, last = Get(ctx, url+"/ready")
		return last == nil, nil
	}) != nil {
		return server{}, errors.Join(fmt.Errorf("not ready: %w", last), p.stop())
	}
	return server{p, url}, nil
}

// Sum adds up samples of a series that it tells of itself.
func (s *server) Sum(ctx context.Context, name string, with ...string) (float64, error) {
	return Sum(ctx, s.URL+"/metrics", name, with...)
}

// FreePorts returns ports of 127.0.0.1 at which nobody listens now.
func FreePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that none comes twice
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports, nil
}

// put writes a program's configuration into its directory, and returns the path.
func put(dir, name string, content []byte) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, content, 0o600)
}

// environment is this process's, with some more.
func environment(more map[string]string) []string {
	env := os.Environ()
	for name, value := range more {
		env = append(env, name+"="+value)
	}
	return env
}
