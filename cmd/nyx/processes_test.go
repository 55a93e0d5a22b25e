//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/monitor"
	"github.com/nyxnet/nyx/internal/lab/stall"
	"github.com/nyxnet/nyx/internal/setup"
)

// asProgram makes the test binary the program: nyx up --processes starts itself
// again for each node.
const asProgram = "NYX_TEST_AS_PROGRAM"

// resolverVar is the address of the DNS server that it asks then; "": the system's.
const resolverVar = "NYX_TEST_RESOLVER"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		if at := os.Getenv(resolverVar); at != "" {
			net.DefaultResolver = resolverAt(at)
		}
		main()
		return
	}
	os.Exit(apart(m))
}

// apart runs the tests where the processes of this user's own are not: some are killed, and
// nyx status would miss them.
func apart(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nyx-test-")
	if err == nil {
		err = os.Setenv("XDG_CONFIG_HOME", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	return m.Run()
}

// resolverAt asks one server for all names.
func resolverAt(at string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", at)
	}}
}

// program is a running nyx with its children.
type program struct {
	*exec.Cmd
	lines *bufio.Scanner
	// ended is what it and its children said on stderr, which they share; it
	// comes when the last of them is gone.
	ended    chan string
	children map[string]int
}

func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{Cmd: exec.Command(self, args...), ended: make(chan string, 1), children: map[string]int{}}
	p.Env = append(os.Environ(), asProgram+"=1")
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stderr = w
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer r.Close()
		b, _ := io.ReadAll(r)
		p.ended <- string(b)
	}()
	t.Cleanup(func() { p.Process.Kill(); p.Wait() }) // and its children with it, where the system can
	return p
}

var childLine = regexp.MustCompile(`^(\S+) is process (\d+)$`)

// await reads what the program says up to a line that begins with a text, and
// returns the rest of that line.
func (p *program) await(t *testing.T, text string) string {
	t.Helper()
	var said []string
	for p.lines.Scan() {
		line := p.lines.Text()
		said = append(said, line)
		if m := childLine.FindStringSubmatch(line); m != nil {
			p.children[m[1]], _ = strconv.Atoi(m[2])
		}
		if rest, ok := strings.CutPrefix(line, text); ok {
			return rest
		}
	}
	t.Fatalf("no %q in %q; on stderr: %s", text, said, <-p.ended)
	return ""
}

// alive counts the children that run.
func (p *program) alive() (n int) {
	for _, pid := range p.children {
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			n++
		}
	}
	return n
}

// within is how long a network may take to stop.
const within = 5 * time.Second

// awaitEnd waits until the program and its children are gone.
func (p *program) awaitEnd(t *testing.T) (stderr string) {
	t.Helper()
	over, stop := stall.After(within)
	defer stop()
	select {
	case stderr = <-p.ended:
	case <-over:
		t.Errorf("%d of %d processes are left after %v", p.alive(), len(p.children), within)
		p.Process.Kill()
		for _, pid := range p.children {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		stderr = <-p.ended
	}
	return stderr
}

// nyx up --processes starts every node as a process, becomes ready, carries a
// request, goes on without the leading authority, and ends at SIGTERM with all
// of its children. With a carrier, so that the nodes' files name it.
func TestUpProcesses(t *testing.T) {
	data, ready := t.TempDir(), filepath.Join(t.TempDir(), "ready.json")
	p := startProgram(t, "up", "--processes", "--stream", "2", "--mix", "3", "--carrier", "websocket", "--data", data, "--socks", "127.0.0.1:0", "--ready", ready)
	proxy, _, _ := strings.Cut(p.await(t, "ready; proxy "), " ")
	if len(p.children) != 3+3+1+2+3 || p.alive() != len(p.children) {
		t.Errorf("%d of %d children run: %v", p.alive(), len(p.children), p.children)
	}
	var r setup.Ready
	if b, err := os.ReadFile(ready); err != nil || json.Unmarshal(b, &r) != nil || r.Socks != proxy || r.PID != p.Process.Pid {
		t.Errorf("ready file %+v, %v; the proxy is %s, the process %d", r, err, proxy, p.Process.Pid)
	}
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "through nyx") }))
	defer target.Close()
	client := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "socks5h", Host: proxy}), DisableKeepAlives: true}}
	request := func(when string) {
		t.Helper()
		resp, err := client.Get(target.URL)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "through nyx" {
			t.Errorf("%s: %q, %v", when, b, err)
		}
	}
	request("at first")
	leader := p.children["authority-1"]
	if err := syscall.Kill(leader, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.await(t, "authority-1 ended")
	request("without the leading authority")
	lost, err := daemon.LostIn(cli.Shown())
	if err != nil || len(lost) != 1 || lost[0].Name != "authority-1" || lost[0].PID != leader {
		t.Errorf("nyx doctor misses %+v, %v", lost, err)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if said := p.awaitEnd(t); said != "" {
		t.Errorf("on stderr: %s", said)
	}
	for p.lines.Scan() { // stdout is read to its end before Wait
	}
	if err := p.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if n := p.alive(); n != 0 {
		t.Errorf("%d children are left", n)
	}
	if again, err := daemon.LostIn(cli.Shown()); err != nil || len(again) != len(lost) {
		t.Errorf("those that were stopped are missed: %+v, %v", again, err)
	}
	if left, err := os.ReadDir(data); err != nil || len(left) != 0 {
		t.Errorf("%d files are left in the data directory, %v", len(left), err)
	}
	if _, err := os.Stat(ready); err == nil {
		t.Error("the ready file is left")
	}
}

// SCL-025 starts this program as a network, which tells every series on which an objective
// rests.
func TestScenarioLooksAtWhatRuns(t *testing.T) {
	if err := monitor.There(); err != nil {
		t.Skip(err)
	}
	t.Setenv(asProgram, "1")
	out, err := nyx(t, "scenario", "run", "SCL-025", "--no-control", "--out", t.TempDir(), "--json")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var e lab.Evidence
	if err := json.Unmarshal([]byte(out), &e); err != nil || e.Verdict != lab.VerdictUnproven || e.Mode != lab.Live || e.Run.Results[0].Samples != 3 {
		t.Errorf("%v, %s: %+v", err, e.Verdict, e.Run)
	}
}
