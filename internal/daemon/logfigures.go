package daemon

import (
	"fmt"
	"io"

	"github.com/nyxnet/nyx/internal/trace"
)

// logFigures are what an authority or a witness shows of the logs.
type logFigures struct {
	entries, cosigned int64 // of the own log; 0: none
	evidence          int
}

func (a *Authority) logFigures() *logFigures {
	f := &logFigures{evidence: a.report.count()}
	if l := a.own; l != nil {
		l.mu.Lock()
		f.entries, f.cosigned = l.tree.Size(), l.head.Size
		l.mu.Unlock()
	}
	return f
}

func (w *Witness) part() part {
	p := newPart("witness", trace.Counts{}, w.Err())
	p.logs = &logFigures{evidence: w.report.count()}
	return p
}

func writeLogs(w io.Writer, parts []part) {
	gauge := func(name, kind, help string, of func(*logFigures) int64) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		for _, p := range parts {
			if p.logs != nil && (kind == "counter" || p.logs.entries > 0) {
				fmt.Fprintf(w, "%s{part=%q} %d\n", name, p.Name, of(p.logs))
			}
		}
	}
	gauge("nyx_log_entries", "gauge", "Documents in the authority's own log.", func(f *logFigures) int64 { return f.entries })
	gauge("nyx_log_cosigned_entries", "gauge", "Of these, those that enough witnesses have seen.", func(f *logFigures) int64 { return f.cosigned })
	gauge("nyx_directory_evidence_total", "counter", "Findings of two documents of one number, or of logs that fork.", func(f *logFigures) int64 { return int64(f.evidence) })
}
