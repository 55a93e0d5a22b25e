package setup

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Config is what `nyx node` runs: any set of roles. Paths in it are absolute
// or relative to the working directory; in the file they are relative to the
// file.
type Config struct {
	// Name is for people and logs.
	Name string
	// Roles are the node's roles in the directory; zero for none. Authority
	// and Client say whether those run here too.
	Roles                      directory.Roles
	Authority, Replica, Client bool
	// Control says that a process of the control plane runs here, as Plane says.
	Control bool
	Plane   ControlConfig
	// Witness says that a witness runs here, at WitnessAt.
	Witness   bool
	WitnessAt netip.AddrPort
	// Network is the network that the node belongs to.
	Network *Network
	// Keys is the directory of the key files; "" for none, or if they are in the
	// store of Secrets. State is that of what must outlive the process, and the same
	// if nothing else is written.
	Keys, State string
	// Secrets is the store of keys that are references.
	Secrets SecretsConfig
	// Directories are the URLs to fetch documents from and publish to.
	Directories []string
	// Replicas are the URLs of replicas, which are asked for documents first.
	Replicas []string
	// Controls are the URLs of the control plane, to which nodes and authorities
	// tell events; none is a network without one.
	Controls []string
	// Poll is how often a new document is looked for. Zero means the default.
	Poll time.Duration

	Relay   RelayConfig
	Exit    directory.ExitPolicy
	Entry   CarrierConfig
	Serve   AuthorityConfig
	Records string // of a Stream node: see recordsTable
	// Replicate is of a replica.
	Replicate ReplicaConfig
	Proxy     ProxyConfig
	// KEM is the strongest KEM of sessions that end here or begin here.
	KEM     seal.KEM
	Metrics netip.AddrPort // of the metrics endpoint; invalid means none
	// Traffic has metrics tell content from cover.
	Traffic   bool
	Telemetry TelemetryConfig
	// LogLevel is debug, info, warn or error; LogFormat text or json. LogFile is where
	// lines go instead of standard error, in so many bytes at most.
	LogLevel, LogFormat, LogFile string
	LogBudget                    int64
}

// RelayConfig is what a node says of itself in the directory.
type RelayConfig struct {
	// Listen is the UDP address of the socket, Advertise what others dial;
	// the zero Advertise means Listen, with the port that it got.
	Listen, Advertise netip.AddrPort
	Operator, Region  string
	// Label names the network where the address does not tell.
	Label string
	// Capacity is in sustained datagrams per second.
	Capacity uint32
	// Drain is how long the node serves on after it was told to stop, while the
	// directory says that it leaves; 0: not at all.
	Drain time.Duration
	// Workers is how many goroutines open a full batch of datagrams: so many
	// always; 0 is one for each processor, as long as it pays.
	Workers int
}

// CarrierConfig is how an entry takes links beside UDP.
type CarrierConfig struct {
	// Listen has an address for each carrier that the entry has.
	Listen map[directory.CarrierKind]netip.AddrPort
	// Name is the server name that clients ask for; "" for none.
	Name string
	// Certificate and Key are PEM files; "" for a certificate of the node's own
	// making.
	Certificate, Key string
}

// AuthorityConfig is a directory authority.
type AuthorityConfig struct {
	// Listen is the HTTP address; Peers the URLs of the other authorities.
	Listen netip.AddrPort
	Peers  []string
	// Members are the nodes that may publish; nil means all.
	Members map[wire.NodeID]string
	// Store is where the state is kept.
	Store StoreConfig
}

// Member reports whether the node of an identity key may publish.
func (a *AuthorityConfig) Member(identity []byte) bool {
	if a.Members == nil {
		return true
	}
	_, ok := a.Members[directory.NodeID(identity)]
	return ok
}

// ReplicaConfig is a replica of the directory.
type ReplicaConfig struct {
	// Listen is the address of its server.
	Listen netip.AddrPort
	// Cache is how long an encoded bucket is kept; zero: not at all.
	Cache time.Duration
	// CacheServer is the URL of a Redis-protocol server that keeps it; "" for the
	// process.
	CacheServer string
}

// ProxyConfig is a client with its proxy.
type ProxyConfig struct {
	// Socks is the address of the SOCKS5 and HTTP proxy.
	Socks netip.AddrPort
	Level wire.Level
	// Profile is for what kind of machine routes are shaped.
	Profile wire.Profile
	// Region is where the user is, as client.Config has it; "" says nothing.
	Region string
	// High and Low are the ports of targets whose streams are opened in the high
	// and the low lane of a session. nil High means client.DefaultHighPorts.
	High, Low []directory.PortRange
	// Wallet is the directory of unlinkable tokens; "" for none.
	Wallet string
}

// Defaults of a configuration.
const (
	DefaultCapacity = 100_000
	defaultSocks    = "127.0.0.1:9150"
	defaultLevel    = "standard"
	defaultProfile  = "full"
	defaultLogLevel = "info"
)

// drainMax bounds relay.drain: by then every document is a new one.
const drainMax = time.Hour

// workersMax is how many parts a batch has.
const workersMax = 16

// configFile is the file as written.
type configFile struct {
	Name    string   `toml:"name"`
	Roles   []string `toml:"roles"`
	Network string   `toml:"network"`
	Keys    string   `toml:"keys"`
	State   string   `toml:"state"`

	Secrets secretsTable `toml:"secrets"`

	Relay struct {
		Listen    string `toml:"listen"`
		Advertise string `toml:"advertise"`
		Operator  string `toml:"operator"`
		Region    string `toml:"region"`
		Label     string `toml:"label"`
		Capacity  int64  `toml:"capacity"`
		Drain     string `toml:"drain"`
		Workers   int    `toml:"workers"`
	} `toml:"relay"`
	Directory struct {
		URLs     []string `toml:"urls"`
		Replicas []string `toml:"replicas"`
		Poll     string   `toml:"poll"`
		Controls []string `toml:"controls"`
	} `toml:"directory"`
	Control controlFile `toml:"control"`
	Console consoleFile `toml:"console"`
	Exit    struct {
		AllowPrivate bool     `toml:"allow_private"`
		Ports        []string `toml:"ports"`
	} `toml:"exit"`
	Carriers struct {
		QUIC        string `toml:"quic"`
		WebSocket   string `toml:"websocket"`
		Name        string `toml:"name"`
		Certificate string `toml:"certificate"`
		Key         string `toml:"key"`
	} `toml:"carriers"`
	Records   recordsTable `toml:"records"`
	Authority struct {
		Listen  string   `toml:"listen"`
		Peers   []string `toml:"peers"`
		Members string   `toml:"members"`

		Store            string `toml:"store"`
		StoreCA          string `toml:"store_ca"`
		StoreCertificate string `toml:"store_certificate"`
		StoreKey         string `toml:"store_key"`
	} `toml:"authority"`
	Replica struct {
		Listen string `toml:"listen"`
		Cache  string `toml:"cache"`
		Server string `toml:"cache_server"`
	} `toml:"replica"`
	Witness struct {
		Listen string `toml:"listen"`
	} `toml:"witness"`
	Client struct {
		Socks   string `toml:"socks"`
		Level   string `toml:"level"`
		Profile string `toml:"profile"`
		Region  string `toml:"region"`
		Wallet  string `toml:"wallet"`
	} `toml:"client"`
	Lanes struct {
		High []string `toml:"high"`
		Low  []string `toml:"low"`
	} `toml:"lanes"`
	Session struct {
		KEM int `toml:"kem"`
	} `toml:"session"`
	Metrics struct {
		Listen  string `toml:"listen"`
		Traffic bool   `toml:"traffic"`
	} `toml:"metrics"`
	Telemetry telemetryFile `toml:"telemetry"`
	Log       struct {
		Level     string `toml:"level"`
		Format    string `toml:"format"`
		File      string `toml:"file"`
		Megabytes int64  `toml:"megabytes"`
	} `toml:"log"`
}

// LoadConfig reads and checks a node's configuration and the network file that
// it names. An error holds every Problem, by line.
func LoadConfig(path string) (*Config, error) {
	b, err := readFile(path, configMax)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return parseConfig(path, b)
}

func parseConfig(path string, b []byte) (*Config, error) {
	f := configFile{}
	f.Relay.Capacity = DefaultCapacity
	f.Telemetry.ProbeLevel = defaultLevel
	f.Client.Socks, f.Client.Level, f.Client.Profile, f.Log.Level = defaultSocks, defaultLevel, defaultProfile, defaultLogLevel
	f.Exit.Ports = []string{"1-65535"}
	f.Session.KEM = int(seal.KEM768)
	d, err := decode(path, b, &f)
	if err != nil {
		return nil, err
	}
	c := &Config{Name: f.Name}
	d.roles(c, &f)
	d.common(c, &f)
	if c.Roles != 0 {
		d.relay(c, &f)
	}
	if c.Roles.Has(directory.RoleEntry) {
		d.carriers(c, &f)
	}
	d.records(c, &f)
	d.telemetry(c, &f.Telemetry)
	if c.Authority {
		d.authority(c, &f)
	}
	if c.Replica {
		d.replica(c, &f)
	}
	if c.Witness {
		d.witness(c, &f)
	}
	if c.Control {
		d.control(c, &f)
	}
	if c.Client {
		c.Proxy.Socks = d.address("client.socks", f.Client.Socks)
		c.Proxy.Level = d.level("client.level", f.Client.Level)
		var ok bool
		if c.Proxy.Profile, ok = wire.ParseProfile(f.Client.Profile); !ok {
			d.bad("client.profile", "%q is not a profile. Use full, mobile or low", f.Client.Profile)
		}
		if c.Proxy.Region = f.Client.Region; c.Proxy.Region != "" {
			d.name("client.region", c.Proxy.Region)
		}
		c.Proxy.Wallet = d.wallet(f.Client.Wallet)
		if d.has("lanes.high") {
			c.Proxy.High = d.portList("lanes.high", f.Lanes.High)
		}
		c.Proxy.Low = d.portList("lanes.low", f.Lanes.Low)
	}
	d.strayTables(c)
	return c, d.err()
}

func (d *document) roles(c *Config, f *configFile) {
	for i, name := range f.Roles {
		if slices.Contains(f.Roles[:i], name) {
			d.bad("roles", "%q twice. Write it once", name)
		}
		role, ok := directory.ParseRole(name)
		switch {
		case ok:
			c.Roles |= role
		case name == "authority":
			c.Authority = true
		case name == "replica":
			c.Replica = true
		case name == "witness":
			c.Witness = true
		case name == "control":
			c.Control = true
		case name == "client":
			c.Client = true
		default:
			d.bad("roles", "%q is not a role. Use entry, exit, mix, meeting, authority, replica, witness, control or client", name)
		}
	}
	if len(f.Roles) == 0 {
		d.bad("roles", `missing. Write roles = ["mix"], or others of entry, exit, mix, meeting, authority, replica, witness, control and client`)
	}
	const stream = directory.RoleEntry | directory.RoleExit | directory.RoleMeeting
	if c.Roles&directory.RoleMix != 0 && c.Roles&stream != 0 {
		d.bad("roles", "a node is a Mix node or a Stream node (entry, exit, meeting), not both. Run two nodes")
	}
}

func (d *document) common(c *Config, f *configFile) {
	if !directory.ValidName(f.Name) {
		d.bad("name", "%q is not a name. Write 1 to 64 of a-z, 0-9, dot, hyphen and underscore", f.Name)
	}
	dir := filepath.Dir(d.path)
	if f.Network == "" {
		d.bad("network", "missing. Write the path of the network file, as in network = \"network.toml\"")
	} else {
		var err error
		if c.Network, err = LoadNetwork(beside(dir, f.Network)); err != nil {
			d.bad("network", "%v", err)
		} else {
			c.Directories, c.Replicas, c.Controls = c.Network.Directories, c.Network.Replicas, c.Network.Controls
		}
	}
	if f.Keys != "" {
		c.Keys = beside(dir, f.Keys)
	} else if c.Roles != 0 || c.Authority || c.Replica || c.Witness || c.Control {
		d.bad("keys", "missing. Write the directory of the key files, as in keys = \"keys\"")
	}
	d.secrets(c, f)
	if c.State == "" {
		c.State = c.Keys
	}
	if d.has("directory.urls") {
		c.Directories = f.Directory.URLs
		for _, u := range f.Directory.URLs {
			d.url("directory.urls", u)
		}
	}
	if d.has("directory.replicas") {
		c.Replicas = f.Directory.Replicas
		d.replicas("directory.replicas", c.Replicas)
	}
	if d.has("directory.controls") {
		c.Controls = f.Directory.Controls
		d.controls("directory.controls", c.Controls)
	}
	if f.Directory.Poll != "" {
		c.Poll = d.duration("directory.poll", f.Directory.Poll, time.Second, 24*time.Hour)
	}
	if f.Metrics.Listen != "" {
		c.Metrics = d.address("metrics.listen", f.Metrics.Listen)
	}
	if c.KEM = seal.KEM(f.Session.KEM); f.Session.KEM != int(c.KEM) || !c.KEM.Valid() {
		d.bad("session.kem", "%d is not a KEM. Write 1 for X25519 with ML-KEM-768, or 2 to allow X25519 with ML-KEM-1024", f.Session.KEM)
	}
	c.Traffic = f.Metrics.Traffic
	if c.LogLevel = f.Log.Level; !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		d.bad("log.level", "%q is not a level. Use debug, info, warn or error", f.Log.Level)
	}
	d.told(c, f)
}

func (d *document) relay(c *Config, f *configFile) {
	r := &c.Relay
	r.Listen = d.address("relay.listen", f.Relay.Listen)
	if f.Relay.Advertise != "" {
		r.Advertise = d.address("relay.advertise", f.Relay.Advertise)
		if r.Advertise.IsValid() && (r.Advertise.Addr().IsUnspecified() || r.Advertise.Port() == 0) {
			d.bad("relay.advertise", "%q cannot be dialled. Write the address and port by which others reach this node", f.Relay.Advertise)
		}
	} else if r.Listen.IsValid() && r.Listen.Addr().IsUnspecified() {
		d.bad("relay.advertise", "missing, and relay.listen stands for every address. Write the address and port by which others reach this node")
	}
	r.Operator, r.Region, r.Label = f.Relay.Operator, f.Relay.Region, f.Relay.Label
	d.name("relay.operator", r.Operator)
	d.name("relay.region", r.Region)
	if r.Label != "" {
		d.name("relay.label", r.Label)
		at := r.Advertise
		if !at.IsValid() {
			at = r.Listen
		}
		if a := at.Addr(); a.IsValid() && !a.IsLoopback() && !a.IsPrivate() && !a.IsLinkLocalUnicast() {
			d.bad("relay.label", "%q: a label is for loopback and private addresses only. Remove it; the network follows from %v", r.Label, at)
		}
	}
	if f.Relay.Capacity < 0 || f.Relay.Capacity > 1<<32-1 {
		d.bad("relay.capacity", "%d is out of range. Write sustained datagrams per second, 0 to %d", f.Relay.Capacity, uint32(1<<32-1))
	}
	r.Capacity = uint32(f.Relay.Capacity)
	if f.Relay.Drain != "" {
		r.Drain = d.duration("relay.drain", f.Relay.Drain, 0, drainMax)
	}
	if r.Workers = f.Relay.Workers; r.Workers < 0 || r.Workers > workersMax {
		d.bad("relay.workers", "%d is out of range. Write how many goroutines open datagrams, 1 to %d, or 0 for as many as pay", r.Workers, workersMax)
	}
	if len(c.Directories) == 0 {
		d.bad("directory.urls", `missing here and in the network file. Write urls = ["http://host:port"]`)
	}
	if c.Roles.Has(directory.RoleExit) {
		c.Exit.Private = f.Exit.AllowPrivate
		c.Exit.Ports = d.ports("exit.ports", f.Exit.Ports)
	}
}

func (d *document) carriers(c *Config, f *configFile) {
	e := &c.Entry
	e.Listen = make(map[directory.CarrierKind]netip.AddrPort)
	if s := f.Carriers.QUIC; s != "" {
		e.Listen[directory.CarrierQUIC] = d.address("carriers.quic", s)
	}
	if s := f.Carriers.WebSocket; s != "" {
		e.Listen[directory.CarrierWebSocket] = d.address("carriers.websocket", s)
	}
	if e.Name = f.Carriers.Name; e.Name != "" {
		d.name("carriers.name", e.Name)
	}
	if (f.Carriers.Certificate == "") != (f.Carriers.Key == "") {
		d.bad("carriers.certificate", "certificate and key go together. Write both, or neither")
	} else if f.Carriers.Certificate != "" {
		dir := filepath.Dir(d.path)
		e.Certificate, e.Key = beside(dir, f.Carriers.Certificate), beside(dir, f.Carriers.Key)
	}
}

func (d *document) authority(c *Config, f *configFile) {
	a := &c.Serve
	a.Listen, a.Peers = d.address("authority.listen", f.Authority.Listen), f.Authority.Peers
	for _, u := range a.Peers {
		d.url("authority.peers", u)
	}
	d.store(&a.Store, "authority", "files", StoreFiles, storeFile{f.Authority.Store, f.Authority.StoreCA, f.Authority.StoreCertificate, f.Authority.StoreKey})
	if f.Authority.Members == "" {
		return
	}
	var err error
	if a.Members, err = LoadMembers(beside(filepath.Dir(d.path), f.Authority.Members)); err != nil {
		d.bad("authority.members", "%v", err)
	}
}

// strayTables refuses tables of roles that the node does not have: they would
// be without effect, which their author does not expect.
func (d *document) strayTables(c *Config) {
	for _, t := range []struct {
		table  string
		wanted bool
		roles  string
	}{
		{"relay", c.Roles != 0, "entry, exit, mix or meeting"},
		{"exit", c.Roles.Has(directory.RoleExit), "exit"},
		{"carriers", c.Roles.Has(directory.RoleEntry), "entry"},
		{"authority", c.Authority, "authority"},
		{"replica", c.Replica, "replica"},
		{"witness", c.Witness, "witness"},
		{"control", c.Control, "control"},
		{"console", c.Control, "control"},
		{"client", c.Client, "client"},
		{"lanes", c.Client, "client"},
		{"session", c.Client || c.Roles&^directory.RoleMix != 0, "entry, exit, meeting or client"},
	} {
		if d.has(t.table) && !t.wanted {
			d.bad(t.table, "has no effect without the role %s. Remove the table, or add the role", t.roles)
		}
	}
}
