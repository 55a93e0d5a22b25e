package daemon

import (
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/telemetry/span"
)

// Exporter sends spans elsewhere.
type Exporter interface {
	span.Recorder
	Close() error
}

// traces is where the spans of a process go: to a file, to a collector, to both, or
// nowhere.
type traces struct {
	file *span.File // nil: to none
	sent Exporter   // nil: to none
}

var errNoExporter = errors.New("this program does not export traces; use nyx, or remove telemetry.otlp")

// openTraces opens what a configuration says, in the state directory of its process.
func openTraces(cfg *setup.TelemetryConfig, state string, export func(string, func(error)) (Exporter, error), log *slog.Logger) (*traces, error) {
	t := &traces{}
	var err error
	if cfg.OTLP != "" {
		if export == nil {
			return nil, errNoExporter
		}
		if t.sent, err = export(cfg.OTLP, func(err error) { log.Warn("spans are lost: the collector does not take them", "why", err) }); err != nil {
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

func (t *traces) close() (err error) {
	if t.sent != nil {
		err = t.sent.Close()
	}
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
	}
	return err
}
