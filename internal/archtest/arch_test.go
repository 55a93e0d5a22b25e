package archtest

import (
	"fmt"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rules are all that is checked on source alone.
var rules = []struct {
	name  string
	check func(*tree) []violation
}{
	{"Ranks", checkRanks},
	{"Cores", checkCores},
	{"Crypto", checkCrypto},
	{"Proxy", checkProxy},
	{"Traces", checkTraces},
	{"PureGo", checkPureGo},
	{"Style", checkStyle},
	{"Docs", checkDocs},
}

// TestArchitecture holds this repository to every rule.
func TestArchitecture(t *testing.T) {
	tr := repository(t)
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) { report(t, rule.check(tr)) })
	}
}

// wantPattern finds the expectations of a control: // want "text", or in a
// document <!-- want "text" -->.
var wantPattern = regexp.MustCompile(`(?:// |<!-- )want "([^"]+)"`)

// TestControls holds a tree of violations to the rules: each marked line must
// be found by the rule that its folder is named after, and nothing else.
func TestControls(t *testing.T) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			root := filepath.Join("testdata", "controls", strings.ToLower(rule.name))
			tr := load(t, root)
			wanted := map[string][]string{}
			for _, path := range tr.paths {
				for i, line := range strings.Split(read(t, root, path), "\n") {
					for _, m := range wantPattern.FindAllStringSubmatch(line, -1) {
						place := fmt.Sprintf("%s:%d", path, i+1)
						wanted[place] = append(wanted[place], m[1])
					}
				}
			}
			if len(wanted) == 0 {
				t.Fatal("no control")
			}
			for _, v := range rule.check(tr) {
				place := fmt.Sprintf("%s:%d", v.path, max(v.line, 1))
				i := slices.IndexFunc(wanted[place], func(w string) bool { return strings.Contains(v.text, w) })
				if i < 0 {
					t.Errorf("unexpected: %v", v)
					continue
				}
				if wanted[place] = slices.Delete(wanted[place], i, i+1); len(wanted[place]) == 0 {
					delete(wanted, place)
				}
			}
			for place, texts := range wanted {
				t.Errorf("%s: not found: %q", place, texts)
			}
		})
	}
}

// The length of a file has its control here rather than in 601 lines of data.
func TestLengthControl(t *testing.T) {
	for lines, bad := range map[int]bool{linesMax: false, linesMax + 1: true} {
		tr := &tree{root: t.TempDir(), fset: token.NewFileSet()}
		write(t, tr.root, "a.go", "// Package a.\npackage a"+strings.Repeat("\n", lines-1))
		tr = load(t, tr.root)
		if found := checkStyle(tr); (len(found) == 1) != bad {
			t.Errorf("%d lines: found %v", lines, found)
		}
	}
}

// Every rank that is given names a real place in the order.
func TestRanksAreOrdered(t *testing.T) {
	for _, pair := range [][2]string{
		{"internal/trace", "internal/machine"}, {"internal/link", "internal/seal"}, {"internal/stream", "internal/stream/congestion"},
		{"internal/gateway", "internal/hop"}, {"internal/carrier/udp", "internal/carrier/inbox"}, {"cmd/nyx", "internal/daemon"},
	} {
		a, ok1 := rankOf(pair[0])
		b, ok2 := rankOf(pair[1])
		if !ok1 || !ok2 || a <= b {
			t.Errorf("%s has rank %d (%v), %s has %d (%v)", pair[0], a, ok1, pair[1], b, ok2)
		}
	}
	if _, ok := rankOf("internal/nowhere"); ok {
		t.Error("an unlisted package has a rank")
	}
}
