package setup

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// configMax bounds a configuration file; a network file of 32 authorities
// takes 90 KiB.
const configMax = 1 << 20

// document is a TOML file under validation: it knows at which line each key
// stands and collects what is wrong.
type document struct {
	path     string
	lines    map[string]int // key → line, from 1
	problems []Problem
}

// Problem is one thing that is wrong in a configuration file.
type Problem struct {
	// File and Line say where; Line counts from 1. Key is written as in
	// relay.listen; in a list of tables as in authority[1].key, from 1.
	File string
	Line int
	Key  string
	// Text says what is wrong and what to write instead.
	Text string
}

func (p *Problem) Error() string {
	if p.Key == "" {
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Key, p.Text)
}

// decode reads TOML into v, which is a pointer to a struct. Every key must have
// its field.
func decode(path string, b []byte, v any) (*document, error) {
	d := &document{path: path, lines: make(map[string]int)}
	err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(v)
	var missing *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case err == nil:
	case errors.As(err, &missing):
		for i := range missing.Errors {
			e := &missing.Errors[i]
			line, _ := e.Position()
			d.problems = append(d.problems, Problem{path, line, strings.Join(e.Key(), "."), "unknown key. Remove it, or check its spelling and the [table] it stands in"})
		}
		return nil, d.err()
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		return nil, &Problem{path, line, strings.Join(wrong.Key(), "."), strings.TrimPrefix(wrong.Error(), "toml: ")}
	default:
		return nil, &Problem{path, 1, "", strings.TrimPrefix(err.Error(), "toml: ")}
	}
	d.index(b)
	return d, nil
}

// index notes the line of every key of a valid document.
func (d *document) index(b []byte) {
	p := unstable.Parser{}
	p.Reset(b)
	table := ""
	counts := make(map[string]int)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.ArrayTable && e.Kind != unstable.KeyValue {
			continue
		}
		var parts []string
		line := 0
		for it := e.Key(); it.Next(); {
			parts = append(parts, string(it.Node().Data))
			line = p.Shape(it.Node().Raw).Start.Line
		}
		name := strings.Join(parts, ".")
		switch e.Kind {
		case unstable.Table:
			table = name
		case unstable.ArrayTable:
			counts[name]++
			table = fmt.Sprintf("%s[%d]", name, counts[name])
		case unstable.KeyValue:
			if table != "" {
				name = table + "." + name
			}
			d.lines[name] = line
			continue
		}
		d.lines[table] = line
	}
}

// line is where a key stands; for a missing one, where its table begins, or
// the first line.
func (d *document) line(key string) int {
	for {
		if line, ok := d.lines[key]; ok {
			return line
		}
		dot := strings.LastIndexByte(key, '.')
		if dot < 0 {
			return 1
		}
		key = key[:dot]
	}
}

// has reports whether a key is written.
func (d *document) has(key string) bool {
	_, ok := d.lines[key]
	return ok
}

// bad notes what is wrong with a key.
func (d *document) bad(key, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.path, d.line(key), key, fmt.Sprintf(format, args...)})
}

// err returns all problems by line, or nil.
func (d *document) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	errs := make([]error, len(d.problems))
	for i := range d.problems {
		errs[i] = &d.problems[i]
	}
	return errors.Join(errs...)
}
