// Package monitor runs Debian's Prometheus and Alertmanager beside a test or a scenario,
// on loopback ports and in a directory of their own, and asks them.
package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Names of the programs in Debian's packages prometheus and prometheus-alertmanager.
const (
	prometheus   = "prometheus"
	alertmanager = "prometheus-alertmanager"
)

const (
	startMost = 30 * time.Second
	lookEvery = 50 * time.Millisecond
	stopMost  = 10 * time.Second
	answerMax = 16 << 20
)

// ErrNotThere says that the programs are not installed.
var ErrNotThere = errors.New("Prometheus and Alertmanager are not installed: apt-get install prometheus prometheus-alertmanager")

// There returns ErrNotThere unless the programs are installed.
func There() error {
	for _, name := range []string{prometheus, alertmanager} {
		if _, err := exec.LookPath(name); err != nil {
			return ErrNotThere
		}
	}
	return nil
}

// Server is a running program.
type Server struct {
	Addr string // host:port

	cmd   *exec.Cmd
	ended chan error
	said  bytes.Buffer
}

// Prometheus runs Prometheus in a directory, with files in it, and more flags.
func Prometheus(dir string, config, rules []byte, rulesName string, more ...string) (*Server, error) {
	if err := put(dir, map[string][]byte{"prometheus.yml": config, rulesName: rules}); err != nil {
		return nil, err
	}
	args := []string{"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=%s"}
	return start(prometheus, dir, append(args, more...)...)
}

// Alertmanager runs one Alertmanager of a cluster: gossip is its own address of it, and
// peers are those of the others.
func Alertmanager(dir string, config []byte, gossip string, peers ...string) (*Server, error) {
	if err := put(dir, map[string][]byte{"alertmanager.yml": config}); err != nil {
		return nil, err
	}
	args := []string{"--config.file=" + filepath.Join(dir, "alertmanager.yml"), "--storage.path=" + filepath.Join(dir, "data"), "--web.listen-address=%s", "--cluster.listen-address=" + gossip,
		"--cluster.peer-timeout=3s", "--cluster.settle-timeout=5s", "--cluster.gossip-interval=50ms"}
	for _, p := range peers {
		args = append(args, "--cluster.peer="+p)
	}
	return start(alertmanager, dir, args...)
}

func put(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("monitor: %w", err)
		}
	}
	return nil
}

// FreeAddr is an address of this machine at which nobody listens.
func FreeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("monitor: %w", err)
	}
	return ln.Addr().String(), ln.Close()
}

func start(name, dir string, args ...string) (*Server, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, ErrNotThere
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	for i := range args {
		if bytes.Contains([]byte(args[i]), []byte("%s")) {
			args[i] = fmt.Sprintf(args[i], addr)
		}
	}
	s := &Server{Addr: addr, cmd: exec.Command(path, args...), ended: make(chan error, 1)}
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() { s.ended <- s.cmd.Wait() }()
	ctx, cancel := context.WithTimeout(context.Background(), startMost)
	defer cancel()
	for {
		if _, err := s.Get(ctx, "/-/ready"); err == nil {
			return s, nil
		}
		select {
		case err := <-s.ended:
			return nil, fmt.Errorf("%s ended: %v: %s", name, err, s.said.Bytes())
		case <-ctx.Done():
			s.Close()
			return nil, fmt.Errorf("%s is not ready after %v: %s", name, startMost, s.said.Bytes())
		case <-time.After(lookEvery):
		}
	}
}

// Close ends the program.
func (s *Server) Close() error {
	s.cmd.Process.Signal(os.Interrupt)
	select {
	case <-s.ended:
	case <-time.After(stopMost):
		s.cmd.Process.Kill()
		<-s.ended
	}
	return nil
}

// Kill ends the program as a crash does: it says goodbye to nobody.
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	<-s.ended
}

// Get asks for a path.
func (s *Server) Get(ctx context.Context, path string) ([]byte, error) {
	return s.do(ctx, http.MethodGet, path, nil)
}

// Post sends JSON to a path.
func (s *Server) Post(ctx context.Context, path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	_, err = s.do(ctx, http.MethodPost, path, b)
	return err
}

func (s *Server) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.Addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, answerMax))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("monitor: %s %s: %s: %s", method, path, answer.Status, b)
	}
	return b, err
}

// Value is a sample that Prometheus has found.
type Value struct {
	Labels map[string]string
	Value  float64
}

// Query asks Prometheus for what an expression is now.
func (s *Server) Query(ctx context.Context, expr string) ([]Value, error) {
	b, err := s.Get(ctx, "/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	var found struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  [2]any            `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(b, &found); err != nil {
		return nil, fmt.Errorf("monitor: %s: %w", expr, err)
	}
	var all []Value
	for _, r := range found.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("monitor: %s is %q: %w", expr, text, err)
		}
		all = append(all, Value{r.Metric, v})
	}
	return all, nil
}

// Await asks until what was found is enough, or ctx ends; it returns what was found last.
func (s *Server) Await(ctx context.Context, expr string, enough func([]Value) bool) ([]Value, error) {
	var last []Value
	for {
		all, err := s.Query(ctx, expr)
		if err == nil {
			if last = all; enough(all) {
				return all, nil
			}
		}
		select {
		case <-ctx.Done():
			return last, errors.Join(fmt.Errorf("%s: %w", expr, ctx.Err()), err)
		case <-time.After(4 * lookEvery):
		}
	}
}
