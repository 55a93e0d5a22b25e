//go:build unix

package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/daemon"
)

// An operator changes a network's configuration, looks at it, and takes it back; what
// cannot be had is refused in one line that names key and bound.
func TestConfigCommands(t *testing.T) {
	control := controlFiles(t)
	runControl(t, control)
	dir := t.TempDir()
	operator := filepath.Join(control, "keys", daemon.OperatorFileName)
	config := func(line string) (string, error) {
		return nyx(t, append(append([]string{"config"}, strings.Fields(line)...), "--operator", operator)...)
	}
	want := func(line string, texts ...string) {
		t.Helper()
		out, err := config(line)
		if err != nil {
			t.Errorf("nyx config %s: %v", line, err)
		}
		for _, text := range texts {
			if !strings.Contains(out, text) {
				t.Errorf("nyx config %s prints %q, without %q", line, out, text)
			}
		}
	}
	wrong := func(line, text string) {
		t.Helper()
		if out, err := config(line); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), text) {
			t.Errorf("nyx config %s: %q, %v; want %q", line, out, err, text)
		}
	}
	want("get", "revision 0", "admission.per_minute", "a number from 1 to 100000")
	want("set log.level=debug admission.per_minute=60 --comment why", "revision 1")
	want("get log.level", "debug")
	wrong("set admission.per_minute=0", `admission.per_minute: "0" is not a number from 1 to 100000`)
	wrong("set log.level=loud no.such=1", "no.such: there is no such key")
	wrong("set log.level", "is not KEY=VALUE")
	wrong("get no.such", "no.such: there is no such key")
	want("set log.level=warn --if-revision 1", "revision 2")
	wrong("set log.level=info --if-revision 1", "changed meanwhile")
	later := time.Now().AddDate(0, 10, 0).UTC().Format(time.DateOnly)
	want("set exit.ports=80 --at "+later+"T00:00:00Z", "revision 3, from "+later)
	want("history --from 2", "log.level=warn", "from "+later, "operator")
	wrong("set exit.ports=80 --at 2999-01-01T00:00:00Z", "at most 366 days ahead are taken")
	want("diff 1 2", "log.level", "→ warn")
	want("rollback 1", "revision 4")
	want("get log.level", "debug")
	wrong("rollback 99", "there is no revision 99")
	want("rollout admission.per_minute=90 --stages 10,50 --hold 1m", "revision 5 at 10 %")
	want("status", "revision 5", "trial", "later")
	wrong("set admission.per_minute=many --keep", "kept as a dead letter")
	out, err := config("status --json")
	var s daemon.SettingsStatus
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil || len(s.Dead) != 1 || len(s.Trials) != 1 || len(s.Waiting) != 1 || s.Revision != 5 {
		t.Fatalf("%+v, %v", s, err)
	}
	id := s.Dead[0].Change.ID.String()
	wrong("retry "+id+" admission.per_minute=lots", "is not a number from 1")
	want("retry " + id)
	if out, err := config("status --json"); err != nil || strings.Contains(out, id) {
		t.Errorf("a dead letter that was given up: %s, %v", out, err)
	}

	want("get", "revision 5")

	// Nobody without the operator file's token, and no other file.
	stranger := filepath.Join(dir, "stranger.json")
	f, err := daemon.LoadOperatorFile(operator)
	if err != nil {
		t.Fatal(err)
	}
	f.Token = strings.Repeat("0", len(f.Token))
	if err := f.Save(stranger); err != nil {
		t.Fatal(err)
	}
	operator = stranger
	wrong("set log.level=error", "for operators")
	wrong("status", "for operators")
	operator = filepath.Join(dir, "nosuch.json")
	wrong("get", "start nyx up, or name the file with --operator")
}
