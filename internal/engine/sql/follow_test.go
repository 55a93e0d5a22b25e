package sql

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// growing is a log that grows while it is followed.
type growing struct {
	mu    sync.Mutex
	log   memoryLog
	grown chan struct{}
}

func newGrowing(many int) *growing {
	g := &growing{grown: make(chan struct{})}
	g.log.add(many)
	return g
}

func (g *growing) add(many int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log.add(many)
	close(g.grown)
	g.grown = make(chan struct{})
}

func (g *growing) snapshot() memoryLog {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.log
}

func (g *growing) Begin() (int64, error) { l := g.snapshot(); return l.Begin() }

func (g *growing) Read(ctx context.Context, from, before int64, each func(audit.Entry) error) error {
	l := g.snapshot()
	return l.Read(ctx, from, before, each)
}

func (g *growing) Size() int64 { return int64(len(g.snapshot().entries)) }

func (g *growing) Wait(ctx context.Context, after int64) (int64, error) {
	for {
		g.mu.Lock()
		size, grown := int64(len(g.log.entries)), g.grown
		g.mu.Unlock()
		if size > after {
			return size, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return size, ctx.Err()
		}
	}
}

// said hands on the messages of a follower.
type said struct {
	slog.Handler
	lines chan string
}

func (s said) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool { r.Message += " " + a.String(); return true })
	s.lines <- r.Message
	return nil
}

// wantLine waits for a line that a follower logs.
func wantLine(t *testing.T, lines chan string, want string) {
	t.Helper()
	select {
	case line := <-lines:
		if !strings.Contains(line, want) {
			t.Errorf("it says %q, not %q", line, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not say %q", want)
	}
}

func follow(t *testing.T, where, name string, g *growing) (*Follower, chan string) {
	t.Helper()
	lines := make(chan string, 100)
	f := Follow(FollowConfig{Where: where, Name: name, Source: g, Log: slog.New(said{slog.Default().Handler(), lines})})
	t.Cleanup(func() { f.Close() })
	return f, lines
}

// wantFollowed checks that a query finds all that the log has at that moment, and that
// the index equals it.
func wantFollowed(t *testing.T, f *Follower, g *growing) {
	t.Helper()
	seqs, cursor := 0, ""
	for {
		p, err := f.Query(t.Context(), Query{Limit: LimitMax, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		seqs += len(p.Entries)
		if cursor = p.Cursor; cursor == "" {
			break
		}
	}
	if int64(seqs) != g.Size() {
		t.Errorf("a query finds %d of %d entries", seqs, g.Size())
	}
	f.mu.Lock()
	x := f.index
	f.mu.Unlock()
	if err := x.Compare(t.Context(), g); err != nil {
		t.Error(err)
	}
}

// TestFollow: an index follows its log, also over a restart, and answers with what the
// log has at that moment.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	g := newGrowing(3000)
	f, _ := follow(t, path, "a", g)
	wantFollowed(t, f, g)
	for range 5 {
		g.add(7)
		wantFollowed(t, f, g)
	}
	figures := f.Figures()
	if figures.Behind != 0 || figures.Lag != 0 || figures.Replay == 0 || figures.Asked.Count == 0 || figures.Waited.Count != figures.Asked.Count {
		t.Errorf("figures: %+v", figures)
	}
	f.Close()
	g.add(10)
	if figures := f.Figures(); figures.Behind != 10 || figures.Lag == 0 {
		t.Errorf("%d behind for %v, of 10 that came when it had ended", figures.Behind, figures.Lag)
	}
	again, _ := follow(t, path, "a", g)
	wantFollowed(t, again, g)
	if n := again.Figures().Rebuilt; n != 0 {
		t.Errorf("built anew %d times", n)
	}
}

// TestFollowPostgres: the same, in a database by URL; that of another log is left alone.
func TestFollowPostgres(t *testing.T) {
	address := startPostgres(t, "-c", "default_transaction_isolation=serializable")
	g := newGrowing(3000)
	f, _ := follow(t, address, "a", g)
	wantFollowed(t, f, g)
	_, lines := follow(t, address, "b", newGrowing(5))
	wantLine(t, lines, "of another log, \"a\"; name another database")
	g.add(5)
	wantFollowed(t, f, g)
	f.Close()
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("ALTER TABLE audit_events DROP COLUMN org"); err != nil {
		t.Fatal(err)
	}
	g.add(5)
	f, _ = follow(t, address, "a", g)
	wantFollowed(t, f, g)
	if n := f.Figures().Rebuilt; n != 1 {
		t.Errorf("built anew %d times", n)
	}
}

// TestFollowRebuilds: an index that is missing, damaged, of another log or not what the
// log holds is built anew, and a query finds what the log has.
func TestFollowRebuilds(t *testing.T) {
	change := func(statement string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			x, err := SQLite(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			if _, err := x.db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, c := range map[string]struct {
		damage func(*testing.T, string)
		name   string
		later  bool // it is found by comparing, after the index was opened
	}{
		"missing": {func(t *testing.T, path string) { os.Remove(path) }, "a", false},
		"no database": {func(t *testing.T, path string) {
			os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600)
		}, "a", false},
		"of another log":      {func(*testing.T, string) {}, "b", false},
		"without a table":     {change("DROP TABLE audit_events"), "a", true},
		"of an older version": {change("ALTER TABLE audit_position DROP COLUMN log"), "a", false},
		"a row is missing":    {change("DELETE FROM audit_events WHERE seq = 17"), "a", true},
		"a row is changed":    {change("UPDATE audit_events SET event = (SELECT event FROM audit_events WHERE seq = 18) WHERE seq = 17"), "a", true},
		"it is ahead":         {change("UPDATE audit_position SET next = 5000"), "a", true},
		"a torn page": {func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := len(b) / 2; i < len(b)/2+20_000; i++ {
				b[i] = 0xa5
			}
			os.WriteFile(path, b, 0o600)
		}, "a", true},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index.db")
			g := newGrowing(2000)
			f, _ := follow(t, path, "a", g)
			wantFollowed(t, f, g)
			f.Close()
			c.damage(t, path)
			g.add(100)
			f, lines := follow(t, path, c.name, g)
			if c.later {
				wantLine(t, lines, "built anew")
			}
			wantFollowed(t, f, g)
		})
	}
}

// TestFollowDown: while an index cannot be opened the log goes on, queries are told so,
// and nothing is missing when it is there again.
func TestFollowDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nowhere", "index.db")
	g := newGrowing(10)
	f, lines := follow(t, path, "a", g)
	wantLine(t, lines, "is behind")
	g.add(10) // nobody waits
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Query(ctx, Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a query of an index that is down: %v", err)
	}
	if figures := f.Figures(); figures.Behind != 20 || figures.Faults == 0 || figures.Why == "" {
		t.Errorf("figures: %+v", figures)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	wantFollowed(t, f, g)
}

// TestFollowSpoiled: an index that turns out to be damaged by a query is built anew.
func TestFollowSpoiled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	g := newGrowing(100)
	f, _ := follow(t, path, "a", g)
	wantFollowed(t, f, g)
	if _, err := f.index.db.Exec("UPDATE audit_events SET event = x'01' WHERE seq = 17"); err != nil {
		t.Fatal(err)
	}
	if p, err := f.Query(t.Context(), Query{}); !errors.Is(err, ErrBehind) {
		t.Errorf("a query that meets a row that is none: %d entries, %v", len(p.Entries), err)
	}
	wantFollowed(t, f, g)
	if n := f.Figures().Rebuilt; n != 1 {
		t.Errorf("built anew %d times", n)
	}
}

// TestFollowForgets: what retention removes goes from an index although its log does not
// grow.
func TestFollowForgets(t *testing.T) {
	g := newGrowing(100)
	f, _ := follow(t, filepath.Join(t.TempDir(), "index.db"), "a", g)
	wantFollowed(t, f, g)
	g.mu.Lock()
	g.log.begin = 40
	g.mu.Unlock()
	if err := f.Forget(t.Context(), 40); err != nil {
		t.Fatal(err)
	}
	if p, err := f.Query(t.Context(), Query{Limit: LimitMax}); err != nil || len(p.Entries) != 60 || p.Entries[0].Seq != 40 {
		t.Errorf("%d entries are found, %v", len(p.Entries), err)
	}
}

// TestBulk: an index that is built from so many entries that it gets its secondary
// indexes last has all of them in the end.
func TestBulk(t *testing.T) {
	x, err := SQLite(t.Context(), filepath.Join(t.TempDir(), "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	l := &memoryLog{}
	l.add(bulk + 3*batch)
	wantEqual(t, x, l, bulk+3*batch)
	var many int
	if err := x.db.QueryRow("SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND name LIKE 'audit_events_%'").Scan(&many); err != nil || many != len(secondary) {
		t.Errorf("%d secondary indexes, want %d (%v)", many, len(secondary), err)
	}
}

// BenchmarkProject is how many entries a second an empty index takes.
func BenchmarkProject(b *testing.B) {
	b.Run("SQLite", func(b *testing.B) {
		project(b, func() (*Index, error) { return SQLite(b.Context(), filepath.Join(b.TempDir(), "index.db")) })
	})
	b.Run("Postgres", func(b *testing.B) {
		address := startPostgres(b)
		project(b, func() (*Index, error) { return Postgres(b.Context(), address) })
	})
}

func project(b *testing.B, open func() (*Index, error)) {
	l := &memoryLog{}
	l.add(200_000)
	var took time.Duration
	for b.Loop() {
		b.StopTimer()
		x, err := open()
		if err == nil {
			err = x.Drop(b.Context())
		}
		if err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		b.StartTimer()
		if _, err := x.Project(b.Context(), l); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		took += time.Since(begun)
		x.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(len(l.entries)*b.N)/took.Seconds(), "events/s")
}
