package daemon

import (
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/telemetry/span"
)

// traces is where the spans of a process go: to a file, to a collector, to both, or
// nowhere.
type traces struct {
	file *span.File // nil: to none
	sent Exporter   // nil: to none
}

// openTraces opens what a configuration says, in the state directory of its process.
func openTraces(cfg *setup.TelemetryConfig, state string, to PushConfig, export func(PushConfig) (Exporter, error), log *slog.Logger) (*traces, error) {
	t := &traces{}
	var err error
	if to.OTLP != "" {
		if t.sent, err = export(to); err != nil {
			return nil, err
		}
	}
	if cfg.Traces {
		if t.file, err = span.Open(filepath.Join(state, span.FileName), func(err error) { log.Warn("a span is not kept", "why", err) }); err != nil {
			return nil, errors.Join(err, t.close())
		}
	}
	return t, nil
}

// recorder takes spans for all of them; nil: there is none.
func (t *traces) recorder() span.Recorder {
	var all span.Recorders
	if t.file != nil {
		all = append(all, t.file)
	}
	if t.sent != nil {
		all = append(all, t.sent)
	}
	if all == nil {
		return nil
	}
	return all
}

// figures fills a page with how spans are sent.
func (t *traces) figures(to *metric.Page) {
	if t.sent != nil {
		t.sent.Figures(to)
	}
}

func (t *traces) close() (err error) {
	if t.sent != nil {
		err = t.sent.Close()
	}
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
	}
	return err
}
