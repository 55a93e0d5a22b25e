package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/console"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/governance"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/setup"
)

// served is a console that is served.
type served struct {
	*console.Console
	server   *http.Server
	listener net.Listener
	serving  sync.WaitGroup
	url      string // where browsers reach it
	file     string // by which its owner has links made; "": none are
}

// consoleFile is the name of that file, where nyx up keeps its data, and a control process
// what must outlive it.
const consoleFile = "console.json"

func consoleCommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:     "console",
		Short:   "Print a link that signs you in to the console",
		Long:    "Has the console of a running nyx up, or of a control process on this machine, make a link, which signs you in once, within 15 minutes, and prints it.",
		Example: "  nyx console\n  nyx console --data network/control-1/keys",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			link, err := askLink(cmd.Context(), data)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), link)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "directory that nyx up was given, or the state directory of a control process, which is that of its keys if nothing else is configured (default: nyx in your configuration directory)")
	return cmd
}

// askLink has a running console make a link.
func askLink(ctx context.Context, data string) (string, error) {
	dir, err := setup.DataDir(data)
	if err != nil {
		return "", err
	}
	file, err := daemon.LoadOperatorFile(filepath.Join(dir, consoleFile))
	if err != nil {
		return "", fmt.Errorf("%w; start nyx up, or name its directory, or that of a control process, with --data", err)
	}
	client, err := file.Client()
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, file.Address()+"/link", nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+file.Token)
	resp, err := client.Do(r)
	if err != nil {
		return "", fmt.Errorf("the console does not answer: %w; does the network run?", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(b)))
	}
	return file.Address() + string(b), err
}

// board serves the console of a network on a loopback address. beside is what runs
// beside its control process, nil without one.
func (f *upFlags) board(ctx context.Context, l *daemon.Local, beside *governed) (*served, error) {
	dir, err := setup.DataDir(f.data)
	if err != nil {
		return nil, err
	}
	return serveConsole(ctx, f.console, l, beside, dir, f.issuer)
}

// serveConsole serves a console that keeps evidence and its owner's file in a directory.
func serveConsole(ctx context.Context, addr string, l *daemon.Local, beside *governed, dir string, issuer consoleIssuer) (*served, error) {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("--console %s is not a loopback address with a port; the console has no TLS of its own", addr)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s for the console: %w; stop what uses it or choose another --console", addr, err)
	}
	at := "http://" + ln.Addr().String()
	cfg := console.Config{Network: &onShow{l}, Orders: &onShow{l}, Command: "nyx console"}
	if l.Control == nil {
		beside = nil
	}
	cfg = standing(cfg, l.Control, beside, dir)
	if issuer.url != "" {
		signsIn := &signingIn{consoleIssuer: issuer}
		if _, err = signsIn.endpoints(ctx); err == nil {
			cfg.OIDC, err = signsIn.oidc(at)
		}
	}
	if err != nil {
		ln.Close()
		return nil, err
	}
	s := &served{listener: ln, url: at, file: filepath.Join(dir, consoleFile)}
	if err := s.begin(cfg, at); err != nil {
		ln.Close()
		return nil, err
	}
	s.serve(console.NewServer(s.Console, nil))
	return s, nil
}

// standing has a console stand on what a control process has, both nil without one, and on
// the evidence of scenarios that is kept in a directory.
func standing(cfg console.Config, k *daemon.Control, beside *governed, dir string) console.Config {
	cfg.Entropy = drawing("console")
	cfg.Policy, cfg.Scenarios = &deciding{beside}, &shownLab{dir: filepath.Join(dir, evidenceDir)}
	if beside != nil {
		cfg.Record, cfg.Refused, cfg.Audit = k, k.TellRefusal, &auditing{beside, cfg.Entropy}
		if log := k.Settings(); log != nil {
			cfg.Settings = log
		}
	}
	return cfg
}

// begin makes the console, and the file by which its owner has links made at a URL.
func (s *served) begin(cfg console.Config, at string) (err error) {
	if s.file != "" {
		var token [32]byte
		cfg.Entropy(token[:])
		cfg.Owner = hex.EncodeToString(token[:])
		if err = (daemon.OperatorFile{URL: at, Token: cfg.Owner}).Save(s.file); err != nil {
			return err
		}
	}
	s.Console, err = console.New(cfg)
	return err
}

// serve begins to serve it, by TLS if the server has a certificate.
func (s *served) serve(server *http.Server) {
	s.server = server
	s.serving.Go(func() {
		if server.TLSConfig != nil {
			server.ServeTLS(console.Limit(s.listener, server), "", "")
			return
		}
		server.Serve(console.Limit(s.listener, server))
	})
}

// URL is the address of the console.
func (s *served) URL() string { return s.url + "/" }

// Link is where its owner signs in, once.
func (s *served) Link() string { return s.url + s.NewLink() }

// Close ends the console and all who watch.
func (s *served) Close() {
	s.Console.Close()
	s.server.Close()
	s.serving.Wait()
	if s.file != "" {
		os.Remove(s.file)
	}
}

// onShow is a network on this machine as the console sees it.
type onShow struct{ *daemon.Local }

// RotateKeys implements console.Network.
func (w *onShow) RotateKeys(now time.Time) error { return w.RotateFleet(now) }

// subject is somebody as the policy and the governance API know people.
func subject(who console.Person) *governance.Subject {
	return &governance.Subject{Name: who.Name, Role: governance.Role(who.Role), Org: who.Org, Clearance: who.Clearance}
}

// deciding decides by the policy of the control process; without one by the same policy
// as it is built in.
type deciding struct{ beside *governed }

// Decide implements console.Policy. What a console shows and changes is of the whole
// network, so that nobody of a single organisation sees or runs it.
func (d *deciding) Decide(ctx context.Context, who console.Person, a console.Action) (bool, string) {
	decider := governance.Decider(governance.Table{})
	if d.beside != nil {
		if err := d.beside.open(); err != nil {
			return false, err.Error()
		}
		decider = d.beside.rego
	}
	return decider.Decide(ctx, subject(who), governance.Action(a), &governance.Resource{AllOrgs: true})
}

// auditing asks the governance API of this process, by a bearer for each request.
type auditing struct {
	beside  *governed
	entropy func([]byte)
}

// ServeAs implements console.Audit.
func (a *auditing) ServeAs(w http.ResponseWriter, r *http.Request, who console.Person) {
	if err := a.beside.open(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	var drawn [16]byte
	a.entropy(drawn[:])
	r.Header.Set("Authorization", "Bearer "+governance.NewBearer(a.beside.key, subject(who), time.Now(), drawn))
	a.beside.api.ServeHTTP(w, r)
}

// shownLab is the lab as the console shows it.
type shownLab struct {
	dir  string
	once sync.Once
	lab  *lab.Lab
	err  error
}

func (s *shownLab) open() (*lab.Lab, error) {
	s.once.Do(func() { s.lab, s.err = openLab() })
	return s.lab, s.err
}

// Ledger implements console.Scenarios.
func (s *shownLab) Ledger() ([]console.ScenarioRow, error) {
	l, err := s.open()
	if err != nil {
		return nil, err
	}
	all, err := lab.ReadEvidence(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []console.ScenarioRow
	for _, r := range l.NewLedger(all).Rows {
		row := console.ScenarioRow{ID: r.Scenario, Title: r.Title, Mode: string(r.Mode), SLI: r.SLI, Verdict: r.Verdict, Reason: r.Reason,
			Objectives: r.Objectives, Measured: r.Measured, Control: r.Control, Done: true, Replay: r.Replay}
		for _, c := range r.Checks {
			row.Checks = append(row.Checks, console.ScenarioCheck(c))
			row.Done = row.Done && c.Done
		}
		out = append(out, row)
	}
	return out, nil
}

// Evidence implements console.Scenarios.
func (s *shownLab) Evidence(id string) ([]byte, error) {
	all, err := lab.ReadEvidence(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var last *lab.Evidence
	for _, e := range all {
		if e.Scenario == id {
			last = e
		}
	}
	if err != nil || last == nil {
		return nil, err
	}
	return json.MarshalIndent(last, "", "  ")
}

// Run implements console.Scenarios.
func (s *shownLab) Run(ctx context.Context, id string, progress func(string)) (string, error) {
	l, err := s.open()
	if err != nil {
		return "", err
	}
	e, err := runScenario(ctx, l, id, lab.Options{Seed: 1, Progress: progress})
	if err != nil {
		return "", err
	}
	_, err = e.Write(s.dir)
	return e.Verdict, err
}
