package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/console"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/pack"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/wire"
)

// upFlags are the flags of nyx up.
type upFlags struct {
	data, socks, level, profile, ready, congestion, carrier string
	console                                                 string
	issuer                                                  consoleIssuer
	streams, mixes, regions, class, witnesses, control      int
	quiet, processes, metricsTraffic                        bool
	probe                                                   time.Duration
}

// readyTimeout is how long nyx up waits for its own network. On two cores it
// takes about a second.
const readyTimeout = 60 * time.Second

func upCommand() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a complete network on this machine",
		Long: `Run a complete network on this machine: directory authorities, Stream nodes and
Mix nodes, each with its own socket, and a client with a SOCKS5 and HTTP proxy.
It needs no root, no internet and no other program, and stops at an interrupt.

Its exits open private and loopback targets too, unlike those of a network that
strangers use.`,
		Example: "  nyx up\n  nyx up --level standard --socks 127.0.0.1:9150 --ready /run/nyx.json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runUp(cmd.Context(), f, cmd.OutOrStdout()) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.data, "data", "", "directory for the network's keys (default: nyx in your configuration directory)")
	fs.StringVar(&f.socks, "socks", "127.0.0.1:9150", "address of the SOCKS5 and HTTP proxy")
	fs.IntVar(&f.streams, "stream", 3, "number of Stream nodes")
	fs.IntVar(&f.mixes, "mix", 6, "number of Mix nodes")
	fs.IntVar(&f.witnesses, "witnesses", 3, "number of witnesses of the directory's log; 0: no log")
	fs.IntVar(&f.control, "control", 1, "number of control processes, which keep policy, configuration and the audit log in the data directory: 0 or 1")
	fs.IntVar(&f.regions, "regions", 0, "number of regions over which nodes are spread (default: what the level needs)")
	fs.StringVar(&f.level, "level", "fast", "anonymity level: fast, standard, high, extreme")
	fs.StringVar(&f.profile, "profile", "full", cli.ProfileHelp)
	fs.IntVar(&f.class, "class", 0, "pin the emission class of shaped routes, cells per second and direction (default: it moves with use)")
	fs.StringVar(&f.congestion, "congestion", "bbr", "congestion control: bbr, cubic, or fixed at 100 Mbit/s")
	fs.StringVar(&f.carrier, "carrier", "udp", "how the client's datagrams reach the entry: udp, auto (UDP, else what passes), quic, websocket")
	fs.StringVar(&f.ready, "ready", "", "write this JSON file when traffic can flow")
	fs.StringVar(&f.console, "console", "127.0.0.1:0", "loopback address of the console")
	fs.StringVar(&f.issuer.url, "console-issuer", "", "OpenID Connect issuer at which people sign in to the console (default: a link, which is printed)")
	fs.StringVar(&f.issuer.client, "console-client", "nyx-console", "the console's name at its issuer")
	fs.StringVar(&f.issuer.secretFile, "console-secret", "", "file with what the console shows its issuer (default: none, it is a public client)")
	fs.DurationVar(&f.probe, "probe", 0, "how often each Stream node probes the network, as in 1m, with traces for nyx trace (default: never)")
	fs.BoolVar(&f.metricsTraffic, "metrics-traffic", false, "have metrics tell content from cover, as metrics.traffic does: who reads them then knows how much is used and when, which cover hides (default: off)")
	fs.BoolVar(&f.quiet, "quiet", false, "print nothing but errors")
	fs.BoolVar(&f.processes, "processes", false, "run every node as a process of its own")
	return cmd
}

// local turns the flags into a network, or says which flag is wrong.
func (f *upFlags) local() (cfg daemon.LocalConfig, err error) {
	level, ok := wire.ParseLevel(f.level)
	if !ok {
		return cfg, cli.NoLevel(f.level)
	}
	profile, ok := wire.ParseProfile(f.profile)
	if !ok {
		return cfg, cli.NoProfile(f.profile)
	}
	if f.streams < 2 || f.mixes < level.Mixes() || f.streams+f.mixes > 200 {
		return cfg, fmt.Errorf("--stream %d --mix %d: level %v needs at least 2 Stream nodes and %d Mix nodes, and at most 200 fit one machine", f.streams, f.mixes, level, level.Mixes())
	}
	if f.class < 0 || f.class > cli.ClassMax {
		return cfg, fmt.Errorf("--class %d is out of range; use 1 to %d cells per second", f.class, cli.ClassMax)
	}
	if f.witnesses < 0 || f.witnesses > translog.MaxWitnesses {
		return cfg, fmt.Errorf("--witnesses %d is out of range; use 0 to %d", f.witnesses, translog.MaxWitnesses)
	}
	if f.control < 0 || f.control > 1 {
		return cfg, fmt.Errorf("--control %d is out of range; use 0 or 1 on one machine", f.control)
	}
	if f.probe != 0 && (f.probe < setup.ProbeLeast || f.probe > setup.ProbeMost) {
		return cfg, fmt.Errorf("--probe %v is out of range; use %v to %v", f.probe, setup.ProbeLeast, setup.ProbeMost)
	}
	if f.metricsTraffic && f.processes {
		return cfg, errors.New("--metrics-traffic has no effect with --processes, which serves no metrics; use one of them")
	}
	kind, ok := map[string]congestion.Kind{"bbr": congestion.BBR, "cubic": congestion.Cubic, "fixed": congestion.Fixed}[f.congestion]
	if !ok {
		return cfg, fmt.Errorf("--congestion %q is not known; use bbr, cubic or fixed", f.congestion)
	}
	if f.regions == 0 {
		f.regions = map[wire.Level]int{wire.High: 2, wire.Extreme: 3}[level]
	}
	streams := stream.Config{Congestion: kind}
	use, kinds, err := cli.Carrier(f.carrier, carriers)
	if err != nil {
		return cfg, err
	}
	var offered []joint.Kind
	if use != joint.UDP {
		offered = carriers
	}
	return daemon.LocalConfig{
		Streams: f.streams, Mixes: f.mixes, Socks: f.socks, Regions: f.regions, Witnesses: f.witnesses,
		Class: obfs.Class(f.class), Stream: streams, Carriers: offered, Use: use, UseCarriers: kinds,
		Traffic: f.metricsTraffic, Compress: new(pack.Codec), Probe: daemon.ProbeConfig{Every: f.probe, Level: level}, Meter: startMeter,
		Client: client.Config{Level: level, Profile: profile, Class: obfs.Class(f.class), Stream: streams},
	}, nil
}

func runUp(ctx context.Context, f upFlags, out io.Writer) error {
	cfg, err := f.local()
	if err != nil {
		return err
	}
	say := func(format string, args ...any) {
		if !f.quiet {
			fmt.Fprintf(out, format+"\n", args...)
		}
	}
	if f.processes {
		return runProcesses(ctx, f, cfg, say)
	}
	if cfg.Seed, err = setup.LoadOrMakeSeed(f.data); err != nil {
		return err
	}
	var beside *governed
	if err := f.audited(&cfg, &beside, say); err != nil {
		return err
	}
	if f.probe > 0 {
		file, err := f.traced(say)
		if err != nil {
			return err
		}
		defer file.Close()
		cfg.Spans = file
	}
	begun := time.Now()
	local, err := daemon.StartLocal(cfg)
	if err != nil {
		return err
	}
	stopping := false
	defer func() {
		if !stopping { // else closing it was given all the time there is
			local.Close()
		}
	}()
	status, err := daemon.ServeStatus("127.0.0.1:0", local)
	if err != nil {
		return err
	}
	defer status.Close()
	board, err := f.board(ctx, local, beside)
	if err != nil {
		return err
	}
	defer board.Close()
	shows, err := local.ServeStanding(cli.Shown(), f.level)
	if err != nil {
		say("%v", err)
	}
	defer shows.Close()
	say("starting %d Stream nodes and %d Mix nodes, level %s", f.streams, f.mixes, f.level)
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := local.Client.WaitReady(waiting); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("the network is not ready after %v: %w", readyTimeout, err)
	}
	if f.ready != "" {
		if err := setup.WriteReady(f.ready, setup.Ready{Socks: local.Socks(), Console: board.URL(), Metrics: status.URL() + "metrics", PID: os.Getpid()}); err != nil {
			return err
		}
		defer os.Remove(f.ready)
	}
	say("ready after %v", time.Since(begun).Round(time.Millisecond))
	say("proxy  %s (SOCKS5 and HTTP)", local.Socks())
	say("console %s (signs you in once, within %v; nyx console prints another)", board.Link(), console.LinkLife)
	say("metrics %smetrics", status.URL())
	say("try    curl --socks5-hostname %s http://example.com/", local.Socks())
	select {
	case <-ctx.Done():
		say("stopping")
		stopping = true
		return closeWithin(local.Close, stopTimeout)
	case <-local.Client.Done():
		return errors.New("the client stopped by itself; this is a defect, please report it")
	}
}

// stopTimeout is within what the contract gives a network to stop: 5 s.
const stopTimeout = 4 * time.Second

// closeWithin closes, and gives up waiting after a time: a process that was
// asked to stop must stop.
func closeWithin(close func() error, d time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		return fmt.Errorf("some parts did not stop within %v; they end with the process", d)
	}
}
