package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/telemetry/span"
	"github.com/nyxnet/nyx/internal/wire"
)

// LocalConfig is a complete network on this machine.
type LocalConfig struct {
	// Seed is what all keys of the network derive from. Entropy, if set, is
	// what every run-time draw derives from; nil is the operating system.
	Seed    [prng.SeedSize]byte
	Entropy *prng.Source
	Streams int // Stream nodes; at least 2
	Mixes   int // Mix nodes; at least 3
	Client  client.Config
	Stream  stream.Config // of the Stream nodes
	// Traffic has the metrics tell content from cover; Meter serves them, nil: as text.
	Traffic bool
	Meter   StartMeter
	Class   obfs.Class // pins the emission class at the Stream nodes
	// Socks is where the proxy listens, "" for none.
	Socks string
	// Regions spreads the nodes over that many regions; 0 means 1.
	Regions int
	// Witnesses watch the authority's log; 0 means that there is none.
	Witnesses int
	// NoPrivate makes exits refuse private targets, as they do elsewhere.
	NoPrivate bool
	// Carriers are what the entries have beside UDP; Use and UseCarriers are
	// what the client makes of them.
	Carriers    []joint.Kind
	Use         joint.Use
	UseCarriers []joint.Kind
	// Control starts the control process with the engines of the program; nil: there is
	// none, and each node decides by itself. ControlDir is where it keeps what it has,
	// OperatorFile where operators find it; "": they do not.
	Control                  func(ControlConfig) (*Control, error)
	ControlDir, OperatorFile string
	// Probe is how Stream nodes probe the network, Spans takes what traces are made of;
	// see NodeConfig.
	Probe ProbeConfig
	Spans span.Recorder
	// Compress is how exits compress streams that ask for it; nil: not at all.
	Compress Compressor

	block func(drive.Carrier) drive.Carrier // for tests: see ClientConfig
	// records are, for tests, the session records of all Stream nodes.
	records records.Store
	// telemetry is, for tests, NodeConfig.Telemetry of all nodes.
	telemetry func(ctx context.Context, body []byte) error
	// issuer, for tests, issues the unlinkable tokens that entries then require, of
	// which the client shows those of wallet.
	issuer *IssuerConfig
	wallet *Wallet
}

// LocalName is the name of a network on this machine, LocalControl that of its control
// process.
const (
	LocalName    = localName
	LocalControl = "control"
)

const (
	localName        = "local"
	localAuthorities = 3
	localThreshold   = 2
	localPoll        = 2 * time.Second
	localCapacity    = 100_000
)

// Local is a running network on this machine: directory authorities, Stream
// nodes, Mix nodes, each with its own socket, and a client with a proxy.
type Local struct {
	Authority *Authority
	Witnesses []*Witness
	Control   *Control // nil: none
	Nodes     []*Node  // Stream nodes first
	Client    *Client
	Proxy     proxy.Counts

	trust    directory.Trust
	traffic  bool
	meter    StartMeter
	level    wire.Level // of the client
	rotating sync.Mutex
	rotated  time.Time           // when the fleet key was, under rotating
	starting chan startedControl // nil: there is none, or it has started
	listener net.Listener
	cancel   context.CancelFunc
	running  sync.WaitGroup
	proxyErr error
}

// StartLocal starts a network. It returns when everything runs, which is
// before traffic can flow: wait for Client.Ready.
func StartLocal(cfg LocalConfig) (*Local, error) {
	if cfg.Streams < 2 || cfg.Mixes < cfg.Client.Level.Mixes() {
		return nil, fmt.Errorf("level %v needs at least 2 Stream nodes and %d Mix nodes; %d and %d were asked for",
			cfg.Client.Level, cfg.Client.Level.Mixes(), cfg.Streams, cfg.Mixes)
	}
	entropy := systemEntropy()
	if cfg.Entropy != nil {
		entropy = *cfg.Entropy
	}
	l := &Local{traffic: cfg.Traffic, meter: cfg.Meter, level: cfg.Client.Level}
	if err := l.start(cfg, entropy); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Local) start(cfg LocalConfig, entropy prng.Source) error {
	if cfg.Socks != "" {
		ln, err := net.Listen("tcp", cfg.Socks)
		if err != nil {
			return fmt.Errorf("cannot listen on %s for SOCKS: %w; stop what uses it or choose another --socks", cfg.Socks, err)
		}
		l.listener = ln
	}
	keys := prng.New(cfg.Seed)
	signers := make([]*seal.Signer, localAuthorities)
	trust := directory.Trust{Network: localName, Threshold: localThreshold}
	for i := range signers {
		var err error
		if signers[i], err = newSigner(keys, "authority/"+strconv.Itoa(i)); err != nil {
			return err
		}
		trust.Authorities = append(trust.Authorities, signers[i].Public())
	}
	urls, err := l.startWitnesses(cfg.Witnesses, keys, &trust)
	if err != nil {
		return err
	}
	l.Authority, err = StartAuthority(AuthorityConfig{
		Network: localName, Listen: "127.0.0.1:0", Signers: signers,
		Threshold: localThreshold, Total: localAuthorities, Trust: trust, WitnessURLs: urls,
	})
	if err != nil {
		return err
	}
	l.trust = trust
	urls = []string{l.Authority.URL()}
	controls, err := l.startControl(&cfg, keys)
	if err != nil {
		return err
	}
	clock, workers := drive.NewClock(), drive.NewWorkers(0)
	for i := range cfg.Streams + cfg.Mixes {
		node, err := localNode(cfg, i, keys, l.Authority.Params())
		if err != nil {
			return err
		}
		node.Trust, node.Directories, node.Controls, node.Clock, node.Workers = trust, urls, controls, clock, workers
		node.Compress, node.Telemetry, node.Probe, node.Spans = cfg.Compress, cfg.telemetry, cfg.Probe, cfg.Spans
		if i < cfg.Streams {
			node.Records = cfg.records
		}
		n, err := StartNode(node, entropy.Child(node.Name))
		if err != nil {
			return err
		}
		l.Nodes = append(l.Nodes, n)
	}
	l.Client, err = StartClient(ClientConfig{
		Client: cfg.Client, Trust: trust, Directories: urls, Poll: localPoll, Listen: loopback(0), Clock: clock,
		Use: cfg.Use, Carriers: cfg.UseCarriers, block: cfg.block, Wallet: cfg.wallet,
	}, entropy.Child("client"))
	if err != nil {
		return err
	}
	if err := l.awaitControl(); err != nil {
		return err
	}
	l.serveProxy()
	return nil
}

// WriteNetwork writes the network file by which clients join.
func (l *Local) WriteNetwork(path string) error {
	n := setup.Network{WitnessURLs: l.witnessURLs(), Trust: l.trust, Directories: []string{l.Authority.URL()}, Params: l.Authority.Params()}
	names := make([]string, len(l.trust.Authorities))
	for i := range names {
		names[i] = "authority-" + strconv.Itoa(i+1)
	}
	return os.WriteFile(path, n.Encode(names), 0o644)
}

// AddClient starts another client of the network, which the caller closes.
func (l *Local) AddClient(cfg client.Config) (*Client, error) {
	return StartClient(ClientConfig{
		Client: cfg, Trust: l.trust, Directories: []string{l.Authority.URL()}, Listen: loopback(0),
	}, systemEntropy())
}

// localNode is the configuration of node i: Stream nodes come first.
func localNode(cfg LocalConfig, i int, keys prng.Source, params directory.Params) (NodeConfig, error) {
	name, roles := "stream-"+strconv.Itoa(i), directory.RoleEntry|directory.RoleExit|directory.RoleMeeting
	if i >= cfg.Streams {
		name, roles = "mix-"+strconv.Itoa(i-cfg.Streams), directory.RoleMix
	}
	listen := loopback(i + 1)
	c := NodeConfig{
		Name: name, Network: localName, Roles: roles, Listen: listen, Operator: "operator-" + strconv.Itoa(i),
		Region: "region-" + strconv.Itoa(i%max(cfg.Regions, 1)), Capacity: localCapacity, Poll: localPoll,
		Exit: directory.ExitPolicy{Private: !cfg.NoPrivate, Ports: []directory.PortRange{{First: 1, Last: 65535}}}, Stream: cfg.Stream, Class: cfg.Class,
	}
	if i < cfg.Streams && len(cfg.Carriers) > 0 {
		c.Carriers = EntryCarriers{Kinds: cfg.Carriers, Listen: make(map[directory.CarrierKind]netip.AddrPort)}
		for _, k := range cfg.Carriers {
			c.Carriers.Listen[k.Kind] = listen
		}
	}
	if cfg.issuer != nil {
		c.Issuer, c.PassesRequired = cfg.issuer.Signer.Public(), true
	}
	if runtime.GOOS != "linux" {
		c.Label = name // one loopback address for all: the label tells networks apart
	}
	var err error
	if c.Identity, err = newSigner(keys, name+"/identity"); err != nil {
		return c, err
	}
	if c.Link, err = newKEM(keys, name+"/link"); err != nil {
		return c, err
	}
	c.Params = params
	c.Onions = freshOnions{}
	fleet := seal.Key{}
	keys.Stream("fleet").Read(fleet[:])
	c.Fleet = &fleet
	return c, nil
}

// loopback is an address of this machine. On Linux all of 127.0.0.0/8 is, and
// each node gets a network (/16) of its own.
func loopback(i int) netip.AddrPort {
	a := [4]byte{127, 0, 0, 1}
	if runtime.GOOS == "linux" && i > 0 {
		a[1] = byte(i)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(a), 0)
}

func newSigner(keys prng.Source, label string) (*seal.Signer, error) {
	var seed [seal.SignSeedSize]byte
	keys.Stream(label).Read(seed[:])
	defer clear(seed[:])
	return seal.NewSigner(&seed)
}

func newKEM(keys prng.Source, label string) (*seal.KEMPrivate, error) {
	var seed [seal.KEMSeedSize]byte
	keys.Stream(label).Read(seed[:])
	defer clear(seed[:])
	return seal.NewKEMPrivate(&seed)
}

func (l *Local) serveProxy() {
	if l.listener == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.running.Add(1)
	go func() {
		defer l.running.Done()
		l.proxyErr = proxy.Serve(ctx, l.listener, l.Client, proxy.Options{Counts: &l.Proxy})
	}()
}

// Socks is the address of the proxy, or "".
func (l *Local) Socks() string {
	if l.listener == nil {
		return ""
	}
	return l.listener.Addr().String()
}

// Close stops everything, the front door first.
func (l *Local) Close() error {
	if l.cancel != nil {
		l.cancel()
	} else if l.listener != nil {
		l.listener.Close()
	}
	l.running.Wait()
	errs := []error{l.proxyErr, l.awaitControl()}
	if l.Client != nil {
		errs = append(errs, l.Client.Close())
	}
	for _, n := range l.Nodes {
		errs = append(errs, n.Close())
	}
	if l.Control != nil {
		errs = append(errs, l.Control.Close())
	}
	if l.Authority != nil {
		l.Authority.Close()
	}
	for _, w := range l.Witnesses {
		w.Close()
	}
	return errors.Join(errs...)
}
