// Package telemetry is what leaves a node for people and for the control plane:
// reports of how it does, taken by the control plane's Collector and sent by a node's
// Reporter, and log lines, of which Lines leaves out those that say nothing new. It
// holds no client, target or route.
package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// linesEvery is the time in which the first linesFirst lines of a message are
	// kept, and of the others one in linesOneIn.
	linesEvery = 10 * time.Second
	linesFirst = 5
	linesOneIn = 10
	// messagesMax bounds the messages that are told apart: a program has some
	// hundreds. All beyond it are as one.
	messagesMax = 1024
)

// tagKey and tagImportant are the attribute that has a line kept.
const (
	tagKey       = "tag"
	tagImportant = "important"
)

// Important is the attribute of a line that must be kept, however often it comes.
func Important() slog.Attr { return slog.String(tagKey, tagImportant) }

// leftOutKey is the attribute that says how many lines of the same message were left
// out before this one.
const leftOutKey = "left_out"

// Lines is a slog.Handler that leaves lines out which say the same again, before they
// cost anything. Lines from warnings up, and those with Important, are never left
// out; of all others the first few of each message are kept in ten seconds, and one
// in ten beyond, which says how many are missing before it. What is the same message
// is told by its words, not by its attributes.
type Lines struct {
	// All has nothing left out; OneIn, if it is not 0, has important lines left out as
	// all others, of which one in so many is kept: the control of DF-039.
	All   bool
	OneIn int

	next      slog.Handler
	important bool // by an attribute of the logger
	*lines
}

// lines is what all handlers that came of one share.
type lines struct {
	mu       sync.Mutex
	counts   LineCounts
	messages map[string]*message
}

type message struct {
	since   time.Time
	seen    int
	leftOut uint64
}

// LineCounts are what became of lines.
type LineCounts struct {
	// Kept and LeftOut are lines.
	Kept, LeftOut uint64
	// Important are those that had to be kept, and Gap those of them that were not
	// written: stream.log_sampling_gap.
	Important, Gap uint64
}

// NewLines returns a handler before another.
func NewLines(next slog.Handler) *Lines {
	return &Lines{next: next, lines: &lines{messages: map[string]*message{}}}
}

// Counts are those since the start, of all handlers that came of this one.
func (l *Lines) Counts() LineCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Enabled is that of the handler behind.
func (l *Lines) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level)
}

// Handle passes a line on, or leaves it out.
func (l *Lines) Handle(ctx context.Context, r slog.Record) error {
	important := l.important || r.Level >= slog.LevelWarn || tagged(&r)
	keep, before := l.judge(&r, important)
	if !keep {
		return nil
	}
	if before > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Uint64(leftOutKey, before))
	}
	err := l.next.Handle(ctx, r)
	if err != nil && important {
		l.mu.Lock()
		l.counts.Gap++
		l.mu.Unlock()
	}
	return err
}

// judge says whether a line is kept, and how many before it were not.
func (l *Lines) judge(r *slog.Record, important bool) (keep bool, before uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if important {
		l.counts.Important++
	}
	m := l.of(r)
	if l.All || important && l.OneIn == 0 || m.keeps(r.Time, l.OneIn) {
		before, m.leftOut = m.leftOut, 0
		l.counts.Kept++
		return true, before
	}
	m.leftOut++
	l.counts.LeftOut++
	if important {
		l.counts.Gap++
	}
	return false, 0
}

// of is what is known of a line's message.
func (l *lines) of(r *slog.Record) *message {
	name := r.Message
	m := l.messages[name]
	if m == nil && len(l.messages) >= messagesMax {
		name = ""
		m = l.messages[name]
	}
	if m == nil {
		m = &message{since: r.Time}
		l.messages[name] = m
	}
	return m
}

// keeps counts a line, and says whether it is one of those kept.
func (m *message) keeps(at time.Time, oneIn int) bool {
	if since := at.Sub(m.since); since >= linesEvery || since < 0 {
		m.since, m.seen = at, 0
	}
	m.seen++
	if oneIn > 0 {
		return m.seen%oneIn == 0
	}
	return m.seen <= linesFirst || m.seen%linesOneIn == 0
}

func tagged(r *slog.Record) (found bool) {
	r.Attrs(func(a slog.Attr) bool {
		found = a.Key == tagKey && a.Value.Kind() == slog.KindString && a.Value.String() == tagImportant
		return !found
	})
	return found
}

// WithAttrs is that of slog.Handler.
func (l *Lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *l
	with.next = l.next.WithAttrs(attrs)
	for _, a := range attrs {
		with.important = with.important || a.Equal(Important())
	}
	return &with
}

// WithGroup is that of slog.Handler.
func (l *Lines) WithGroup(name string) slog.Handler {
	with := *l
	with.next = l.next.WithGroup(name)
	return &with
}
