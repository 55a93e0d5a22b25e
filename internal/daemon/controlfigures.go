package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/telemetry/span"
)

// figures are what the outbox has done, or nil.
func (t *teller) figures() *pipeline.OutboxFigures {
	if t == nil {
		return nil
	}
	f := t.outbox.Figures()
	return &f
}

// depthMost bounds the wait for the depth of a bus, of whoever reads the metrics.
const depthMost = 2 * time.Second

// writeAudit writes what nodes have told and what became of it.
func writeAudit(w io.Writer, parts []part) {
	outbox := func(name, kind, help string, of func(*pipeline.OutboxFigures) uint64) {
		g := family(w, name, kind, help)
		for _, p := range parts {
			if p.outbox != nil {
				g("{part=%q} %d", p.Name, of(p.outbox))
			}
		}
	}
	outbox("audit_outbox_depth", "gauge", "Events that wait at a node, or an authority, for a control process to take them.", func(f *pipeline.OutboxFigures) uint64 { return uint64(f.Waiting) })
	outbox("nyx_audit_events_given_up_total", "counter", "Events that were given up there: there was no room, or no control process takes them.", func(f *pipeline.OutboxFigures) uint64 { return f.Lost + f.Refused })
	for _, p := range parts {
		if p.control != nil {
			p.control.write(w, p.Name)
		}
	}
}

func (c *Control) write(w io.Writer, part string) {
	c.rates.WriteMetrics(w, part)
	for _, s := range c.cfg.Services {
		s.WriteMetrics(w, part)
	}
	c.served.write(w, part)
	c.policy.write(w, part)
	if s, ok := c.cfg.Settings.(*timedStore); ok {
		took := s.figures()
		times(family(w, "etcd_server_commit_duration", "histogram", "Seconds in which the store of the configuration had made a change durable."), part, "", &took)
	}
	ctx, cancel := context.WithTimeout(context.Background(), depthMost)
	defer cancel()
	if d, err := c.cfg.Bus.Depth(ctx); err == nil {
		depth := family(w, "audit_queue_depth", "gauge", "Events on the bus that are not in the compliance store.")
		for l, n := range d.Waiting {
			depth("{part=%q,lane=%q} %d", part, pipeline.Lane(l), n)
		}
		family(w, "audit_dead_letters", "gauge", "Messages on the bus that are delivered no more.")("{part=%q} %d", part, d.Dead)
	}
	f := c.pump.Figures()
	lanes := func(name, kind, help string, of func(pipeline.Lane) uint64) {
		g := family(w, name, kind, help)
		for l := range pipeline.NumLanes {
			g("{part=%q,lane=%q} %d", part, l, of(l))
		}
	}
	lanes("audit_slots", "gauge", "Batches that are brought to the compliance store at a time.", func(l pipeline.Lane) uint64 { return uint64(f.Slots[l]) })
	lanes("nyx_audit_recorded_total", "counter", "Events brought to the compliance store.", func(l pipeline.Lane) uint64 { return f.Recorded[l] })
	delay := family(w, "audit_delay_seconds", "histogram", "Seconds from when the bus took an event until the compliance store had it.")
	for l := range pipeline.NumLanes {
		times(delay, part, fmt.Sprintf(",lane=%q", l), &f.Delay[l])
	}
	times(family(w, "audit_incident_capture_latency", "histogram", "Seconds from an incident until the compliance store had it."), part, "", &f.Capture)
	count := func(name, help string, n uint64) { family(w, name, "counter", help)("{part=%q} %d", part, n) }
	count("nyx_audit_taken_total", "Events that the bus took.", c.counts.taken.Load())
	count("nyx_audit_refused_total", "Events that the bus did not take, for want of room or by a fault; nodes come again with them.", c.counts.refused.Load())
	count("nyx_audit_forged_total", "Batches with events that their node may not tell.", c.counts.forged.Load())
	count("nyx_audit_store_failures_total", "Times that the compliance store did not take a batch; it is tried again.", f.Failures)
}

func startConfiguredControl(cfg *setup.Config, keys *keyring, start func(ControlConfig) (*Control, error), level *slog.LevelVar, spans span.Recorder, log *slog.Logger) (*Control, error) {
	if start == nil {
		return nil, errNoServer
	}
	key, err := keys.control()
	if err != nil {
		return nil, err
	}
	issuer, err := configuredIssuer(cfg, keys)
	if err != nil {
		return nil, err
	}
	plane, err := keys.indexed(cfg.Plane)
	if err != nil {
		return nil, err
	}
	c := ControlConfig{
		Name: cfg.Name, Listen: plane.Listen.String(), Key: key, Trust: cfg.Network.Trust, Authorities: cfg.Directories, Poll: cfg.Poll,
		StateDir: cfg.State, Plane: plane, PolicySource: plane.Policy, Level: level, Log: log, Issuer: issuer, Spans: spans,
	}
	if plane.Store.Kind != setup.StoreNone {
		c.Operators, c.OperatorFile = plane.Operators.String(), filepath.Join(cfg.State, OperatorFileName)
	}
	return start(c)
}

// configuredIssuer is the issuer of unlinkable tokens that a configuration asks for, or
// nil. Identify is left to the program where an identity provider says who asks.
func configuredIssuer(cfg *setup.Config, keys *keyring) (*IssuerConfig, error) {
	p := &cfg.Plane.Passes
	if p.To == "" {
		return nil, nil
	}
	signer, err := keys.issuer()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(signer.Public(), cfg.Network.Issuer.Key) {
		return nil, fmt.Errorf("the network file names another issuer than the one whose key is in %s", keys.where())
	}
	i := &IssuerConfig{Network: cfg.Network.Trust.Network, Signer: signer, Life: p.Life, PerHour: p.PerHour, Class: p.To, Dir: filepath.Join(cfg.State, "passes")}
	if p.To == setup.PassesKey {
		i.Identify = identifyHolder(cfg.Network.PSK)
	}
	return i, nil
}
