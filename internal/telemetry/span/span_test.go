package span

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// whole is a trace with every step, each a millisecond after the one before.
func whole() Trace {
	t := Trace{{Trace: TraceID{1}, ID: ID{1}, Name: Probe, Process: "stream-1", Begin: noon, End: noon.Add(time.Second), Attributes: Attributes{Outcome: "ok", Level: "fast"}}}
	for i, name := range Sequence {
		at := noon.Add(time.Duration(i) * time.Millisecond)
		t = append(t, Span{Trace: TraceID{1}, ID: ID{2, byte(i)}, Parent: ID{1}, Name: name, Process: "stream-1", Begin: at, End: at.Add(time.Millisecond)})
	}
	return t
}

// What is missing of the sequence, or out of order, is named.
func TestMissing(t *testing.T) {
	if m := whole().Missing(); m != "" {
		t.Errorf("of a whole one: %q", m)
	}
	for i, name := range Sequence {
		less := slices.Delete(whole(), i+1, i+2)
		if m := less.Missing(); m != string(name)+" is missing" {
			t.Errorf("without %s: %q", name, m)
		}
	}
	turned := whole()
	turned[2].Begin, turned[3].Begin = turned[3].Begin, turned[2].Begin
	if m := turned.Missing(); !strings.HasPrefix(m, "POLICY_ACCEPT begins") {
		t.Errorf("out of order: %q", m)
	}
}

// Spans say what the lists have, and no more.
func TestSpansHoldNothingElse(t *testing.T) {
	for what, spoil := range map[string]func(*Span){
		"a name of its own":      func(s *Span) { s.Name = "visit example.com" },
		"an attribute of itself": func(s *Span) { s.Attributes = Attributes{"client": "127.0.0.1"} },
		"a long value":           func(s *Span) { s.Attributes = Attributes{Region: strings.Repeat("x", ValueMax+1)} },
		"no trace":               func(s *Span) { s.Trace = TraceID{} },
		"an end before it":       func(s *Span) { s.End = s.Begin.Add(-1) },
		"a long process":         func(s *Span) { s.Process = strings.Repeat("x", ValueMax+1) },
	} {
		s := whole()[0]
		if s.Validate() != nil {
			t.Fatal("the example is none")
		}
		if spoil(&s); s.Validate() == nil {
			t.Errorf("a span with %s is taken", what)
		}
	}
}

// What is kept is read again, from several files; a full file is put aside, and a line cut
// off at the end is left.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "stream-1", FileName)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	var failed error
	f, err := Open(path, func(err error) { failed = err })
	if err != nil {
		t.Fatal(err)
	}
	f.max = 300 // two spans
	for _, s := range whole()[:3] {
		f.Record(s)
	}
	f.Record(Span{Name: "none"})
	if f.Close(); failed == nil {
		t.Error("a span without a name is kept")
	}
	if info, err := os.Stat(aside(path)); err != nil || info.Size() < 300 {
		t.Errorf("the full file is not aside: %v", err)
	}
	cut, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cut.WriteString(`{"trace":"01`)
	cut.Close()
	spans, broken, err := Read(dir)
	if err != nil || len(spans) != 3 || broken != 0 {
		t.Fatalf("%d spans, %d broken lines, %v", len(spans), broken, err)
	}
	traces := Traces(append(spans, spans...)) // copies count once
	if len(traces) != 1 || len(traces[0]) != 3 || traces[0][0].Attributes[Level] != "fast" || !traces[0][0].Begin.Equal(noon) {
		t.Errorf("read again: %+v", traces)
	}
	none := "{\"secret\":1}\n{}\n" + strings.Repeat("x", 3*lineMax) + "\n"
	if err := os.WriteFile(path, []byte(none), 0o600); err != nil {
		t.Fatal(err)
	}
	if spans, broken, err := Read(path); err != nil || len(spans) != 0 || broken != 3 {
		t.Errorf("of what are no spans: %d, %d broken lines, %v", len(spans), broken, err)
	}
}

// fullDisk takes so many bytes more.
type fullDisk struct {
	io.WriteCloser
	room int
}

func (d *fullDisk) Write(b []byte) (n int, err error) {
	n, err = d.WriteCloser.Write(b[:min(len(b), d.room)])
	if d.room -= n; err == nil && n < len(b) {
		err = syscall.ENOSPC
	}
	return n, err
}

// Half a line, which a full disk leaves or a process that died, costs its own span and no
// other one: what is written later is read.
func TestHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	open := func() *File {
		f, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	read := func(broken int, want ...Span) {
		t.Helper()
		got, passed, err := Read(path)
		same := func(a, b Span) bool { return a.ID == b.ID }
		if err != nil || passed != broken || !slices.EqualFunc(got, want, same) {
			t.Errorf("%d spans, %d lines passed over, %v; want %d and %d", len(got), passed, err, len(want), broken)
		}
	}
	all, f := whole(), open()
	f.Record(all[0])
	disk := &fullDisk{f.f, 100}
	f.f = disk
	f.Record(all[1]) // half of it
	f.Record(all[2]) // nothing
	disk.room = 1 << 20
	f.Record(all[3])
	read(1, all[0], all[3])
	disk.room = 50
	f.Record(all[4])
	f.Close() // it died
	f = open()
	f.Record(all[5])
	f.Close()
	read(2, all[0], all[3], all[5])
}

// A request names its span, and what is no name is none.
func TestContext(t *testing.T) {
	c := Context{TraceID{1, 15: 2}, ID{3, 7: 4}}
	r, err := http.NewRequestWithContext(With(t.Context(), c), http.MethodGet, "http://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if Inject(r); Extract(r) != c {
		t.Errorf("%q is %+v", r.Header.Get(Header), Extract(r))
	}
	bare, _ := http.NewRequestWithContext(With(t.Context(), Context{}), http.MethodGet, "http://x/", nil)
	if Inject(bare); bare.Header.Get(Header) != "" {
		t.Error("a request without a span names one")
	}
	for _, no := range []string{"", "00-1-2-01", strings.Repeat("0", 55), "00-" + strings.Repeat("g", 32) + "-0000000000000000-01"} {
		if r.Header.Set(Header, no); Extract(r).Valid() {
			t.Errorf("%q names a span", no)
		}
	}
}

// The tree has a line for each span, below what it is a part of.
func TestTree(t *testing.T) {
	trace := whole()
	trace[3].Parent = trace[2].ID
	trace[3].Process = "control-1"
	var b strings.Builder
	Trace(trace[:4]).Write(&b)
	want := []string{"trace 01000000000000000000000000000000, 2026-11-23 12:00:00.000 UTC", "probe ", "├─ SESSION_INIT ", "└─ POLICY_CHECK ", "   └─ POLICY_ACCEPT "}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines:\n%s", len(lines), &b)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("line %d is %q, want %q…", i, lines[i], want[i])
		}
	}
	if !strings.HasSuffix(lines[4], "+2.000 ms     1.000 ms  control-1") {
		t.Errorf("the last line is %q", lines[4])
	}
}
