package setup

import (
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/wire"
)

// Bounds of telemetry.probe: a probe lasts up to 20 s, and one a day is the least that
// says anything.
const (
	ProbeLeast = time.Second
	ProbeMost  = 24 * time.Hour
)

// TelemetryConfig is what a process tells beside its metrics.
type TelemetryConfig struct {
	// Probe is how often a Stream node probes the network; zero: never. ProbeLevel is
	// the level of the probes.
	Probe      time.Duration
	ProbeLevel wire.Level
	// Traces has the process keep its spans in its state directory.
	Traces bool
	// OTLP is the URL of a collector that takes them too; "" for none.
	OTLP string
}

// telemetryFile is the table as written.
type telemetryFile struct {
	Probe      string `toml:"probe"`
	ProbeLevel string `toml:"probe_level"`
	Traces     bool   `toml:"traces"`
	OTLP       string `toml:"otlp"`
}

func (d *document) telemetry(c *Config, f *telemetryFile) {
	t := &c.Telemetry
	if f.Probe != "" {
		t.Probe = d.duration("telemetry.probe", f.Probe, ProbeLeast, ProbeMost)
		if !c.Roles.Has(directory.RoleEntry) {
			d.bad("telemetry.probe", "only a Stream node with the role entry probes. Remove the line, or add the role")
		} else if c.Network != nil && c.Network.Issuer != nil && c.Network.Issuer.Required {
			d.bad("telemetry.probe", "entries of this network admit by unlinkable tokens only, and a probe has none. Remove the line")
		}
	}
	t.ProbeLevel = d.level("telemetry.probe_level", f.ProbeLevel)
	if t.Traces = f.Traces; t.Traces && c.State == "" {
		d.bad("telemetry.traces", "there is no directory to keep them in. Write state = \"state\"")
	}
	if t.OTLP = f.OTLP; t.OTLP != "" {
		d.collector("telemetry.otlp", t.OTLP)
	}
}
