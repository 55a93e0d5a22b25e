package setup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/wire"
)

// testFiles is a directory with a network file, members and keys.
func testFiles(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "net")
	if _, err := Init(dir, InitConfig{Network: "testnet", Streams: 2, Mixes: 3, Authorities: 3}); err != nil {
		t.Fatal(err)
	}
	return dir
}

const goodConfig = `name = "stream-1"
roles = ["entry", "exit"]
network = "network.toml"
keys = "stream-1/keys"

[relay]
listen = "127.0.0.1:9001"
advertise = "192.0.2.1:9001"
operator = "acme"
region = "eu"
capacity = 5000

[directory]
urls = ["http://192.0.2.9:9400"]
poll = "30s"

[exit]
allow_private = true
ports = ["443", "80", "8000-8010", "8011"]

[metrics]
listen = "127.0.0.1:9464"
traffic = true

[log]
level = "debug"
`

func TestConfig(t *testing.T) {
	dir := testFiles(t)
	path := filepath.Join(dir, "node.toml")
	c, err := parseConfig(path, []byte(goodConfig))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "stream-1" || c.Roles != directory.RoleEntry|directory.RoleExit || c.Authority || c.Client {
		t.Errorf("roles %v", c.Roles)
	}
	if c.Keys != filepath.Join(dir, "stream-1", "keys") || c.Network.Trust.Network != "testnet" {
		t.Errorf("keys %q", c.Keys)
	}
	if c.Relay.Listen.String() != "127.0.0.1:9001" || c.Relay.Advertise.String() != "192.0.2.1:9001" || c.Relay.Capacity != 5000 {
		t.Errorf("relay %+v", c.Relay)
	}
	if want := []directory.PortRange{{First: 80, Last: 80}, {First: 443, Last: 443}, {First: 8000, Last: 8011}}; !slices.Equal(c.Exit.Ports, want) || !c.Exit.Private {
		t.Errorf("exit %+v", c.Exit)
	}
	if !slices.Equal(c.Directories, []string{"http://192.0.2.9:9400"}) || c.Poll != 30*time.Second {
		t.Errorf("directories %v, poll %v", c.Directories, c.Poll)
	}
	if c.Metrics.Port() != 9464 || !c.Traffic || c.LogLevel != "debug" {
		t.Errorf("metrics %v, log %q", c.Metrics, c.LogLevel)
	}
}

func TestConfigDefaults(t *testing.T) {
	dir := testFiles(t)
	path := filepath.Join(dir, "node.toml")
	c, err := parseConfig(path, []byte("name = \"c\"\nroles = [\"client\"]\nnetwork = \"network.toml\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Client || c.Proxy.Level != wire.Standard || c.Proxy.Profile != wire.ProfileFull || c.Proxy.Socks.String() != "127.0.0.1:9150" || c.LogLevel != "info" || c.Metrics.IsValid() || c.Traffic {
		t.Errorf("%+v", c)
	}
	if c.Proxy.High != nil || len(c.Proxy.Low) != 0 {
		t.Errorf("lanes %v and %v", c.Proxy.High, c.Proxy.Low)
	}
	c, err = parseConfig(path, []byte("name = \"c\"\nroles = [\"client\"]\nnetwork = \"network.toml\"\n[lanes]\nhigh = []\nlow = [\"873\", \"6881-6889\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Proxy.High == nil || len(c.Proxy.High) != 0 || !slices.Equal(c.Proxy.Low, []directory.PortRange{{First: 873, Last: 873}, {First: 6881, Last: 6889}}) {
		t.Errorf("lanes %v and %v", c.Proxy.High, c.Proxy.Low)
	}
	if len(c.Directories) != 3 {
		t.Errorf("directories %v are not the network file's", c.Directories)
	}
	c, err = parseConfig(path, []byte("name = \"m\"\nroles = [\"exit\"]\nnetwork = \"network.toml\"\nkeys = \"k\"\n[relay]\nlisten = \"10.0.0.1:1\"\noperator = \"o\"\nregion = \"r\"\nlabel = \"lan\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Relay.Capacity != DefaultCapacity || !c.Exit.Allows(25) || c.Exit.Private {
		t.Errorf("%+v %+v", c.Relay, c.Exit)
	}
}

// Session records are in a file beside the configuration, or in a database by URL.
func TestConfigRecords(t *testing.T) {
	dir := testFiles(t)
	path := filepath.Join(dir, "node.toml")
	for in, want := range map[string]string{"sqlite:records.db": filepath.Join(dir, "records.db"), "sqlite:/var/r.db": "/var/r.db", "postgres://nyx@db/nyx": "postgres://nyx@db/nyx"} {
		c, err := parseConfig(path, []byte(goodConfig+"[records]\nstore = \""+in+"\"\n"))
		if err != nil || c.Records != want {
			t.Errorf("%s is %q, error %v", in, c.Records, err)
		}
	}
	if c, err := parseConfig(path, []byte(goodConfig)); err != nil || c.Records != "" {
		t.Errorf("without the table: %q, error %v", c.Records, err)
	}
	mix := strings.Replace(goodConfig, `roles = ["entry", "exit"]`, `roles = ["mix"]`, 1) + "[records]\nstore = \"sqlite:r\"\n"
	if _, err := parseConfig(path, []byte(mix)); err == nil || !strings.Contains(err.Error(), "records: has no effect without the role entry or exit") {
		t.Errorf("at a Mix node: %v", err)
	}
}

// Each mistake is found, with file, line and key, and a way out.
func TestConfigMistakes(t *testing.T) {
	dir := testFiles(t)
	if err := os.WriteFile(filepath.Join(dir, "bad-members.txt"), []byte("# who\nxyz name\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ old, new, want string }{
		{`listen = "127.0.0.1:9001"`, `listen = "127.0.0.1:99999"`, `7: relay.listen: "127.0.0.1:99999" is not an address: port out of range. Write host:port`},
		{`listen = "127.0.0.1:9001"`, `listen = "127.0.0.1"`, `7: relay.listen: "127.0.0.1" is not an address: no port`},
		{`listen = "127.0.0.1:9001"`, `listen = "127.0.0.1:x"`, `7: relay.listen: "127.0.0.1:x" is not an address: the port is not a number`},
		{`listen = "127.0.0.1:9001"`, `listen = "relay.example:9001"`, `7: relay.listen: "relay.example:9001" is not an address: the host is not an IP address`},
		{"listen = \"127.0.0.1:9001\"\n", "", `6: relay.listen: missing. Write host:port`},
		{`listen = "127.0.0.1:9001"`, `listen = 9001`, `7: relay.listen: `},
		{`advertise = "192.0.2.1:9001"`, `advertise = "0.0.0.0:9001"`, `8: relay.advertise: "0.0.0.0:9001" cannot be dialled`},
		{"listen = \"127.0.0.1:9001\"\nadvertise = \"192.0.2.1:9001\"", `listen = "0.0.0.0:9001"`, `6: relay.advertise: missing, and relay.listen stands for every address`},
		{`region = "eu"`, "region = \"eu\"\nlabel = \"lan\"", `11: relay.label: "lan": a label is for loopback and private addresses only`},
		{`capacity = 5000`, `capacity = -1`, `11: relay.capacity: -1 is out of range`},
		{`capacity = 5000`, `capacity = 4294967296`, `11: relay.capacity: 4294967296 is out of range`},
		{`capacity = 5000`, "capacity = 5000\ndrain = \"2h\"", `12: relay.drain: `},
		{`capacity = 5000`, "capacity = 5000\nworkers = 17", `12: relay.workers: 17 is out of range`},
		{`capacity = 5000`, "capacity = 5000\nworkers = -1", `12: relay.workers: -1 is out of range`},
		{`capacity = 5000`, "capacity = 5000\n[lanes]\nlow = []", `12: lanes: has no effect without the role client`},
		{`capacity = 5000`, `capasity = 5000`, `11: relay.capasity: unknown key. Remove it, or check its spelling`},
		{`operator = "acme"`, `operator = "Acme Inc"`, `9: relay.operator: "Acme Inc" is not a name`},
		{"region = \"eu\"\n", "", `6: relay.region: missing`},
		{`name = "stream-1"`, `name = "Stream 1"`, `1: name: "Stream 1" is not a name`},
		{`roles = ["entry", "exit"]`, `roles = ["entry", "king"]`, `2: roles: "king" is not a role. Use entry`},
		{`roles = ["entry", "exit"]`, `roles = ["exit", "exit"]`, `2: roles: "exit" twice`},
		{`roles = ["entry", "exit"]`, `roles = ["exit", "mix"]`, `2: roles: a node is a Mix node or a Stream node`},
		{`roles = ["entry", "exit"]`, `roles = []`, `2: roles: missing. Write roles = ["mix"]`},
		{`roles = ["entry", "exit"]`, `roles = ["entry"]`, `17: exit: has no effect without the role exit`},
		{`network = "network.toml"`, `network = "nowhere.toml"`, `3: network: cannot read the network file`},
		{"network = \"network.toml\"\n", "", `1: network: missing. Write the path`},
		{"keys = \"stream-1/keys\"\n", "", `1: keys: missing. Write the directory`},
		{`urls = ["http://192.0.2.9:9400"]`, `urls = ["192.0.2.9:9400"]`, `14: directory.urls: "192.0.2.9:9400" is not a URL`},
		{`urls = ["http://192.0.2.9:9400"]`, `urls = []`, `14: directory.urls: missing here and in the network file`},
		{`poll = "30s"`, `poll = "soon"`, `15: directory.poll: "soon" is not a duration from 1s to 24h0m0s`},
		{`poll = "30s"`, `poll = "1ms"`, `15: directory.poll: "1ms" is not a duration`},
		{`ports = ["443", "80", "8000-8010", "8011"]`, `ports = ["http"]`, `19: exit.ports: "http" is not a port`},
		{`ports = ["443", "80", "8000-8010", "8011"]`, `ports = ["90-80"]`, `19: exit.ports: "90-80" is not a port`},
		{`ports = ["443", "80", "8000-8010", "8011"]`, `ports = ["0"]`, `19: exit.ports: "0" is not a port`},
		{`ports = ["443", "80", "8000-8010", "8011"]`, `ports = []`, `19: exit.ports: empty`},
		{`ports = ["443", "80", "8000-8010", "8011"]`, `ports = [` + strings.Repeat(`"P",`, 33) + `]`, `19: exit.ports: 33 separate ranges`},
		{`listen = "127.0.0.1:9464"`, `listen = ":9464"`, `22: metrics.listen: ":9464" is not an address`},
		{`level = "debug"`, `level = "loud"`, `26: log.level: "loud" is not a level. Use debug`},
		{`[log]`, "[client]\nlevel = \"fast\"\n[log]", `25: client: has no effect without the role client`},
		{`roles = ["entry", "exit"]`, "roles = [\"entry\", \"exit\", \"client\"]\nclient.region = \"E U\"", `3: client.region: "E U" is not a name`},
		{`roles = ["entry", "exit"]`, "roles = [\"entry\", \"exit\", \"client\"]\nclient.profile = \"phone\"", `3: client.profile: "phone" is not a profile. Use full, mobile or low`},
		{`[log]`, "[session]\nkem = 3\n[log]", `26: session.kem: 3 is not a KEM`},
		{`[log]`, "[authority]\nlisten = \"1.2.3.4:5\"\n[log]", `25: authority: has no effect without the role authority`},
		{`roles = ["entry", "exit"]`, `roles = ["entry", "exit", "authority"]`, `1: authority.listen: missing`},
		{`[log]`, "[authority]\nlisten = \"1.2.3.4:5\"\npeers = [\"x\"]\n[log]", `27: authority.peers: "x" is not a URL`},
		{`[log]`, "[authority]\nlisten = \"1.2.3.4:5\"\nmembers = \"bad-members.txt\"\n[log]", `bad-members.txt:2: "xyz" is not a node's ID`},
		{`[log]`, "[authority]\nlisten = \"1.2.3.4:5\"\nmembers = \"nowhere\"\n[log]", `27: authority.members: cannot read the list of members`},
		{`[log]`, "[records]\nstore = \"sqlite:\"\n[log]", `26: records.store: "sqlite:" is not a place for session records. Write "sqlite:FILE"`},
		{`[log]`, "[records]\nstore = \"redis://h\"\n[log]", `26: records.store: "redis://h" is not a place for session records`},
		{`[log]`, "[records]\n[log]", `25: records.store: "" is not a place for session records`},
		{`[log]`, "[log", `25: `},
		{`name = "stream-1"`, "name = \"stream-1\"\nname = \"x\"", `2: `},
	}
	ports := 0
	for _, tt := range tests {
		text := strings.Replace(goodConfig, tt.old, tt.new, 1)
		for strings.Contains(text, `"P"`) {
			ports += 2
			text = strings.Replace(text, `"P"`, `"`+string(rune('1'+ports/100))+string(rune('0'+ports/10%10))+string(rune('0'+ports%10))+`"`, 1)
		}
		if strings.Contains(tt.new, "[authority]") && strings.Contains(tt.new, "peers") || strings.Contains(tt.new, "members") {
			text = strings.Replace(text, `roles = ["entry", "exit"]`, `roles = ["entry", "exit", "authority"]`, 1)
		}
		if text == goodConfig {
			t.Fatalf("%q is not in the configuration", tt.old)
		}
		path := filepath.Join(dir, "node.toml")
		_, err := parseConfig(path, []byte(text))
		want := tt.want
		if want[0] >= '0' && want[0] <= '9' {
			want = path + ":" + want
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", tt.new, err, want)
		}
	}
}

// All mistakes are told at once, by line.
func TestConfigTellsAll(t *testing.T) {
	dir := testFiles(t)
	text := strings.NewReplacer(`"debug"`, `"x"`, `"eu"`, `"E"`, `"30s"`, `"x"`).Replace(goodConfig)
	_, err := parseConfig(filepath.Join(dir, "node.toml"), []byte(text))
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], ":10: relay.region") || !strings.Contains(lines[1], ":15: directory.poll") || !strings.Contains(lines[2], ":26: log.level") {
		t.Errorf("got %v", err)
	}
}

func TestLoadConfigFile(t *testing.T) {
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.toml")); err == nil || !strings.Contains(err.Error(), "cannot read the configuration") {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(t.TempDir(), "big.toml")
	if err := os.WriteFile(path, make([]byte, configMax+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "is larger than") {
		t.Errorf("got %v", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("[[authority]]\n\"a b\".c = 1\n"))
	f.Add([]byte("x = {a.b = 1}\n[a.b]\n[[a.c]]\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		parseConfig(filepath.Join(dir, "node.toml"), b)
		parseNetwork(filepath.Join(dir, "network.toml"), b)
	})
}
