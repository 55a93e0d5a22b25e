package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/telemetry/span"
)

// part of a process that may stop by itself.
type running struct {
	name string
	done <-chan struct{}
	err  func() error
	stop func() error
}

// Run runs the roles of a configuration until ctx ends. Its log names parts and
// their state, never who uses them for what; lines that say the same again are left
// out (telemetry.Lines). kinds are the carriers that the
// program has beside UDP, compress how its exit compresses streams that ask for it,
// or nil, servers what it has of the directory.
func Run(ctx context.Context, cfg *setup.Config, kinds []joint.Kind, compress Compressor, servers Servers, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := telemetry.NewLines(log.Handler())
	log = slog.New(lines)
	var parts []running
	defer func() {
		for i := len(parts) - 1; i >= 0; i-- {
			if err := parts[i].stop(); err != nil {
				log.Warn("stopped with an error", "part", parts[i].name, "why", err)
			}
		}
	}()
	keys, err := openKeyring(cfg, servers.Secrets)
	if err != nil {
		return err
	}
	defer keys.close()
	push, err := keys.pushing(cfg, servers.Push != nil && servers.Spans != nil, log)
	if err != nil {
		return err
	}
	traces, err := openTraces(&cfg.Telemetry, cfg.State, push, servers.Spans, log)
	if err != nil {
		return err
	}
	parts = append(parts, running{name: "traces", stop: traces.close})
	var node *Node
	var counted []func() part
	var fromProxy *proxy.Counts
	if cfg.Authority {
		a, err := startConfigured(cfg, keys, servers.Authority, log.With("part", "authority"))
		if err != nil {
			return err
		}
		keys.events.to(a.teller.record)
		parts = append(parts, running{name: "authority", stop: func() error { a.Close(); return nil }})
		counted = append(counted, a.part)
		log.Info("directory authority", "url", a.URL())
	}
	if cfg.Witness {
		w, err := startConfiguredWitness(cfg, keys, servers.Witness, log.With("part", "witness"))
		if err != nil {
			return err
		}
		parts = append(parts, running{name: "witness", stop: func() error { w.Close(); return nil }})
		counted = append(counted, w.part)
		log.Info("witness", "url", w.URL())
	}
	if cfg.Control {
		c, err := startConfiguredControl(cfg, keys, servers.Control, servers.Level, traces.recorder(), log.With("part", "control"))
		if err != nil {
			return err
		}
		keys.events.to(c.record)
		parts = append(parts, running{name: "control", stop: c.Close})
		counted = append(counted, c.part)
		log.Info("control process", "url", c.URL())
	}
	if cfg.Replica {
		r, err := startConfiguredReplica(cfg, keys, servers.Replica, log.With("part", "replica"))
		if err != nil {
			return err
		}
		parts = append(parts, running{name: "replica", stop: r.Close})
		counted = append(counted, r.part)
		log.Info("directory replica", "url", r.URL())
	}
	if cfg.Roles != 0 {
		n, err := startConfiguredNode(cfg, keys, kinds, compress, servers, traces.recorder(), log.With("part", "node"))
		if err != nil {
			return err
		}
		keys.events.to(n.teller.record)
		node = n
		parts = append(parts, running{"node", n.Done(), n.Failure, n.Close})
		counted = append(counted, n.part)
		log.Info("node", "name", cfg.Name, "roles", cfg.Roles.String(), "address", n.Addr().String())
		go announce(ctx, n.Listed(), log, "the directory lists this node; traffic can flow")
		go keepTrimmed(ctx)
	}
	if cfg.Client {
		p, err := StartProxy(ProxyConfig{
			Network: cfg.Network, Directories: cfg.Directories, Replicas: cfg.Replicas, Log: log.With("part", "client"), Poll: cfg.Poll, StateDir: cfg.State,
			Wallet: cfg.Proxy.Wallet,
			Client: client.Config{Level: cfg.Proxy.Level, Profile: cfg.Proxy.Profile, Region: cfg.Proxy.Region, HighPorts: cfg.Proxy.High, LowPorts: cfg.Proxy.Low, Stream: stream.Config{KEM: cfg.KEM}}, Socks: cfg.Proxy.Socks.String(), Carriers: kinds,
		})
		if err != nil {
			return err
		}
		parts = append(parts, running{"proxy", p.Client.Done(), p.Client.host.Err, p.Close})
		counted = append(counted, p.Client.part)
		fromProxy = &p.Counts
		log.Info("proxy (SOCKS5 and HTTP)", "address", p.Addr(), "level", cfg.Proxy.Level.String())
		go announce(ctx, p.Client.Ready(), log, "routes stand; the proxy is ready")
	}
	all := func() (out []part) {
		for _, p := range counted {
			out = append(out, p())
		}
		return out
	}
	src := &source{meter: servers.Meter, more: append(servers.Figures, traces.figures), proxy: fromProxy, lines: lines, traffic: cfg.Traffic, usage: newUsage(), parts: all}
	if push.Used() {
		p, err := servers.Push(push, src.page)
		if err != nil {
			return err
		}
		src.add(p.Figures)
		parts = append(parts, running{name: "push", stop: p.Close})
	}
	if cfg.Metrics.IsValid() {
		s, err := serveMetrics(cfg.Metrics.String(), src)
		if err != nil {
			return err
		}
		parts = append(parts, running{name: "metrics", stop: func() error { s.Close(); return nil }})
		log.Info("metrics", "url", s.URL()+"metrics")
	}
	if servers.Standing != "" {
		about := standingOf("node", &cfg.Network.Trust)
		about.Log = cfg.LogFile
		if about.Name = cfg.Name; cfg.Client {
			about.Level, about.Socks = cfg.Proxy.Level.String(), cfg.Proxy.Socks.String()
		}
		s, err := serveStanding(servers.Standing, newBeholder(about, all))
		if err != nil {
			log.Info("no standing is shown", "why", err)
		}
		defer s.Close()
	}
	if err := wait(ctx, parts); err != nil || node == nil {
		return err
	}
	if drain := node.drainTime(cfg.Relay.Drain); drain > 0 {
		return drainNode(node, drain, parts, log)
	}
	return nil
}

// wait returns when ctx ends, or with the error of the first part that stops.
func wait(ctx context.Context, parts []running) error {
	failed := make(chan error, len(parts))
	for _, p := range parts {
		if p.done == nil {
			continue
		}
		go func() {
			select {
			case <-p.done:
				failed <- fmt.Errorf("the %s stopped by itself: %w", p.name, p.err())
			case <-ctx.Done():
			}
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// announce says when something has come about. Why it has not meanwhile the parts
// say themselves.
func announce(ctx context.Context, come <-chan struct{}, log *slog.Logger, what string) {
	select {
	case <-ctx.Done():
	case <-come:
		log.Info(what)
	}
}

// Servers are the roles of a program that serve the directory, StartAuthority,
// StartReplica, StartWitness and StartControl, and what else runs on engines: nil is
// what it lacks.
type Servers struct {
	Authority func(AuthorityConfig) (*Authority, error)
	Replica   func(ReplicaConfig) (*Replica, error)
	Witness   func(WitnessConfig) (*Witness, error)
	Control   func(ControlConfig) (*Control, error)
	// Meter serves the metrics, nil: as text; Figures fill pages with what the program
	// adds to them.
	Meter   StartMeter
	Figures []func(*metric.Page)
	// Level is that of the program's log, which the configuration of the network may
	// change; nil: it may not.
	Level *slog.LevelVar
	// Secrets opens the store behind secret:// references, which is the caller's to
	// close.
	Secrets func(*setup.SecretsConfig) (secret.Store, error)
	// Records opens the session records of a fleet, at a place as the configuration
	// has it.
	Records func(where string) (records.Store, error)
	// Spans pushes spans, Push pages of metrics that it has read.
	Spans func(PushConfig) (Exporter, error)
	Push  func(cfg PushConfig, read func() *metric.Page) (Pusher, error)
	// Standing is the directory in which the process shows itself to nyx status; "":
	// it does not.
	Standing string
}

var errNoServer = errors.New("this program does not serve; use nyx for the roles authority, replica, witness and control")

func startConfigured(cfg *setup.Config, keys *keyring, start func(AuthorityConfig) (*Authority, error), log *slog.Logger) (*Authority, error) {
	if start == nil {
		return nil, errNoServer
	}
	signer, err := keys.authority()
	if err != nil {
		return nil, err
	}
	if _, ok := place(&cfg.Network.Trust, signer.Public()); !ok {
		return nil, fmt.Errorf("the network file does not name the authority whose key is in %s", keys.where())
	}
	return start(AuthorityConfig{
		Network: cfg.Network.Trust.Network, Listen: cfg.Serve.Listen.String(), Signers: []*seal.Signer{signer},
		Threshold: cfg.Network.Trust.Threshold, Total: len(cfg.Network.Trust.Authorities),
		Peers: cfg.Serve.Peers, Params: cfg.Network.Params, Trust: cfg.Network.Trust,
		Members: cfg.Serve.Member, StateDir: cfg.State, State: cfg.Serve.Store, Log: log, WitnessURLs: cfg.Network.WitnessURLs, Controls: cfg.Controls,
	})
}

func startConfiguredNode(cfg *setup.Config, ring *keyring, kinds []joint.Kind, compress Compressor, servers Servers, spans span.Recorder, log *slog.Logger) (*Node, error) {
	keys, err := ring.node()
	if err != nil {
		return nil, err
	}
	if keys.Fleet == nil && cfg.Roles.Has(directory.RoleEntry) {
		return nil, fmt.Errorf("no fleet key in %s: a Stream node needs the one that its fleet shares", ring.where())
	}
	shared, err := openRecords(cfg, servers.Records)
	if err != nil {
		return nil, err
	}
	var issuer setup.Issuer
	if cfg.Network.Issuer != nil {
		issuer = *cfg.Network.Issuer
	}
	n, err := StartNode(NodeConfig{
		Issuer: issuer.Key, PassesRequired: issuer.Required,
		Name: cfg.Name, Network: cfg.Network.Trust.Network, Roles: cfg.Roles,
		Listen: cfg.Relay.Listen, Advertise: cfg.Relay.Advertise, Operator: cfg.Relay.Operator, Region: cfg.Relay.Region,
		Label: cfg.Relay.Label, Capacity: cfg.Relay.Capacity, Ways: cfg.Relay.Workers,
		Identity: keys.Identity, Link: keys.Link, Onions: ring.onions(), Params: cfg.Network.Params,
		Fleet: keys.Fleet, LoadFleet: ring.fleet, StateDir: cfg.State, Stream: stream.Config{KEM: cfg.KEM},
		Trust: cfg.Network.Trust, Directories: cfg.Directories, Replicas: cfg.Replicas, Controls: cfg.Controls, Poll: cfg.Poll,
		Policy: control.Policy{NetworkKey: cfg.Network.PSK, PerSecond: admittedPerSecond, WorkMost: admissionWorkMost}, Exit: cfg.Exit, Compress: compress, Log: log, Level: servers.Level,
		Carriers: EntryCarriers{Kinds: kinds, Listen: cfg.Entry.Listen, Name: cfg.Entry.Name, Certificate: cfg.Entry.Certificate, Key: cfg.Entry.Key},
		Records:  shared,
		Probe:    ProbeConfig{Every: cfg.Telemetry.Probe, Level: cfg.Telemetry.ProbeLevel}, Spans: spans,
	}, systemEntropy())
	if err != nil && shared != nil {
		shared.Close()
	}
	return n, err
}

// ProxyConfig is a client of an existing network, with its front door.
type ProxyConfig struct {
	Network     *setup.Network
	Directories []string // empty: the network's, and its replicas
	Replicas    []string
	Log         *slog.Logger // nil: none
	Poll        time.Duration
	StateDir    string // where the mark of the newest document is kept; "" for none
	Client      client.Config
	Socks       string // address of the front door
	// Listen is the UDP address to send from; zero is any.
	Listen   netip.AddrPort
	Use      joint.Use
	Carriers []joint.Kind // beside UDP
	// Wallet is the directory of unlinkable tokens, "" for none; PassOrder says how
	// more are fetched while the proxy runs, nil that they are not.
	Wallet    string
	PassOrder *PassOrder
}

// Proxy is a running client with its front door.
type Proxy struct {
	Client *Client
	Counts proxy.Counts

	listener net.Listener
	cancel   context.CancelFunc
	served   chan error
}

// StartProxy starts a client and its front door.
func StartProxy(cfg ProxyConfig) (*Proxy, error) {
	ln, err := net.Listen("tcp", cfg.Socks)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s for the proxy: %w; stop what uses it or choose another address", cfg.Socks, err)
	}
	if cfg.Directories == nil {
		cfg.Directories, cfg.Replicas = cfg.Network.Directories, cfg.Network.Replicas
	}
	wallet, err := credentials(&cfg.Client, cfg.Network, cfg.Wallet)
	if err != nil {
		ln.Close()
		return nil, err
	}
	if cfg.PassOrder != nil {
		cfg.PassOrder.Network, cfg.PassOrder.Wallet = cfg.Network, wallet
	}
	p := &Proxy{listener: ln, served: make(chan error, 1)}
	p.Client, err = StartClient(ClientConfig{
		Client: cfg.Client, Trust: cfg.Network.Trust, Directories: cfg.Directories, Replicas: cfg.Replicas, Poll: cfg.Poll, StateDir: cfg.StateDir, Log: cfg.Log,
		Listen: cfg.Listen, Use: cfg.Use, Carriers: cfg.Carriers, Wallet: wallet, Order: cfg.PassOrder,
	}, systemEntropy())
	if err != nil {
		ln.Close()
		return nil, err
	}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	go func() { p.served <- proxy.Serve(ctx, ln, p.Client, proxy.Options{Counts: &p.Counts}) }()
	return p, nil
}

// Addr is the address of the front door.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close closes the front door, then the client.
func (p *Proxy) Close() error {
	p.cancel()
	return errors.Join(<-p.served, p.Client.Close())
}
