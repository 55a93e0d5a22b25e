package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

const (
	// progressAfter is how long work may take until something is shown of it, and
	// progressEvery the least time between two changes of what is.
	progressAfter = 2 * time.Second
	progressEvery = 200 * time.Millisecond
	// barWidth is that of a bar, in characters.
	barWidth = 30
)

// Progress is one line that says how far long work is: to a person before a terminal, once
// it takes longer than two seconds. Its methods may be called by any goroutine.
type Progress struct {
	to    io.Writer
	watch bool

	mu    sync.Mutex
	begun time.Time
	last  time.Time
	text  string // the newest
	shown int    // characters of the line that is to be seen
	first *time.Timer
}

// Watch returns the line of a command, which is shown where its stdout is a terminal.
func Watch(cmd *cobra.Command) *Progress {
	return newProgress(cmd.ErrOrStderr(), Terminal(os.Stdout))
}

func newProgress(to io.Writer, watched bool) *Progress {
	p := &Progress{to: to, watch: watched, begun: time.Now()}
	if watched {
		p.first = time.AfterFunc(progressAfter, p.begin)
	}
	return p
}

// begin shows what was said before anything was shown.
func (p *Progress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text != "" {
		p.print()
	}
}

// Show says what is being done.
func (p *Progress) Show(what string) { p.line(what, true) }

// Bar says that so much of so much is done, all 0 where it is not known.
func (p *Progress) Bar(what string, done, all uint64) {
	if all == 0 {
		p.line(fmt.Sprintf("%s %d", what, done), false)
		return
	}
	done = min(done, all)
	full := int(barWidth * done / all)
	p.line(fmt.Sprintf("%s [%s%s] %3d%%", what, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*done/all), done == all)
}

// line shows a line in the place of the last. One that is important is not left out for
// coming too soon.
func (p *Progress) line(text string, important bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.text = text; !p.watch || now.Sub(p.begun) < progressAfter || !important && now.Sub(p.last) < progressEvery {
		return
	}
	p.last = now
	p.print()
}

// print puts the newest text where the line is. The lock is held.
func (p *Progress) print() {
	fmt.Fprintf(p.to, "\r%-*s", p.shown, p.text)
	p.shown = max(len(p.text), p.shown)
}

// Done takes the line away.
func (p *Progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text = ""; p.first != nil {
		p.first.Stop()
	}
	if p.shown > 0 {
		fmt.Fprintf(p.to, "\r%*s\r", p.shown, "")
		p.shown = 0
	}
}
