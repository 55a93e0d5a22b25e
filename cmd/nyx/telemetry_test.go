package main

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/usage"
)

// typed runs a command as a process whose user has a home of its own.
func typed(t *testing.T, home string, args ...string) (out string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "XDG_CONFIG_HOME="+home, "HOME="+home)
	b, err := cmd.Output()
	return string(b), err
}

// Commands leave nothing behind and tell nobody until the user has said so; then they are
// counted by name and by how they ended, and what is sent by hand is what was shown. When it
// is off, nothing is left.
func TestCommandsTellOfThemselvesIfTheyMay(t *testing.T) {
	home := t.TempDir()
	got := make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- string(b)
	}))
	defer s.Close()
	run := func(args ...string) string {
		t.Helper()
		out, err := typed(t, home, args...)
		if err != nil {
			t.Fatalf("nyx %q: %v", args, err)
		}
		return out
	}
	run("slo", "list")
	if out := run("telemetry", "show"); !strings.Contains(out, "tells nothing of its use") {
		t.Errorf("at first: %q", out)
	}
	if left, _ := filepath.Glob(filepath.Join(home, "nyx", "*")); len(left) != 0 {
		t.Errorf("left by commands of which nothing may be told: %q", left)
	}
	run("telemetry", "on", "--url", s.URL)
	run("slo", "list")
	if _, err := typed(t, home, "trace", "--of", "planted.example"); err == nil {
		t.Error("a command that fails did not")
	}
	if _, err := typed(t, home, "__complete", "trace", ""); err != nil {
		t.Error(err)
	}
	var shown shownUsage
	if err := json.Unmarshal([]byte(run("telemetry", "show", "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	counted := map[string]usage.Status{}
	for _, c := range shown.Report.Counts {
		counted[c.Command] = c.Status
	}
	if len(counted) != 3 || counted["nyx slo list"] != usage.OK || counted["nyx trace"] != usage.Failed || counted["nyx telemetry on"] != usage.OK || !shown.On || shown.URL != s.URL || shown.Next == nil {
		t.Errorf("%+v of %+v", counted, shown)
	}
	if len(got) != 0 {
		t.Error("sent before it was due")
	}
	err := filepath.WalkDir(filepath.Join(home, "nyx"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "slo list") || strings.Contains(string(b), "planted") {
			t.Errorf("%s can be read: %q", path, b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	run("telemetry", "send")
	var sent usage.Report
	if body := <-got; json.Unmarshal([]byte(body), &sent) != nil || sent.Backlog != 4 || strings.Contains(body, "planted") { // and the show
		t.Errorf("sent %s", body)
	}
	run("telemetry", "off")
	run("slo", "list")
	if left, _ := filepath.Glob(filepath.Join(home, "nyx", "*")); len(left) != 0 || len(got) != 0 {
		t.Errorf("after it is off: %q, %d sent", left, len(got))
	}
}
