package setup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/seal"
)

// InitConfig says what network to make.
type InitConfig struct {
	// Network is its name.
	Network string
	// Streams, Mixes, Authorities and Replicas are how many nodes of each.
	Streams, Mixes, Authorities, Replicas int
	// Controls is how many control processes; zero for a network without a control
	// plane.
	Controls int
	// Threshold is how many authorities must sign; zero means more than half.
	Threshold int
	// Witnesses is how many watch the authorities' logs, more than half of which
	// must have seen a document; zero for a network without logs.
	Witnesses int
	// Regions spreads the nodes over that many regions; zero means 1.
	Regions int
	// Hosts are the addresses of the machines, used in turn. None means this
	// machine: each node gets a loopback network of its own where the system
	// has them, and a network label elsewhere.
	Hosts []netip.Addr
	// Port is the first UDP and TCP port; zero means DefaultPort. A host's
	// nodes have ports in a row.
	Port uint16
	// AllowPrivate lets exits open private and loopback targets.
	AllowPrivate bool
	// PSK makes a secret of the network's members.
	PSK bool
	// Passes has entries admit by unlinkable tokens only, which the first control
	// process issues: to who holds the PSK if there is one, or to everybody.
	Passes bool
	// Carriers lets entries take links by QUIC and WebSocket too: WebSocket at
	// the number of the node's UDP port, QUIC at ports after those of all nodes.
	Carriers bool
	// Probe is how often Stream nodes probe the network, and has Stream nodes, Mix nodes
	// and control processes keep traces; zero: never, and none.
	Probe time.Duration
	// Params are the network's; zero fields mean the defaults.
	Params directory.Params
	// Wall is the time, in seconds since 1970, from which onion keys count.
	Wall int64
	// Random is nil for the operating system's randomness.
	Random io.Reader
}

// DefaultPort is the first port of a new network.
const DefaultPort = 9400

// nodesMax is how many nodes one call makes: what ports and loopback networks
// of one machine hold.
const nodesMax = 200

// Initialized is what Init made: paths of the files to start nodes with.
type Initialized struct {
	NetworkFile string
	// Authorities, Witnesses, Replicas, Controls, Streams and Mixes are the
	// configuration files.
	Authorities, Witnesses, Replicas, Controls, Streams, Mixes []string
}

func (c *InitConfig) validate() error {
	switch {
	case !directory.ValidName(c.Network):
		return fmt.Errorf("network %q: a name is 1 to 64 of a-z, 0-9, dot, hyphen and underscore", c.Network)
	case c.Streams < 2 || c.Mixes < 3:
		return fmt.Errorf("%d Stream nodes and %d Mix nodes: a route needs at least 2 and 3", c.Streams, c.Mixes)
	case c.Streams+c.Mixes > nodesMax:
		return fmt.Errorf("%d nodes: at most %d are made at once", c.Streams+c.Mixes, nodesMax)
	case c.Authorities < 1 || c.Authorities > directory.MaxAuthorities:
		return fmt.Errorf("%d authorities: 1 to %d are possible", c.Authorities, directory.MaxAuthorities)
	case c.Replicas < 0 || c.Replicas > replicasMax:
		return fmt.Errorf("%d replicas: 0 to %d are possible", c.Replicas, replicasMax)
	case c.Controls < 0 || c.Controls > controlsMax:
		return fmt.Errorf("%d control processes: 0 to %d are possible", c.Controls, controlsMax)
	case c.Probe != 0 && (c.Probe < ProbeLeast || c.Probe > ProbeMost):
		return fmt.Errorf("a probe every %v: %v to %v are possible", c.Probe, ProbeLeast, ProbeMost)
	case c.Probe != 0 && c.Passes:
		return errors.New("probes have no unlinkable tokens, by which alone entries of this network admit: leave out one of the two")
	case c.Passes && c.Controls == 0:
		return errors.New("unlinkable tokens need a control process that issues them: ask for one or more")
	case c.Threshold < 1 || c.Threshold > c.Authorities:
		return fmt.Errorf("threshold %d of %d authorities makes no sense", c.Threshold, c.Authorities)
	case c.Witnesses < 0 || c.Witnesses > translog.MaxWitnesses:
		return fmt.Errorf("%d witnesses: 0 to %d are possible", c.Witnesses, translog.MaxWitnesses)
	case c.Regions < 1 || c.Regions > directory.MaxRegions:
		return fmt.Errorf("%d regions: 1 to %d are possible", c.Regions, directory.MaxRegions)
	case int(c.Port)+c.Ports() > 65535:
		return fmt.Errorf("port %d leaves no room for %d ports below 65536", c.Port, c.Ports())
	}
	return nil
}

// Ports is how many ports in a row the network has at the most.
func (c *InitConfig) Ports() int {
	n := c.Streams + c.Mixes + c.Authorities + c.Replicas + c.Controls + c.Witnesses
	if c.Carriers {
		n += c.Streams
	}
	return n + c.memberPorts()
}

// Init makes a network in dir, which must not exist or be empty: the keys and
// the configuration of every authority and node, and the network file for
// clients. Either all of it appears, or nothing.
//
//	network.toml             for everybody
//	members.txt              for the authorities: the nodes that may publish
//	controls.pem             for control processes, if they are three or more
//	authority-1/node.toml    and authority-1/keys/…
//	replica-1/node.toml      and replica-1/keys/…
//	control-1/node.toml      and control-1/keys/…
//	witness-1/node.toml      and witness-1/keys/…
//	stream-1/node.toml       and stream-1/keys/…
//	mix-1/node.toml          and mix-1/keys/…
func Init(dir string, c InitConfig) (*Initialized, error) {
	if c.Threshold == 0 {
		c.Threshold = c.Authorities/2 + 1
	}
	if c.Regions == 0 {
		c.Regions = 1
	}
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	dir = filepath.Clean(dir)
	if err := checkEmpty(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the network's directory: %w", err)
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), ".nyx-init-*")
	if err != nil {
		return nil, fmt.Errorf("cannot make the network's directory: %w", err)
	}
	defer os.RemoveAll(temporary)
	g := generator{InitConfig: c, dir: temporary, out: Initialized{NetworkFile: filepath.Join(dir, "network.toml")}}
	if err := g.run(dir); err != nil {
		return nil, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot replace the empty directory: %w", err)
	}
	if err := os.Rename(temporary, dir); err != nil {
		return nil, fmt.Errorf("cannot make the network's directory: %w", err)
	}
	return &g.out, nil
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look into the network's directory: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty; choose another directory, so that no key is lost", dir)
	}
	return nil
}

type generator struct {
	InitConfig
	dir     string // where files are written
	network Network
	members strings.Builder
	fleet   seal.Key
	placed  int // nodes and authorities that have an address
	// controls are the addresses of control processes.
	controls []netip.AddrPort
	out      Initialized
}

func (g *generator) run(dir string) error {
	defer g.fleet.Clear()
	if err := fill(g.Random, g.fleet[:]); err != nil {
		return err
	}
	g.network.Trust = directory.Trust{Network: g.Network, Threshold: g.Threshold}
	g.network.Params = g.Params
	if g.PSK {
		g.network.PSK = &seal.Key{}
		if err := fill(g.Random, g.network.PSK[:]); err != nil {
			return err
		}
	}
	g.members.WriteString("# The nodes that may publish in this network: ID and name.\n")
	var addresses []netip.AddrPort
	for range g.Authorities {
		a := g.place(false)
		addresses = append(addresses, a)
		g.network.Directories = append(g.network.Directories, "http://"+a.String())
	}
	if err := g.replicas(dir); err != nil {
		return err
	}
	if err := g.controlNodes(dir); err != nil {
		return err
	}
	for i, a := range addresses {
		if err := g.authority(dir, i, a); err != nil {
			return err
		}
	}
	for i := range g.Streams + g.Mixes {
		if err := g.node(dir, i); err != nil {
			return err
		}
	}
	for i := range g.Witnesses {
		if err := g.witness(dir, i); err != nil {
			return err
		}
	}
	if err := writeFile(filepath.Join(g.dir, "members.txt"), []byte(g.members.String()), 0o644, false); err != nil {
		return err
	}
	// A psk makes the network file a secret.
	mode := fs.FileMode(0o644)
	if g.PSK {
		mode = 0o600
	}
	return writeFile(filepath.Join(g.dir, "network.toml"), g.network.Encode(nil), mode, false)
}

// place gives the next node its address: the next port of its host. On this
// machine a node has a network of its own where the system has many loopback
// addresses; authorities share the first.
func (g *generator) place(node bool) netip.AddrPort {
	i := g.placed
	g.placed++
	port := g.Port + uint16(i)
	if len(g.Hosts) > 0 {
		return netip.AddrPortFrom(g.Hosts[i%len(g.Hosts)].Unmap(), port)
	}
	second := byte(0)
	if node && manyLoopbacks() {
		second = byte(i - g.Authorities - g.Replicas - g.Controls + 1)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, second, 0, 1}), port)
}

// manyLoopbacks reports whether all of 127.0.0.0/8 is this machine.
func manyLoopbacks() bool { return runtime.GOOS == "linux" || runtime.GOOS == "windows" }

func (g *generator) authority(dir string, i int, at netip.AddrPort) error {
	name := fmt.Sprintf("authority-%d", i+1)
	signer, err := MakeAuthorityKey(filepath.Join(g.dir, name, "keys"), g.Random)
	if err != nil {
		return err
	}
	g.network.Trust.Authorities = append(g.network.Trust.Authorities, signer.Public())
	var b strings.Builder
	g.head(&b, name, []string{"authority"})
	fmt.Fprintf(&b, "\n[authority]\nlisten = %q\nmembers = \"../members.txt\"\n", at)
	b.WriteString("peers = [")
	first := true
	for j, u := range g.network.Directories {
		if j == i {
			continue
		}
		if !first {
			b.WriteString(", ")
		}
		first = false
		fmt.Fprintf(&b, "%q", u)
	}
	b.WriteString("]\n")
	g.out.Authorities = append(g.out.Authorities, filepath.Join(dir, name, "node.toml"))
	return writeFile(filepath.Join(g.dir, name, "node.toml"), []byte(b.String()), 0o644, false)
}

// witness has the last ports, those of the carriers apart.
func (g *generator) witness(dir string, i int) error {
	name := fmt.Sprintf("witness-%d", i+1)
	signer, err := MakeWitnessKey(filepath.Join(g.dir, name, "keys"), g.Random)
	if err != nil {
		return err
	}
	at, t := g.place(false), &g.network.Trust
	t.Witnesses, t.WitnessThreshold = append(t.Witnesses, signer.Public()), g.Witnesses/2+1
	g.network.WitnessURLs = append(g.network.WitnessURLs, "http://"+at.String())
	var b strings.Builder
	g.head(&b, name, []string{"witness"})
	fmt.Fprintf(&b, "\n[witness]\nlisten = %q\n", at)
	g.out.Witnesses = append(g.out.Witnesses, filepath.Join(dir, name, "node.toml"))
	return writeFile(filepath.Join(g.dir, name, "node.toml"), []byte(b.String()), 0o644, false)
}

func (g *generator) node(dir string, i int) error {
	stream := i < g.Streams
	name, roles := fmt.Sprintf("mix-%d", i-g.Streams+1), []string{"mix"}
	if stream {
		name, roles = fmt.Sprintf("stream-%d", i+1), []string{"entry", "exit", "meeting"}
	}
	keys := filepath.Join(g.dir, name, "keys")
	made, err := MakeNodeKeys(keys, g.Params.OnionFrom(g.Params.EpochAt(g.Wall)), g.Random)
	if err != nil {
		return err
	}
	if stream {
		if err := writeSecret(filepath.Join(keys, FleetFile), kindFleet, g.fleet[:]); err != nil {
			return err
		}
	}
	fmt.Fprintf(&g.members, "%x %s\n", made.ID(), name)
	var b strings.Builder
	g.head(&b, name, roles)
	at := g.place(true)
	fmt.Fprintf(&b, "\n[relay]\nlisten = %q\noperator = \"operator-%d\"\nregion = \"region-%d\"\n", at, i+1, i%g.Regions+1)
	if len(g.Hosts) == 0 && !manyLoopbacks() {
		fmt.Fprintf(&b, "# All nodes share one address here: the label keeps their networks apart.\nlabel = %q\n", name)
	}
	fmt.Fprintf(&b, "# Sustained datagrams per second; paths are drawn by it.\ncapacity = %d\n", DefaultCapacity)
	if stream {
		fmt.Fprintf(&b, "\n[exit]\n# Whether loopback and private targets are opened.\nallow_private = %v\nports = [\"1-65535\"]\n", g.AllowPrivate)
		if g.Carriers {
			quic := netip.AddrPortFrom(at.Addr(), g.Port+uint16(g.Streams+g.Mixes+g.Authorities+g.Replicas+g.Controls+g.Witnesses+i))
			fmt.Fprintf(&b, "\n[carriers]\n# Where networks block UDP; best with port 443.\nquic = %q\nwebsocket = %q\n", quic, at)
		}
		g.out.Streams = append(g.out.Streams, filepath.Join(dir, name, "node.toml"))
	} else {
		g.out.Mixes = append(g.out.Mixes, filepath.Join(dir, name, "node.toml"))
	}
	return writeFile(filepath.Join(g.dir, name, "node.toml"), []byte(b.String()), 0o644, false)
}

func (g *generator) head(b *strings.Builder, name string, roles []string) {
	fmt.Fprintf(b, "# Start with: nyx node --config node.toml\nname = %q\nroles = [", name)
	for i, r := range roles {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(b, "%q", r)
	}
	b.WriteString("]\nnetwork = \"../network.toml\"\nkeys = \"keys\"\n\n[log]\nlevel = \"info\"\n")
	entry := slices.Contains(roles, "entry")
	if g.Probe > 0 && (entry || slices.Contains(roles, "mix") || slices.Contains(roles, "control")) {
		b.WriteString("\n[telemetry]\n# What nyx trace reads.\ntraces = true\n")
	}
	if g.Probe > 0 && entry {
		fmt.Fprintf(b, "# How often this node asks another one something through the network, to see whether it works.\nprobe = %q\n", g.Probe)
	}
}
