package servers

import (
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/nyxnet/nyx/internal/telemetry"
)

// line is one that came, with the process that it is of.
type line struct {
	process string
	*logs.LogRecord
}

func (l line) n() int64 {
	for _, a := range l.Attributes {
		if a.Key == "n" {
			return int64(a.Value.GetDoubleValue()) + a.Value.GetIntValue()
		}
	}
	return -1
}

// logEnd is where a Collector sends lines: it takes them, or refuses all.
type logEnd struct {
	*httptest.Server
	t       *testing.T
	lines   chan line
	full    atomic.Bool
	refused chan struct{}
}

func newLogEnd(t *testing.T) *logEnd {
	e := &logEnd{t: t, lines: make(chan line, 1<<12), refused: make(chan struct{}, 1<<12)}
	e.Server = httptest.NewServer(http.HandlerFunc(e.take))
	t.Cleanup(e.Close)
	return e
}

func (e *logEnd) take(w http.ResponseWriter, q *http.Request) {
	if e.full.Load() {
		http.Error(w, "no room", http.StatusServiceUnavailable)
		e.refused <- struct{}{}
		return
	}
	z, err := gzip.NewReader(q.Body)
	if err != nil {
		e.t.Error(err)
		return
	}
	b, err := io.ReadAll(z)
	m := &collector.ExportLogsServiceRequest{}
	if err != nil || proto.Unmarshal(b, m) != nil {
		e.t.Errorf("%s is no request of logs: %v", q.URL, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	for _, r := range m.ResourceLogs {
		of := map[string]string{}
		for _, a := range r.Resource.Attributes {
			of[a.Key] = a.Value.GetStringValue()
		}
		if of["service.name"] != "nyx" {
			e.t.Errorf("lines of the service %q", of["service.name"])
		}
		for _, s := range r.ScopeLogs {
			for _, one := range s.LogRecords {
				e.lines <- line{of["service.instance.id"], one}
			}
		}
	}
}

// want waits for the lines from number a to b, each once and in any order, and no other.
func (e *logEnd) want(a, b int64) (all []line) {
	e.t.Helper()
	seen := map[int64]bool{}
	for late := time.After(time.Minute); int64(len(seen)) < b-a; {
		select {
		case l := <-e.lines:
			if n := l.n(); n < a || n >= b || seen[n] {
				e.t.Fatalf("line %d came, which is not of those from %d to %d, or for a second time", n, a, b)
			}
			seen[l.n()], all = true, append(all, l)
		case <-late:
			e.t.Fatalf("%d of %d lines came", len(seen), b-a)
		}
	}
	return all
}

// The logs of Nyx, as it writes them, go through the Collector as it is shipped: with
// message, level, time and process, over the turn of a file; what came before the end of a
// Collector does not come again, and what it had taken and not passed on when it was
// killed comes after all.
func TestRealCollectorReadsLogs(t *testing.T) {
	program, err := FindCollector()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := telemetry.OpenFiles(filepath.Join(dir, "logs", "stream-1.log"), telemetry.BudgetLeast)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	log, n := slog.New(slog.NewJSONHandler(files, nil)), int64(0)
	write := func(lines int) {
		for range lines {
			log.Warn("a part lacks room", "n", n, "filler", strings.Repeat("x", 500))
			n++
		}
	}
	e := newLogEnd(t)
	run := func() *Collector {
		c, err := StartCollector(program, dir, To{Logs: e.URL}, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				c.process.cmd.Process.Kill()
			}
		})
		return c
	}
	c := run()
	write(300) // a file turns at 100 KiB: the first lines are in stream-1.log.1
	for _, l := range e.want(0, 300) {
		if age := time.Since(time.Unix(0, int64(l.TimeUnixNano))); l.process != "stream-1" || l.Body.GetStringValue() != "a part lacks room" || l.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_WARN || age < 0 || age > time.Minute {
			t.Fatalf("%s: %v", l.process, l.LogRecord)
		}
	}
	if _, err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	write(10)
	c = run()
	e.want(300, 310)
	e.full.Store(true)
	write(10)
	<-e.refused
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	e.full.Store(false)
	c = run()
	e.want(310, 320)
	if _, err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case l := <-e.lines:
		t.Errorf("line %d came again", l.n())
	default:
	}
}
