package servers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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
	if err == nil && resp.StatusCode >= 300 {
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

// ready waits until a server says under /ready that it is.
func ready(ctx context.Context, url string) error {
	var last error
	err := Await(ctx, func() (bool, error) {
		_, last = Get(ctx, url+"/ready")
		return last == nil, nil
	})
	if err != nil {
		err = fmt.Errorf("not ready: %w", last)
	}
	return err
}

// freePorts are such at which nobody listens on loopback.
func freePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
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
