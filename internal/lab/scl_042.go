package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/usage"
)

// reports is who collects what command lines tell: it comes and goes, at one address.
type reports struct {
	addr   string
	server *http.Server // nil: it is away
	taken  uint64       // commands
}

func (c *reports) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var report usage.Report
	if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, n := range report.Counts {
		c.taken += uint64(n.N)
	}
}

func (c *reports) come() error {
	ln, err := net.Listen("tcp", c.addr)
	if err != nil {
		return fmt.Errorf("the collector: %w", err)
	}
	c.addr, c.server = ln.Addr().String(), &http.Server{Handler: c}
	go c.server.Serve(ln)
	return nil
}

func (c *reports) leave() {
	c.server.Close()
	c.server = nil
}

// workplace is a user who types commands, by a clock of the scenario's.
type workplace struct {
	*Run
	dir  string
	draw *prng.Stream
	now  time.Time
	to   reports
	// typed is how many commands have ended; tried, in the control, whether anything was
	// sent in vain: then nothing is sent any more.
	typed, written uint64
	tried          bool
}

// commandTelemetry is SCL-042: who collects the telemetry of a command line is away for a
// day, again and again. What commands do at their end is what the program does.
func commandTelemetry(r *Run) error {
	dir, err := os.MkdirTemp("", "nyx-lab-usage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := &workplace{Run: r, dir: filepath.Join(dir, "telemetry"), draw: r.Source("commands").Stream("typed"), now: time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC), to: reports{addr: "127.0.0.1:0"}}
	begun := w.now
	if err := w.to.come(); err != nil {
		return err
	}
	defer func() {
		if w.to.server != nil {
			w.to.leave()
		}
	}()
	if err := w.unasked(); err != nil {
		return err
	}
	if err := usage.Allow(w.dir, usage.Settings{URL: "http://" + w.to.addr}); err != nil {
		return err
	}
	for range int(r.Param("toggles")) {
		if err := w.toggle(); err != nil {
			return err
		}
	}
	r.Tally("commands_lost", w.typed-min(w.typed, w.to.taken), w.typed)
	r.Note("%d commands in %v of virtual time, of which the collector has %d", w.typed, w.now.Sub(begun), w.to.taken)
	return nil
}

// unasked has commands end where the user has said nothing.
func (w *workplace) unasked() error {
	if !w.Protected {
		if err := usage.Allow(w.dir, usage.Settings{URL: "http://" + w.to.addr}); err != nil {
			return err
		}
	}
	for range 10 {
		if _, err := usage.Ended(context.Background(), w.dir, w.draw, w.now, w.typing()); err != nil && !errors.Is(err, usage.ErrOff) {
			return err
		}
		_, err := os.Stat(w.dir)
		w.Trial("kept_unasked", err == nil)
	}
	return usage.Forbid(w.dir)
}

// toggle is hours with the collector, a day without, and what follows until the backlog is
// told.
func (w *workplace) toggle() error {
	if err := w.work(w.Duration("online_hours", time.Hour)); err != nil {
		return err
	}
	w.to.leave()
	if err := w.work(w.Duration("offline_hours", time.Hour)); err != nil {
		return err
	}
	if err := w.search(); err != nil {
		return err
	}
	if err := w.to.come(); err != nil {
		return err
	}
	back := w.now
	for end := back.Add(w.Duration("give_up_hours", time.Hour)); w.to.taken < w.typed && w.now.Before(end); {
		if err := w.command(); err != nil {
			return err
		}
	}
	w.Observe("cli_telemetry_flush", w.now.Sub(back).Minutes())
	return nil
}

func (w *workplace) work(hours time.Duration) error {
	for end := w.now.Add(hours); w.now.Before(end); {
		if err := w.command(); err != nil {
			return err
		}
	}
	return nil
}

// planted are the commands that are typed, which nobody may read on disk.
var planted = []string{"nyx up", "nyx status", "nyx audit query", "nyx config set", "nyx scenario run"}

func (w *workplace) typing() usage.Use {
	return usage.Use{Command: planted[w.draw.IntN(len(planted))], Status: []usage.Status{usage.OK, usage.OK, usage.OK, usage.Failed}[w.draw.IntN(4)], Took: time.Duration(w.draw.IntN(int(2 * time.Minute)))}
}

// command lets the time pass until a command has ended, and has it told.
func (w *workplace) command() error {
	mean := float64(time.Hour) / (w.Param("commands_per_hour") * w.Scale)
	w.now = w.now.Add(time.Duration(1 + w.draw.IntN(int(2*mean))))
	w.typed++
	u := w.typing()
	if w.tried {
		s, err := usage.Open(w.dir, w.draw, w.now)
		if err == nil {
			err = errors.Join(s.Add(w.now, u), w.plain(u))
		}
		return err
	}
	_, err := usage.Ended(context.Background(), w.dir, w.draw, w.now, u)
	if err != nil && w.to.server == nil {
		w.tried = !w.Protected
		return nil // what was not taken is kept
	}
	return err
}

// plain keeps a command as it is.
func (w *workplace) plain(u usage.Use) error {
	w.written++
	return os.WriteFile(filepath.Join(w.dir, fmt.Sprintf("%d.json", w.written)), fmt.Appendf(nil, "%+v", u), 0o600)
}

// search looks through what is kept for what was typed, and says how much that is.
func (w *workplace) search() error {
	s, err := usage.Open(w.dir, w.draw, w.now)
	if err != nil {
		return err
	}
	report, err := s.Report(w.now)
	if err != nil {
		return err
	}
	w.Observe("cli_telemetry_backlog", float64(report.Backlog))
	return filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		found := false
		for _, p := range planted {
			found = found || bytes.Contains(b, []byte(p))
		}
		w.Trial("readable_on_disk", found)
		return err
	})
}
