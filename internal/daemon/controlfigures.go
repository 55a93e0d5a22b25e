package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/metric"
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
func writeAudit(to *metric.Page, parts []part) {
	for _, p := range parts {
		if f := p.outbox; f != nil {
			to.Add("audit_outbox_depth", float64(f.Waiting), "part", p.Name)
			to.Add("nyx_audit_events_given_up_total", float64(f.Lost+f.Refused), "part", p.Name)
		}
		if p.control != nil {
			p.control.write(to, p.Name)
		}
	}
}

func (c *Control) write(to *metric.Page, part string) {
	c.rates.WriteMetrics(to, part)
	for _, s := range c.cfg.Services {
		s.WriteMetrics(to, part)
	}
	c.served.write(to, part)
	c.policy.write(to, part)
	if s, ok := c.cfg.Settings.(*timedStore); ok {
		took := s.figures()
		to.Distribute("etcd_server_commit_duration", metric.Times(&took), "part", part)
	}
	ctx, cancel := context.WithTimeout(context.Background(), depthMost)
	defer cancel()
	if d, err := c.cfg.Bus.Depth(ctx); err == nil {
		for l, n := range d.Waiting {
			to.Add("audit_queue_depth", float64(n), "part", part, "lane", pipeline.Lane(l).String())
		}
		to.Add("audit_dead_letters", float64(d.Dead), "part", part)
	}
	f := c.pump.Figures()
	for l := range pipeline.NumLanes {
		to.Add("audit_slots", float64(f.Slots[l]), "part", part, "lane", l.String())
		to.Add("nyx_audit_recorded_total", float64(f.Recorded[l]), "part", part, "lane", l.String())
		to.Distribute("audit_delay_seconds", metric.Times(&f.Delay[l]), "part", part, "lane", l.String())
	}
	to.Distribute("audit_incident_capture_latency", metric.Times(&f.Capture), "part", part)
	to.Add("nyx_audit_taken_total", float64(c.counts.taken.Load()), "part", part)
	to.Add("nyx_audit_refused_total", float64(c.counts.refused.Load()), "part", part)
	to.Add("nyx_audit_forged_total", float64(c.counts.forged.Load()), "part", part)
	to.Add("nyx_audit_store_failures_total", float64(f.Failures), "part", part)
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
	if err == nil {
		err = keys.copied(&plane.Copies)
	}
	if err != nil {
		return nil, err
	}
	c := ControlConfig{
		Name: cfg.Name, Listen: plane.Listen.String(), Key: key, Trust: cfg.Network.Trust, Authorities: cfg.Directories, Poll: cfg.Poll,
		Others: max(len(cfg.Controls)-1, 0), StateDir: cfg.State, Plane: plane, PolicySource: plane.Policy, Level: level, Log: log, Issuer: issuer, Spans: spans,
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
	i := &IssuerConfig{Network: cfg.Network.Trust.Network, Signer: signer, Life: p.Life, PerHour: p.PerHour, PerHourAll: p.PerHourAll, Class: p.To, Dir: filepath.Join(cfg.State, "passes")}
	if p.To == setup.PassesKey {
		i.Identify = identifyHolder(cfg.Network.PSK)
	}
	return i, nil
}
