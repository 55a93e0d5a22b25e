package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/console"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/mirror"
)

// fleetConsole is the console of a network on several machines, beside a control process:
// it is opened when that runs, and ends before the rest of what runs beside it.
type fleetConsole struct{ served *served } // nil: it is not configured, or not opened yet

// Close implements daemon.Service.
func (f *fleetConsole) Close() error {
	if f.served != nil {
		f.served.Close()
	}
	return nil
}

// WriteMetrics implements daemon.Service: it has none.
func (f *fleetConsole) WriteMetrics(*metric.Page, string) {}

// open serves the console of a control process that runs, if it is configured.
func (f *fleetConsole) open(k *daemon.Control, beside *governed, cfg *daemon.ControlConfig) error {
	c := &cfg.Plane.Console
	if !c.Listen.IsValid() {
		return nil
	}
	ln, err := net.Listen("tcp", c.Listen.String())
	if err != nil {
		return fmt.Errorf("cannot listen on %v for the console: %w; stop what uses it or choose another address", c.Listen, err)
	}
	s, err := openFleetConsole(ln, k, beside, cfg)
	if err != nil {
		ln.Close()
		return err
	}
	f.served = s
	beside.log.Info("console", "url", s.URL())
	if s.file == "" {
		return nil
	}
	if cli.Terminal(os.Stdout) && beside.log.Enabled(context.Background(), slog.LevelInfo) {
		// Not into the log, which others than the owner of this machine read.
		fmt.Printf("console %s (signs you in once, within %v; nyx console prints another)\n", s.Link(), console.LinkLife)
	} else {
		beside.log.Info("who may read the state directory has links to the console made", "command", "nyx console --data "+cfg.StateDir)
	}
	return nil
}

func openFleetConsole(ln net.Listener, k *daemon.Control, beside *governed, cfg *daemon.ControlConfig) (*served, error) {
	c, at := &cfg.Plane.Console, "http://"+ln.Addr().String()
	s := &served{listener: ln, url: at}
	conf := standing(console.Config{Network: k, Fleet: true, Log: beside.log}, k, beside, cfg.StateDir)
	if c.Listen.Addr().IsLoopback() {
		s.file, conf.Command = filepath.Join(cfg.StateDir, consoleFile), "nyx console --data DIR"
	}
	certificate, err := front.Issue(cfg.Key, time.Now())
	if c.Certificate != "" {
		certificate, err = front.Load(c.Certificate, c.Key)
	}
	if err != nil {
		return nil, fmt.Errorf("the console: %w", err)
	}
	if c.TLS() {
		pin, err := front.Pin(&certificate)
		if err != nil {
			return nil, err
		}
		s.url = "https://" + ln.Addr().String()
		at = mirror.Server{URL: s.url, Pin: pin, Replica: true}.String()
	}
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil {
			return nil, err
		}
		s.url, conf.Hosts = strings.TrimRight(c.URL, "/"), []string{u.Host}
	}
	if c.Issuer != "" {
		signsIn := &signingIn{consoleIssuer: consoleIssuer{c.Issuer, c.Client, c.Secret}}
		if conf.OIDC, err = signsIn.oidc(s.url); err != nil {
			return nil, err
		}
	}
	if err := s.begin(conf, at); err != nil {
		return nil, err
	}
	if c.TLS() {
		s.serve(console.NewServer(s.Console, &certificate))
	} else {
		s.serve(console.NewServer(s.Console, nil))
	}
	return s, nil
}
