package daemon

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// A process shows itself to its user, and to nobody else; what it shows names no target and
// tells content from cover nowhere; when it has gone, nothing of it is left.
func TestStandingOfALocalNetwork(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	dir := filepath.Join(t.TempDir(), "run")
	s, err := l.ServeStanding(dir, "fast")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	port := echoServer(t)
	dial(t, l, "", port).Close()
	all, err := Standings(t.Context(), dir)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d standings, %v", len(all), err)
	}
	got := all[0]
	if got.Program != "up" || got.PID != os.Getpid() || !got.Local || got.Network != LocalName || got.Level != "fast" || got.Socks != l.Socks() || got.Threshold != localThreshold || got.Memory == 0 || len(got.Parts) != 2+len(l.Nodes) {
		t.Errorf("%+v", got)
	}
	for _, p := range got.Parts {
		if !p.Works || p.Since.Before(got.Since) || p.Client != (p.Name == "client") {
			t.Errorf("%+v", p)
		}
		for c := range trace.NumCounters {
			if _, told := p.Counts[c.String()]; told && c.TellsContent() {
				t.Errorf("%s tells %v", p.Name, c)
			}
		}
	}
	if b, _ := json.Marshal(all); strings.Contains(string(b), ":"+strconv.Itoa(int(port))) {
		t.Errorf("the target is named: %s", b)
	}
	if at, err := os.Stat(dir); err != nil || at.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", at.Mode(), err)
	}
	if at, err := os.Stat(s.path); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", at.Mode(), err)
	}
	s.Close()
	if all, err := Standings(t.Context(), dir); len(all) != 0 || err != nil {
		t.Errorf("after the end: %v, %v", all, err)
	}
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("after the end there are %v, %v", left, err)
	}
}

// The socket of a process that was killed is removed by who finds it; a directory that is
// not there has no process.
func TestStandingOfADeadProcess(t *testing.T) {
	dir := t.TempDir()
	ln, err := net.Listen("unix", filepath.Join(dir, "up-1"+standingSuffix))
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	for _, at := range []string{dir, filepath.Join(dir, "none")} {
		if all, err := Standings(t.Context(), at); len(all) != 0 || err != nil {
			t.Errorf("%s: %v, %v", at, all, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// Since when a part is as it is begins with each change, and only then.
func TestStandingSaysSinceWhen(t *testing.T) {
	now := []part{{Name: "client", State: working}, {Name: "mix", State: "waits"}}
	w := newBeholder(Standing{}, func() []part { return now })
	begun := time.Unix(1e9, 0)
	look := func(after time.Duration, want ...time.Duration) {
		t.Helper()
		s := w.look(begun.Add(after))
		for i, d := range want {
			if p := s.Parts[i]; !p.Since.Equal(begun.Add(d)) || p.Works != (p.State == working) {
				t.Errorf("after %v %s is %q since %v, want %v", after, p.Name, p.State, p.Since.Sub(begun), d)
			}
		}
	}
	look(0, 0, 0)
	look(time.Minute, 0, 0)
	now[1].State = working
	look(2*time.Minute, 0, 2*time.Minute)
	now[0].State = "no route stands yet"
	look(3*time.Minute, 3*time.Minute, 2*time.Minute)
	now[0].State = working
	look(4*time.Minute, 4*time.Minute, 2*time.Minute)
}

// A probe hears nothing where UDP is blocked, comes up by another carrier there, and by UDP
// where it is not (the control).
func TestProbeTellsBlockedUDP(t *testing.T) {
	l, w := startBehindWall(t, false, joint.UDP)
	path := filepath.Join(t.TempDir(), "network.toml")
	if err := l.WriteNetwork(path); err != nil {
		t.Fatal(err)
	}
	n, err := setup.LoadNetwork(path)
	if err != nil {
		t.Fatal(err)
	}
	probe := func(up bool, use joint.Use, patience time.Duration) Probed {
		t.Helper()
		behind := wall{up: new(atomic.Bool), passed: w.passed}
		behind.up.Store(up)
		p := Probe{Network: n, Use: use, Kinds: testKinds, Patience: patience, block: func(c drive.Carrier) drive.Carrier { behind.Carrier = c; return behind }}
		got, err := p.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := probe(true, joint.UDP, 3*time.Second); got.Ready || got.Sent == 0 || got.Why == nil {
		t.Errorf("blocked: %+v", got)
	}
	if got := probe(true, joint.Only, patience); !got.Ready {
		t.Errorf("by another carrier: %+v", got)
	}
	if got := probe(false, joint.UDP, patience); !got.Ready || got.Heard == 0 {
		t.Errorf("control: %+v", got)
	}
}
