package daemon

import (
	"github.com/nyxnet/nyx/internal/metric"
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
	p.logs, p.door = &logFigures{evidence: w.report.count()}, &w.door
	return p
}

func writeLogs(to *metric.Page, parts []part) {
	for _, p := range parts {
		if p.logs == nil {
			continue
		}
		if p.logs.entries > 0 {
			to.Add("nyx_log_entries", float64(p.logs.entries), "part", p.Name)
			to.Add("nyx_log_cosigned_entries", float64(p.logs.cosigned), "part", p.Name)
		}
		to.Add("nyx_directory_evidence_total", float64(p.logs.evidence), "part", p.Name)
	}
}
