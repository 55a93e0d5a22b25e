package lab

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEvidenceSurvivesItsFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "evidence")
	if all, err := ReadEvidence(dir); err != nil || len(all) != 0 {
		t.Errorf("no directory: %v, %v", all, err)
	}
	e := run(t, labOf(t, pings), Options{Seed: 9})
	path, err := e.Write(dir)
	if err != nil || filepath.Base(path) != "scl-007-seed9-scale0.5.json" {
		t.Fatalf("%s, %v", path, err)
	}
	if _, err := e.Write(dir); err != nil {
		t.Errorf("writing again: %v", err)
	}
	all, err := ReadEvidence(dir)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d files, %v", len(all), err)
	}
	a, _ := json.Marshal(e)
	b, _ := json.Marshal(all[0])
	if !bytes.Equal(a, b) {
		t.Errorf("read %s, wrote %s", b, a)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("%d files left", len(left))
	}
	for text, want := range map[string]string{"{": "is not evidence", `{"format": 7}`: "has format 7"} {
		if err := os.WriteFile(filepath.Join(dir, "x-seed1.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadEvidence(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if _, err := e.Write(filepath.Join(dir, "x-seed1.json")); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func TestLedgerTicksOnlyWhatEvidenceShows(t *testing.T) {
	l := labOf(t, pings, `title = "Synthetic"`, `title = "Synthetic | <b>"`)
	row := func(all ...*Evidence) Row { return l.NewLedger(all).Rows[0] }
	ticks := func(r Row) (s string) {
		for _, c := range r.Checks {
			if c.Done {
				s += "x"
			} else {
				s += "."
			}
		}
		return s
	}
	if r := row(); ticks(r) != "x....." || r.Verdict != VerdictNone {
		t.Errorf("without evidence: %s %s", ticks(r), r.Verdict)
	}
	good := run(t, l, Options{Seed: 1})
	if r := row(good); ticks(r) != "xxxxxx" || r.Evidence != good.FileName() {
		t.Errorf("with evidence: %s", ticks(r))
	}
	stale := *good
	stale.Digest = "another"
	if r := row(&stale); ticks(r) != "xx.xxx" {
		t.Errorf("evidence of another entry: %s", ticks(r))
	}
	small := run(t, l, Options{Seed: 1, Scale: 0.1})
	if r := row(small); ticks(r) != "xxxx.x" || r.done() || small.Passed() || !small.Held() {
		t.Errorf("too small a sample: %s %s", ticks(r), r.Verdict)
	}
	if r := row(good, run(t, l, Options{Seed: 1, SkipControl: true})); ticks(r) != "xxxxx." {
		t.Errorf("the latest without control: %s", ticks(r))
	}

	g := l.NewLedger([]*Evidence{good})
	var md, html, js bytes.Buffer
	for _, err := range []error{g.WriteMarkdown(&md), g.WriteHTML(&html), g.WriteJSON(&js)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"1 of 100 scenarios are done", "- not in the catalogue (99): DF-001, DF-002, ", `Synthetic \| &lt;b&gt;`, "`success.ratio`", "- [x] without its protection",
		"[scl-007-seed1-scale0.5.json](scl-007-seed1-scale0.5.json), 20", "mean 1 of ", "Repeat: `nyx scenario run SCL-007 --seed 1 --scale 0.5`", "ratio of success_ratio is 100 %"} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("Markdown lacks %q:\n%s", want, md.String())
		}
	}
	if h := html.String(); !strings.Contains(h, `class="met"`) || !strings.Contains(h, "not in the catalogue (99)") || strings.Contains(h, "<b>") {
		t.Errorf("HTML:\n%s", h)
	}
	var back Ledger
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || back.Done != 1 {
		t.Errorf("JSON: %v, %+v", err, back)
	}
	gap := func(all ...*Evidence) string {
		if g := l.NewLedger(all); len(g.Gaps) > 0 {
			return g.Gaps[0].What
		}
		return ""
	}
	if got := []string{gap(), gap(&stale), gap(good)}; !slices.Equal(got, []string{"not run", "met, but the catalogue has changed since", "not in the catalogue"}) {
		t.Errorf("what is not there: %q", got)
	}
	l.Catalogue.Scenarios[0].Metric[0].Owner = "k6"
	if r := row(); r.Metrics[0] != "success.ratio (k6)" {
		t.Errorf("metric of another product written %q", r.Metrics[0])
	}
}

func TestQuantilesAreMeasuredValues(t *testing.T) {
	s := &series{}
	s.samples = append(s.samples, 5, 1, 4, 2, 3)
	for st, want := range map[Stat]float64{"p50": 3, "p95": 5, "p99": 5, "min": 1, "max": 5, "mean": 3, "count": 5, "p90": 5} {
		if got, err := s.stat(st); err != nil || got != want {
			t.Errorf("%s is %v, %v; want %v", st, got, err, want)
		}
	}
	if _, err := s.stat("ratio"); err == nil {
		t.Error("samples have a ratio")
	}
	if _, err := (&series{part: 1, whole: 2}).stat("p50"); err == nil {
		t.Error("a ratio has a median")
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 1, 300).Draw(t, "samples")
		q := float64(rapid.IntRange(0, 100).Draw(t, "per cent")) / 100
		s := &series{samples: slices.Clone(v)}
		got := s.quantile(q)
		below := 0
		for _, x := range v {
			if x <= got {
				below++
			}
		}
		if !slices.Contains(v, got) || float64(below) < q*float64(len(v))-1e-6 {
			t.Fatalf("quantile %v of %v is %v", q, v, got)
		}
	})
}

// Known values of Wilson's interval, and its shape.
func TestWilsonInterval(t *testing.T) {
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-3 }
	if lo, hi := wilson(1, 10); !near(lo, 0.0179) || !near(hi, 0.4042) {
		t.Errorf("1 of 10: %v to %v", lo, hi)
	}
	if lo, hi := wilson(0, 10); lo != 0 || !near(hi, 0.2775) {
		t.Errorf("0 of 10: %v to %v", lo, hi)
	}
	if lo, hi := wilson(10, 10); !near(hi, 1) || !near(lo, 0.7225) {
		t.Errorf("10 of 10: %v to %v", lo, hi)
	}
}

func TestOperators(t *testing.T) {
	for _, c := range []struct {
		op                 Op
		below, equal, more bool
	}{{"<=", true, true, false}, {"<", true, false, false}, {">=", false, true, true}, {">", false, false, true}, {"==", false, true, false}} {
		if c.op.holds(1, 2) != c.below || c.op.holds(2, 2) != c.equal || c.op.holds(3, 2) != c.more || !c.op.valid() {
			t.Errorf("%s compares wrongly", c.op)
		}
	}
	if got := quantity(0.5, "index") + " " + quantity(3, "per_s") + " " + quantity(1234.5678, "ms"); got != "0.5 3/s 1234.6 ms" {
		t.Errorf("quantities are written %q", got)
	}
}

// TestAtMost compares the chance with sums by hand, and with the rule for samples of
// which none fails.
func TestAtMost(t *testing.T) {
	for _, c := range []struct {
		k, n uint64
		p    float64
		want float64
	}{
		{0, 890, 0.0005, 0.6407}, {0, 890, 0.001, 0.4105}, {1, 3, 0.5, 0.5}, {2, 10, 0.1, 0.9298}, {3, 3, 0.2, 1},
		{40, 1000, 0.05, 0.0806}, {500_000, 1_000_000, 0.5, 0.5004},
	} {
		if got := atMost(c.k, c.n, c.p); math.Abs(got-c.want) > 1e-4 {
			t.Errorf("at most %d of %d at %v: %.5f, want %v", c.k, c.n, c.p, got, c.want)
		}
	}
	for _, p := range []float64{0.0005, 0.002, 0.01, 0.05, 0.9} {
		n := samplesFor(p)
		if atMost(0, n, p) > chanceMax || n > 1 && atMost(0, n-1, p) <= chanceMax {
			t.Errorf("%d samples for %v", n, p)
		}
	}
}
