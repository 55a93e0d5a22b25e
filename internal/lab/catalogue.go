package lab

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Catalogue is the set of scenarios, ordered by id.
type Catalogue struct {
	Scenarios []*Scenario
}

// Find returns the scenario of an id, written in any case.
func (c *Catalogue) Find(id string) (*Scenario, bool) {
	for _, s := range c.Scenarios {
		if strings.EqualFold(s.ID, id) {
			return s, true
		}
	}
	return nil, false
}

// Load reads every *.toml of a directory. All faults of all files are reported
// together, each as "file:line: key: what is wrong".
func Load(dir fs.FS) (*Catalogue, error) {
	files, err := fs.Glob(dir, "*.toml")
	if err != nil {
		return nil, err
	}
	c := &Catalogue{}
	var faults []error
	for _, name := range files {
		data, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, fmt.Errorf("read scenario: %w", err)
		}
		s, err := Parse(name, data)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if other, ok := c.Find(s.ID); ok {
			faults = append(faults, fmt.Errorf("%s:1: id: %s stands in %s already", name, s.ID, other.File))
			continue
		}
		c.Scenarios = append(c.Scenarios, s)
	}
	if len(files) == 0 {
		faults = append(faults, errors.New("no scenario: the directory holds no *.toml"))
	}
	slices.SortFunc(c.Scenarios, func(a, b *Scenario) int { return cmp.Compare(a.ID, b.ID) })
	return c, errors.Join(faults...)
}

// Parse reads one scenario. Unknown keys are faults.
func Parse(name string, data []byte) (*Scenario, error) {
	s := &Scenario{File: name}
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, explainTOML(name, err)
	}
	sum := sha256.Sum256(data)
	s.Digest = hex.EncodeToString(sum[:])
	k := checker{name: name, lines: keyLines(data)}
	k.scenario(s)
	return s, errors.Join(k.faults...)
}

// explainTOML puts file, line and key in front of what the parser says.
func explainTOML(name string, err error) error {
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) {
		var all []error
		for _, e := range missing.Errors {
			line, _ := e.Position()
			all = append(all, fmt.Errorf("%s:%d: %s: no scenario has this key", name, line, strings.Join(e.Key(), ".")))
		}
		return errors.Join(all...)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, _ := bad.Position()
		what := strings.TrimPrefix(bad.Error(), "toml: ")
		if key := strings.Join(bad.Key(), "."); key != "" {
			what = key + ": " + what
		}
		return fmt.Errorf("%s:%d: %s", name, line, what)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// keyLines maps each key, as "slo[0].bound", to the line on which it stands.
// The document has been decoded before, so it parses.
func keyLines(data []byte) map[string]int {
	lines := map[string]int{}
	arrays := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		var parts []string
		line := 0
		for k := e.Key(); k.Next(); {
			if line == 0 {
				line = p.Shape(k.Node().Raw).Start.Line
			}
			parts = append(parts, string(k.Node().Data))
		}
		key := strings.Join(parts, ".")
		switch e.Kind {
		case unstable.ArrayTable:
			table = fmt.Sprintf("%s[%d]", key, arrays[key])
			arrays[key]++
			lines[table] = line
			table += "."
		case unstable.Table:
			lines[key] = line
			table = key + "."
		default:
			lines[table+key] = line
		}
	}
	return lines
}

// checker collects the faults of one file.
type checker struct {
	name   string
	lines  map[string]int
	faults []error
}

// fault reports what is wrong with a key, at its line, or that of its table.
func (k *checker) fault(key, format string, args ...any) {
	line, at := 1, key
	for at != "" {
		if l, ok := k.lines[at]; ok {
			line = l
			break
		}
		at = at[:max(0, strings.LastIndexByte(at, '.'))]
	}
	k.faults = append(k.faults, fmt.Errorf("%s:%d: %s: %s", k.name, line, key, fmt.Sprintf(format, args...)))
}

func (k *checker) filled(key, value string) {
	if strings.TrimSpace(value) == "" {
		k.fault(key, "is missing or empty")
	}
}

var (
	idPattern     = regexp.MustCompile(`^(DF|SCL)-0(0[1-9]|[1-4][0-9]|50)$`)
	metricPattern = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$`)
	seriesPattern = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

func (k *checker) scenario(s *Scenario) {
	if !idPattern.MatchString(s.ID) {
		k.fault("id", "%q is not one of DF-001 to DF-050 and SCL-001 to SCL-050", s.ID)
	} else if want := strings.ToLower(s.ID) + ".toml"; path.Base(k.name) != want {
		k.fault("id", "%s must stand in %s", s.ID, want)
	}
	if s.Mode != Live && s.Mode != Sim && s.Mode != Model {
		k.fault("mode", "%q is none of live, sim, model", s.Mode)
	}
	for _, f := range []struct{ key, value string }{
		{"title", s.Title}, {"layer", s.Layer}, {"load", s.Load}, {"sli", s.SLI},
		{"preconditions", s.Preconditions}, {"procedure", s.Procedure}, {"follow_up", s.FollowUp},
		{"control.off", s.Control.Off}, {"scale.full", s.Scale.Full},
	} {
		k.filled(f.key, f.value)
	}
	switch s.Family() {
	case "DF":
		k.filled("focus", s.Focus)
		k.filled("trigger", s.Trigger)
		k.filled("risk", s.Risk)
		k.filled("recommendation", s.Recommendation)
	case "SCL":
		k.filled("configuration", s.Configuration)
		k.filled("fallback", s.Fallback)
		k.filled("escalation", s.Escalation)
	}
	if s.Scale.Default <= 0 || s.Scale.Default > 1 {
		k.fault("scale.default", "%v is not above 0 and at most 1", s.Scale.Default)
	}
	k.objectives(s)
}

func (k *checker) objectives(s *Scenario) {
	if len(s.SLO) == 0 {
		k.fault("slo", "is missing: a scenario needs an objective to judge by")
	}
	series := map[string]bool{}
	for i, o := range s.SLO {
		at := fmt.Sprintf("slo[%d]", i)
		series[o.Series] = true
		if !seriesPattern.MatchString(o.Series) {
			k.fault(at+".series", "%q is not a series name: lower-case letters, digits and _", o.Series)
		}
		if !o.Stat.valid() {
			k.fault(at+".stat", "%q is none of %s", o.Stat, strings.Join(statNames, ", "))
		}
		if !o.Op.valid() {
			k.fault(at+".op", "%q is none of <=, <, >=, >, ==", o.Op)
		}
		if !slices.Contains(units, o.Unit) {
			k.fault(at+".unit", "%q is none of %s", o.Unit, strings.Join(units, ", "))
		}
		if o.Unit == "%" && o.Stat != "ratio" {
			k.fault(at+".unit", "%% is the unit of a ratio, not of %s", o.Stat)
		}
	}
	if len(s.Metric) == 0 {
		k.fault("metric", "is missing: name the series that the system exports")
	}
	for i, m := range s.Metric {
		at := fmt.Sprintf("metric[%d]", i)
		if !metricPattern.MatchString(m.Name) {
			k.fault(at+".name", "%q is not a metric name", m.Name)
		}
		k.filled(at+".owner", m.Owner)
	}
	if len(s.Control.Fails) == 0 {
		k.fault("control.fails", "is missing: name the series whose objective the control must miss")
	}
	for _, name := range s.Control.Fails {
		if !series[name] {
			k.fault("control.fails", "%q is the series of no slo", name)
		}
	}
}
