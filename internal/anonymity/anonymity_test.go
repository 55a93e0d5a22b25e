package anonymity

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/attack"
	"github.com/nyxnet/nyx/internal/wire"
)

// The gate: attackers stay below the bounds of bounds.toml, and find at FAST what
// nothing hides there, or they are no test of the other levels. Of some two hundred
// intervals one may miss by luck: what fails is looked at once more, with three
// seeds, where luck goes and a leak stays.
func TestGate(t *testing.T) {
	o := Quick()
	o.Progress = func(line string) { t.Log(line) }
	r, err := Make(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	t.Log(b.String())
	if failed := r.Failed(); len(failed) > 0 {
		t.Logf("once more, with three seeds: %v", failed)
		o.Seeds, o.Levels = 3, slices.DeleteFunc(o.Levels, func(l wire.Level) bool {
			return !slices.ContainsFunc(failed, func(g Outcome) bool { return g.Level == l.String() })
		})
		again, err := Make(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, failed := range again.Failed() {
			t.Errorf("%v; replay with: nyx anonymity report --quick --seeds 3 --levels %s", failed, failed.Level)
		}
	}
	if gates, _ := Gates(); len(r.Gates) != len(gates) {
		t.Errorf("%d of %d gates were tried", len(r.Gates), len(gates))
	}
	for _, l := range r.Loads {
		if l.Level.Mixes() == 0 || l.Level == wire.Fast {
			continue
		}
		// A mix holds λ times its delay of each route's cells, both ways.
		if l.MixBits.Mean < 3 || l.PathBits.Mean < 3 {
			t.Errorf("%s: %v bits at a mix, %v over the path", l.Name, l.MixBits, l.PathBits)
		}
	}
}

// The gates of HIGH see what nothing but the policy hides: with classes that follow
// use, as at STANDARD, bulk is found on the wires and at both ends. At EXTREME, which
// has the same policy (obfs, TestUseMovesNothingAboveStandard), so few flows of 8 s do
// not show it (docs/anonymity.md).
func TestGateSeesMovingClasses(t *testing.T) {
	gates, err := Gates()
	if err != nil {
		t.Fatal(err)
	}
	o := Quick()
	o.Size.Flows = 32
	runs, err := o.run(context.Background(), wire.High, 1, func(p *lab.Plan) {
		p.Client = func(c *client.Config) { standing(c); c.Moving = true }
		p.Gateway = func(c *gateway.Config) { c.Moving = true }
	})
	if err != nil {
		t.Fatal(err)
	}
	r := Report{Size: o.Size, Seeds: o.Seeds}
	r.add(wire.High, 1, runs)
	r.judge(gates)
	for _, view := range []View{Wires, Ends} {
		if !slices.ContainsFunc(r.Failed(), func(g Outcome) bool { return g.View == view && g.Kind == Bulk }) {
			t.Errorf("%s: bulk in classes that move is not found", view)
		}
	}
	for _, g := range r.Gates {
		t.Logf("%v: %s", g, g.result())
	}
}

// What the spies note is true: of each route every hop, and at each the cells that
// came to the one before. What was lost on a client's own link comes to the entry
// late, as it reads, and is missing nowhere; without repairs it is.
func TestSpiesSeeWhatThereIs(t *testing.T) {
	for _, repaired := range []bool{true, false} {
		v, err := observe(wire.Standard, 7, Size{Flows: 16, Length: 7 * time.Second}, 1, func(p *lab.Plan) {
			p.Client = func(c *client.Config) { standing(c); c.Unrepaired = !repaired }
		})
		if err != nil {
			t.Fatal(err)
		}
		v.check(t, repaired)
	}
}

func (v *views) check(t *testing.T, repaired bool) {
	for i, routes := range v.routes {
		if len(routes) != routesPerSession {
			t.Fatalf("client %d has %d routes", i, len(routes))
		}
		for _, r := range routes {
			if len(r.hops) != v.level.Hops() {
				t.Fatalf("a route of client %d has %d hops", i, len(r.hops))
			}
			entry, exit := len(r.hops[0]), len(r.hops[len(r.hops)-1])
			if entry < 600 || exit < entry-entry/20 || exit > entry+entry/20 {
				t.Errorf("client %d: %d cells at the entry, %d at the exit", i, entry, exit)
			}
			if !slices.IsSortedFunc(r.hops[2], func(a, b attack.Cell) int { return int(a.At - b.At) }) {
				t.Errorf("client %d: times at a mix are in no order", i)
			}
		}
		gaps, late := 0, 0
		for _, r := range routes {
			gaps += len(v.gaps(r.hops[4]))
			for _, c := range r.hops[0] {
				if c.Late > 0 {
					late++
				}
			}
		}
		lost := len(v.lost[i])
		if lossy(i) != (lost > 0) || (gaps > 0) != (lossy(i) && !repaired) || repaired && (late < lost || late > 2*lost+2) || !repaired && late > 0 {
			t.Errorf("client %d, losses %v, repairs %v: %d lost, %d came late to the entry, %d gaps at the exit", i, lossy(i), repaired, lost, late, gaps)
		}
		if len(v.up[i]) == 0 && v.kinds[i] == Voice {
			t.Errorf("nothing of %s flow %d came to its target", v.kinds[i], i)
		}
	}
}

// reportOf is one in which a level's attackers reach a figure under a load.
func reportOf(level string, load float64, auc attack.Figure) *Report {
	r := &Report{Size: Quick().Size, Seeds: 1}
	for _, view := range Views {
		for _, kind := range groups {
			x := Result{Level: level, Load: load, View: view, Attacker: "one & only", Kind: kind}
			x.AUC = auc
			r.Results = append(r.Results, x)
		}
	}
	l, _ := wire.ParseLevel(level)
	r.Loads = append(r.Loads, Load{Level: l, Name: level, Factor: load, MixBits: Entropy{Mean: 5, P05: 4}})
	return r
}

// The gates can fail: of each level by an attacker that finds, or does not find,
// every flow.
func TestGatesFail(t *testing.T) {
	gates, err := Gates()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		level string
		load  float64
		auc   attack.Figure
		fails bool
	}{
		{"fast", 1, attack.Figure{Value: 1, Low: 1, High: 1}, false},
		{"fast", 1, attack.Figure{Value: 0.5, Low: 0.45, High: 0.55}, true},
		{"fast", 1, attack.Figure{Value: 0.89, Low: 0.80, High: 0.98}, true}, // may have failed
		{"standard", 1, attack.Figure{Value: 0.5, Low: 0.45, High: 0.55}, false},
		{"standard", 1, attack.Figure{Value: 1, Low: 1, High: 1}, true},
		{"high", 1, attack.Figure{Value: 0.62, Low: 0.59, High: 0.65}, true},
		{"high", 1, attack.Figure{Value: 0.62, Low: 0.56, High: 0.68}, true},
		{"high", 1, attack.Figure{Value: 0.62, Low: 0.54, High: 0.70}, false}, // of few flows, little can be said
		{"high", 2, attack.Figure{Value: 0.62, Low: 0.59, High: 0.65}, true},
		{"extreme", 0.5, attack.Figure{Value: 0.62, Low: 0.59, High: 0.65}, true},
	} {
		r := reportOf(c.level, c.load, c.auc)
		r.judge(gates)
		if len(r.Gates) == 0 {
			t.Errorf("%s has no gate under load %v", c.level, c.load)
		}
		if failed := r.Failed(); (len(failed) > 0) != c.fails {
			t.Errorf("%s, load %v, at AUC %v: %d of %d gates fail", c.level, c.load, c.auc, len(failed), len(r.Gates))
		}
	}
}

// Each kind of traffic has a bound in each view at STANDARD, each view one at HIGH and
// EXTREME, and one for the traffic that would move classes, and a control at FAST; a
// bound above chance says why.
func TestGatesAreWhole(t *testing.T) {
	gates, err := Gates()
	if err != nil {
		t.Fatal(err)
	}
	has := func(level string, view View, kind Kind) bool {
		return slices.ContainsFunc(gates, func(g Gate) bool { return g.Level == level && g.View == view && g.Kind == kind })
	}
	for _, view := range Views {
		for _, kind := range Kinds {
			if !has("standard", view, kind) {
				t.Errorf("no gate for %s, %s at standard", view, kind)
			}
		}
		if !has("high", view, Bulk) || !has("extreme", view, Bulk) {
			t.Errorf("no gate for %s, bulk at high and extreme", view)
		}
		for _, level := range []string{"fast", "standard", "high", "extreme"} {
			if !has(level, view, AllKinds) && !has(level, view, Lossless) {
				t.Errorf("no gate for %s at %s", view, level)
			}
		}
	}
	for _, g := range gates {
		if !slices.Contains(groups, g.Kind) || !slices.Contains(Views, g.View) {
			t.Errorf("%s, %s, %s: there are no such flows", g.Level, g.View, g.Kind)
		}
		if (g.Level == "high" || g.Level == "extreme") && g.Most > chanceMost && g.Known == "" {
			t.Errorf("%s, %s, %s: a bound of %.2f, and no reason", g.Level, g.View, g.Kind, g.Most)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Quick()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for what, spoil := range map[string]func(*Options){
		"levels": func(o *Options) { o.Levels = nil },
		"load":   func(o *Options) { o.Loads = []float64{1, 0} },
		"loads":  func(o *Options) { o.Loads = nil },
		"seeds":  func(o *Options) { o.Seeds = 0 },
		"flows":  func(o *Options) { o.Size.Flows = 3 },
		"time":   func(o *Options) { o.Size.Length = time.Second },
	} {
		o := Quick()
		if spoil(&o); o.Validate() == nil {
			t.Errorf("%s: nothing wrong is found", what)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Make(ctx, good); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}

func TestPlotsAreXML(t *testing.T) {
	r := reportOf("standard", 1, attack.Figure{Value: 0.6, Low: 0.5, High: 0.7})
	for _, draw := range []func(io.Writer) error{r.AUC, r.KindAUC, r.Bits} {
		var b strings.Builder
		if err := draw(&b); err != nil {
			t.Fatal(err)
		}
		d, marks := xml.NewDecoder(strings.NewReader(b.String())), 0
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
				marks++
			}
		}
		if marks == 0 {
			t.Error("a plot without a value")
		}
	}
}
