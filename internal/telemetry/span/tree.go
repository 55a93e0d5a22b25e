package span

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Trace is the spans of one trace, the earliest first.
type Trace []Span

// Traces puts spans together by their traces, the trace that began first first. A span
// that is there twice, as in files that were copied, counts once.
func Traces(spans []Span) []Trace {
	of := map[TraceID]Trace{}
	for _, s := range spans {
		if !slices.ContainsFunc(of[s.Trace], func(o Span) bool { return o.ID == s.ID }) {
			of[s.Trace] = append(of[s.Trace], s)
		}
	}
	out := slices.Collect(maps.Values(of))
	for _, t := range out {
		slices.SortStableFunc(t, Earlier)
	}
	slices.SortFunc(out, func(a, b Trace) int { return Earlier(a[0], b[0]) })
	return out
}

// Missing is what a trace lacks of the sequence, in which its first spans of each name
// must lie in order; "" is nothing.
func (t Trace) Missing() string {
	var last *Span
	for _, name := range Sequence {
		i := slices.IndexFunc(t, func(s Span) bool { return s.Name == name })
		switch {
		case i < 0:
			return fmt.Sprintf("%s is missing", name)
		case last != nil && t[i].Begin.Before(last.Begin):
			return fmt.Sprintf("%s begins %v before %s", name, last.Begin.Sub(t[i].Begin), last.Name)
		}
		last = &t[i]
	}
	return ""
}

// Root is the first span that is part of no other of the trace.
func (t Trace) Root() *Span {
	for i := range t {
		if !t.has(t[i].Parent) {
			return &t[i]
		}
	}
	return &t[0] // of spans that are each part of another
}

func (t Trace) has(id ID) bool {
	return slices.ContainsFunc(t, func(s Span) bool { return s.ID == id })
}

// Write draws the trace for people: one line a span, what it is part of above it, with
// when it began since the trace did, how long it took, and where.
func (t Trace) Write(w io.Writer) {
	begin := t[0].Begin
	fmt.Fprintf(w, "trace %s, %s\n", t[0].Trace, begin.UTC().Format("2006-01-02 15:04:05.000 MST"))
	wide := 0
	for _, s := range t {
		wide = max(wide, len(s.Name))
	}
	drawn := map[ID]bool{}
	var draw func(s *Span, indent, branch string)
	draw = func(s *Span, indent, branch string) {
		drawn[s.ID] = true
		name := indent + branch + string(s.Name)
		fmt.Fprintf(w, "%-*s %12s %12s  %s", wide+12, name, "+"+short(s.Begin.Sub(begin)), short(s.End.Sub(s.Begin)), s.Process)
		for _, k := range slices.Sorted(maps.Keys(s.Attributes)) {
			fmt.Fprintf(w, "  %s=%s", k, s.Attributes[k])
		}
		fmt.Fprintln(w)
		if branch != "" {
			indent += map[bool]string{true: "   ", false: "│  "}[strings.HasPrefix(branch, "└")]
		}
		var parts []*Span
		for i := range t {
			if t[i].Parent == s.ID && !drawn[t[i].ID] {
				parts = append(parts, &t[i])
			}
		}
		for i, p := range parts {
			draw(p, indent, map[bool]string{true: "└─ ", false: "├─ "}[i == len(parts)-1])
		}
	}
	draw(t.Root(), "", "")
	for i := range t {
		if !drawn[t[i].ID] { // of which another process has the rest
			draw(&t[i], "", "")
		}
	}
}

// short is a time in milliseconds.
func short(d time.Duration) string {
	return fmt.Sprintf("%.3f ms", float64(d)/float64(time.Millisecond))
}
