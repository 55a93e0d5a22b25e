package archtest

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// unexported are metrics of the catalogue that scenarios measure and no process
// exports yet.
var unexported = map[string]string{
	"transport_jitter_feedback_latency": "DF-014 measures it of machines in the simulator",
	"cover_drift_percent":               "SCL-032 measures it over all routes of a network",
}

var (
	ownMetric = regexp.MustCompile(`(?m)^name = "([^"]+)"\nowner = "nyx"$`)
	metricish = regexp.MustCompile(`[a-z][a-z0-9_]*`)
)

// A metric that the catalogue calls this system's own is one that a process exports:
// the source of some program writes its name, with the endings that Prometheus has, or
// a counter has it, which pages of metrics show as nyx_…_total.
func TestCatalogueMetricsAreExported(t *testing.T) {
	tr := repository(t)
	names, metrics := writtenNames(tr), 0
	for _, path := range tr.paths {
		if !strings.HasPrefix(path, "scenarios/") || !strings.HasSuffix(path, ".toml") {
			continue
		}
		for _, m := range ownMetric.FindAllStringSubmatch(read(t, tr.root, path), -1) {
			name := strings.ReplaceAll(m[1], ".", "_")
			_, excused := unexported[name]
			switch exported := isWritten(names, name); {
			case !exported && !excused:
				t.Errorf("%s has metric %s, which no process exports", path, name)
			case exported && excused:
				t.Errorf("metric %s is exported: take it out of unexported", name)
			}
			metrics++
		}
	}
	if metrics < 60 {
		t.Errorf("%d metrics of this system in the catalogue: it is not read", metrics)
	}
	if isWritten(names, "stream_session_opening_lag") { // the control: there is none
		t.Error("a name that nobody writes was found")
	}
}

// writtenNames are the words of all string literals of programs, the lab and tests
// apart.
func writtenNames(tr *tree) map[string]bool {
	names := map[string]bool{}
	for _, f := range tr.files {
		if f.test || f.ast == nil || under(f.pkg, "internal/lab") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				for _, w := range metricish.FindAllString(l.Value, -1) {
					names[w] = true
				}
			}
			return true
		})
	}
	return names
}

func isWritten(names map[string]bool, metric string) bool {
	for _, prefix := range []string{"", "nyx_"} {
		for _, ending := range []string{"", "_us", "_seconds", "_total", "_seconds_total"} {
			if names[prefix+metric+ending] {
				return true
			}
		}
	}
	return false
}
