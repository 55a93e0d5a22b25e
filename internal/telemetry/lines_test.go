package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// journal is a log of a program whose clock the test moves.
type journal struct {
	bytes.Buffer
	*Lines
	now time.Time
}

func newJournal() *journal {
	j := &journal{now: time.Unix(1000, 0)}
	j.Lines = NewLines(slog.NewTextHandler(&j.Buffer, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return j
}

func (j *journal) log(h slog.Handler, level slog.Level, words string, attrs ...slog.Attr) error {
	r := slog.NewRecord(j.now, level, words, 0)
	r.AddAttrs(attrs...)
	return h.Handle(context.Background(), r)
}

func (j *journal) count(words string) int { return strings.Count(j.String(), words) }

func TestLinesThinOutWhatRepeats(t *testing.T) {
	j := newJournal()
	for i := range 1000 {
		j.log(j.Lines, slog.LevelInfo, "the same", slog.Int("n", i))
		if i%100 == 0 {
			j.log(j.Lines, slog.LevelInfo, fmt.Sprint("another ", i))
		}
	}
	if kept := j.count("the same"); kept != linesFirst+100 || j.count("another") != 10 {
		t.Errorf("%d and %d lines kept", kept, j.count("another"))
	}
	if j.count("left_out=9") != 99 || j.count("left_out=4") != 1 {
		t.Errorf("what was left out is not told:\n%.2000s", j.String())
	}
	j.now = j.now.Add(linesEvery)
	j.log(j.Lines, slog.LevelInfo, "the same", slog.String("n", "later"))
	if j.count("n=later") != 1 {
		t.Error("the first of the next ten seconds is left out")
	}
	if c := j.Counts(); c != (LineCounts{Kept: linesFirst + 100 + 10 + 1, LeftOut: 1000 - linesFirst - 100}) {
		t.Errorf("%+v", c)
	}
}

// What matters is kept, by its level, its own tag, or that of its logger.
func TestLinesKeepWhatMatters(t *testing.T) {
	j := newJournal()
	tagged := j.WithAttrs([]slog.Attr{Important()}).WithGroup("g")
	for i := range 200 {
		j.log(j.Lines, slog.LevelWarn, "warning", slog.Int("n", i))
		j.log(j.Lines, slog.LevelDebug, "tagged", slog.Int("n", i), Important())
		j.log(tagged, slog.LevelInfo, "by its logger", slog.Int("n", i))
		j.log(j.Lines, slog.LevelInfo, "routine", slog.String("tag", "other"))
	}
	for _, words := range []string{"warning", "msg=tagged", "by its logger"} {
		if n := j.count(words); n != 200 {
			t.Errorf("%d lines of %q", n, words)
		}
	}
	if c := j.Counts(); j.count("routine") > 30 || c.Important != 600 || c.Gap != 0 {
		t.Errorf("%d routine lines, %+v", j.count("routine"), c)
	}
	j.OneIn = 4
	for range 100 {
		j.log(j.Lines, slog.LevelWarn, "warning")
	}
	if c := j.Counts(); c.Gap != 75 {
		t.Errorf("control: without priority the gap is %d of 100", c.Gap)
	}
}

// A log that cannot be written to has a gap.
func TestLinesCountWhatWasNotWritten(t *testing.T) {
	l := NewLines(slog.NewTextHandler(full{}, nil))
	slog.New(l).Warn("lost")
	slog.New(l).Info("not so important")
	if c := l.Counts(); c.Important != 1 || c.Gap != 1 {
		t.Errorf("%+v", c)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestMessagesAreBounded(t *testing.T) {
	j := newJournal()
	for i := range 3 * messagesMax {
		j.log(j.Lines, slog.LevelInfo, fmt.Sprint("message ", i))
	}
	if len(j.messages) > messagesMax+1 {
		t.Errorf("%d messages are told apart", len(j.messages))
	}
}
