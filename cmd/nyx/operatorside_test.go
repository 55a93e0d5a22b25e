//go:build linux

package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/bus"
	"github.com/nyxnet/nyx/internal/engine/etcd"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/registry"
)

// operated is the operator's side of a network: its processes, and all that they say and
// keep.
type operated struct {
	*testing.T
	dir, control, temporary string // of the network; of the control process's state; for temporary files
	processes               []*spoken
	metrics                 map[string]string // addresses, by name
}

// spoken is a process whose every word is kept: both streams, of all libraries in it.
type spoken struct {
	*exec.Cmd
	name  string
	mu    sync.Mutex
	said  bytes.Buffer
	grown chan struct{}
	ended chan struct{}
}

func (p *spoken) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said.Write(b)
	close(p.grown)
	p.grown = make(chan struct{})
	return len(b), nil
}

func (p *spoken) all() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.said.Bytes())
}

// start runs nyx with arguments as a process.
func (o *operated) start(name string, env []string, args ...string) *spoken {
	o.Helper()
	self, err := os.Executable()
	if err != nil {
		o.Fatal(err)
	}
	p := &spoken{Cmd: exec.Command(self, args...), name: name, grown: make(chan struct{}), ended: make(chan struct{})}
	p.Env = append(append(os.Environ(), asProgram+"=1", "TMPDIR="+o.temporary), env...)
	p.Stdout, p.Stderr = p, p
	if err := p.Start(); err != nil {
		o.Fatal(err)
	}
	go func() { defer close(p.ended); p.Wait() }()
	o.Cleanup(func() { p.Process.Kill(); <-p.ended })
	o.processes = append(o.processes, p)
	return p
}

// await waits for a line, and returns what its group matched.
func (o *operated) await(p *spoken, line *regexp.Regexp) string {
	o.Helper()
	limit := time.After(patience)
	for {
		p.mu.Lock()
		found, grown := line.FindSubmatch(p.said.Bytes()), p.grown
		p.mu.Unlock()
		if found != nil {
			return string(found[len(found)-1])
		}
		select {
		case <-grown:
		case <-p.ended:
			o.Fatalf("%s has ended:\n%s", p.name, p.all())
		case <-limit:
			o.Fatalf("%s does not say %v:\n%s", p.name, line, p.all())
		}
	}
}

// stop ends the processes, the last first.
func (o *operated) stop() {
	for i := len(o.processes) - 1; i >= 0; i-- {
		p := o.processes[i]
		p.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(patience):
			o.Fatalf("%s does not stop", p.name)
		}
	}
}

// logs is what the processes have said.
func (o *operated) logs() (out []place) {
	for _, p := range o.processes {
		out = append(out, place{"log", p.name, p.all()})
	}
	return out
}

// pages are the metrics of all processes.
func (o *operated) pages() (out []place) {
	for name, at := range o.metrics {
		r, err := http.Get("http://" + at + "/metrics")
		if err != nil {
			o.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK {
			o.Fatalf("metrics of %s: %s, %v", name, r.Status, err)
		}
		out = append(out, place{"metrics", name, b})
	}
	return out
}

// files are all files of the operator's side, byte by byte, and their names.
func (o *operated) files() (out []place) {
	for _, dir := range []string{o.dir, o.temporary} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil // it went while the processes run
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil && !os.IsNotExist(err) {
				return err
			}
			name, _ := filepath.Rel(dir, path)
			out = append(out, place{"file", name, append(b, name...)})
			return nil
		})
		if err != nil {
			o.Fatal(err)
		}
	}
	return out
}

// tables are the rows of all tables in all databases: a value that a file holds in
// pieces is whole here.
func (o *operated) tables() (out []place) {
	for _, f := range o.files() {
		if !bytes.HasPrefix(f.content, []byte("SQLite format 3\x00")) {
			continue
		}
		db, err := sql.Open("sqlite", filepath.Join(o.dir, f.name))
		if err != nil {
			o.Fatal(err)
		}
		for _, row := range o.rows(db, "SELECT name FROM sqlite_master WHERE type = 'table'") {
			var b bytes.Buffer
			for _, values := range o.rows(db, `SELECT * FROM "`+fmt.Sprint(row[0])+`"`) {
				for _, v := range values {
					if raw, ok := v.([]byte); ok {
						v = string(raw)
					}
					fmt.Fprintln(&b, v)
				}
			}
			out = append(out, place{"table", f.name + " " + fmt.Sprint(row[0]), b.Bytes()})
		}
		db.Close()
	}
	return out
}

func (o *operated) rows(db *sql.DB, query string) (all [][]any) {
	rows, err := db.Query(query)
	if err != nil {
		o.Fatal(err)
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			o.Fatal(err)
		}
		all = append(all, values)
	}
	if err := rows.Err(); err != nil {
		o.Fatal(err)
	}
	return all
}

// events are those of the compliance store, decrypted.
func (o *operated) events() []place {
	dir := filepath.Join(o.control, auditDir)
	keys, err := ledger.OpenFileKeys(filepath.Join(dir, auditKeysDir), false)
	if err != nil {
		o.Fatal(err)
	}
	store := &ledger.Store{Dir: dir, Wrapper: keys.Wrapper}
	end, err := store.End(o.Context())
	var all []byte
	if err == nil {
		err = store.Read(o.Context(), 0, end, func(e audit.Entry) error {
			all = audit.Append(all, &e.Event)
			return nil
		})
	}
	if err != nil || len(all) == 0 {
		o.Fatalf("%d bytes of events, %v", len(all), err)
	}
	return []place{{"event", "the log", all}}
}

// onBus does something with the bus of the control process, which does not run.
func (o *operated) onBus(do func(context.Context, *bus.Bus) error) {
	b, err := bus.Embedded(filepath.Join(o.control, busDir), "nyx", pipeline.Limits{})
	if err == nil {
		err = do(o.Context(), b)
		b.Close()
	}
	if err != nil {
		o.Fatal(err)
	}
}

// messages are those that wait on the bus, and those that it has buried.
func (o *operated) messages() []place {
	var all []byte
	o.onBus(func(ctx context.Context, b *bus.Bus) error {
		depth, err := b.Depth(ctx)
		for lane := range depth.Waiting {
			// What was on its way to the store when the process ended comes later: until
			// then it is in the bus's files, which are searched too.
			for some := []pipeline.Delivery{{}}; err == nil && len(some) > 0; {
				some, err = b.Receive(ctx, pipeline.Lane(lane), 1000)
				for _, d := range some {
					all = append(all, d.Payload...)
				}
			}
		}
		dead, deadErr := b.Dead(ctx, 1000)
		for _, d := range dead {
			all = append(append(all, d.Payload...), d.Reason...)
		}
		if err == nil {
			err = deadErr
		}
		return err
	})
	return []place{{"message", "the bus", all}}
}

// onSettings does something with the store of the configuration, of a control process
// that does not run.
func (o *operated) onSettings(do func(context.Context, *etcd.Store) error) {
	s, err := etcd.Embedded(filepath.Join(o.control, etcdDir), "/nyx/test/config/")
	if err == nil {
		err = do(o.Context(), s)
		s.Close()
	}
	if err != nil {
		o.Fatal(err)
	}
}

// settings are what the store of the configuration has.
func (o *operated) settings() []place {
	var all bytes.Buffer
	o.onSettings(func(ctx context.Context, s *etcd.Store) error {
		_, err := s.List(ctx, "", func(e registry.Entry) error {
			fmt.Fprintf(&all, "%s %s\n", e.Key, e.Value)
			return nil
		})
		return err
	})
	return []place{{"setting", "the configuration", all.Bytes()}}
}

// kept is all that is there once the processes have stopped.
func (o *operated) kept() (out []place) {
	for _, f := range []func() []place{o.logs, o.files, o.events, o.tables, o.messages, o.settings} {
		out = append(out, f()...)
	}
	return out
}

// answers are those of the governance API to an auditor who asks for everything.
func (o *operated) answers(who []string) (out []place) {
	for _, args := range [][]string{{"query", "--limit", "1000", "--json"}, {"tail", "-n", "1000"}} {
		out = append(out, place{"answer", args[0], o.nyx(append(args, who...))})
	}
	return out
}

// copies are an export and a report of the log of a control process that does not run.
func (o *operated) copies() (out []place) {
	dir := o.TempDir()
	log := []string{"--dir", filepath.Join(o.control, auditDir)}
	o.nyx(append([]string{"export", "--format", "jsonl", "--out", filepath.Join(dir, "export")}, log...))
	o.nyx(append([]string{"report", "--format", "json", "--out", filepath.Join(dir, "report")}, log...))
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) == 0 {
		o.Fatalf("there are no copies of the log, %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			o.Fatal(err)
		}
		out = append(out, place{"copy", strings.TrimPrefix(f, dir), b})
	}
	return out
}

func (o *operated) nyx(args []string) []byte {
	o.Helper()
	said, err := nyx(o.T, append([]string{"audit"}, args...)...)
	if err != nil {
		o.Fatalf("nyx audit %s: %v\n%s", strings.Join(args, " "), err, o.logs()[2].content)
	}
	return []byte(said)
}
