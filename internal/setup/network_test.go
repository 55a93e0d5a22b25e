package setup

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
)

func testNetworkFile(t *testing.T) *Network {
	t.Helper()
	n := &Network{
		Trust:       directory.Trust{Network: "testnet", Threshold: 2},
		Directories: []string{"http://192.0.2.1:9400", "https://dir.example"},
		Params:      directory.Params{EpochLength: time.Minute, OnionEpochs: 10, ValidEpochs: 5},
		PSK:         &seal.Key{1, 2, 3},
	}
	for i := range 3 {
		key := make([]byte, seal.SignPublicSize)
		key[0] = byte(i)
		n.Trust.Authorities = append(n.Trust.Authorities, key)
	}
	return n
}

func TestNetworkRoundTrip(t *testing.T) {
	n := testNetworkFile(t)
	got, err := parseNetwork("network.toml", n.Encode([]string{"alpha"}))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, n) {
		t.Errorf("got %+v\nwant %+v", got, n)
	}
	n.PSK, n.Params = nil, directory.Params{}
	got, err = parseNetwork("network.toml", n.Encode(nil))
	if err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("without options: %v", err)
	}
}

func TestNetworkKeyFile(t *testing.T) {
	dir := t.TempDir()
	signer, err := MakeAuthorityKey(filepath.Join(dir, "keys"), nil)
	if err != nil {
		t.Fatal(err)
	}
	text := "network = \"n\"\nthreshold = 1\n[[authority]]\nkey_file = \"keys/authority.pub\"\n"
	n, err := parseNetwork(filepath.Join(dir, "network.toml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if string(n.Trust.Authorities[0]) != string(signer.Public()) {
		t.Error("another key")
	}
}

func TestNetworkMistakes(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, seal.SignPublicSize))
	other := make([]byte, seal.SignPublicSize)
	other[5] = 1
	good := fmt.Sprintf("network = \"n\"\nthreshold = 2\ndirectories = [\"http://a\"]\n[parameters]\nepoch = \"1h\"\nonion_epochs = 24\n[[authority]]\nkey = %q\n[[authority]]\nkey = %q\n", key, base64.StdEncoding.EncodeToString(other))
	if _, err := parseNetwork("n.toml", []byte(good)); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ old, new, want string }{
		{`network = "n"`, `network = "N"`, `n.toml:1: network: "N" is not a name`},
		{`threshold = 2`, `threshold = 3`, `n.toml:2: threshold: 3 of 2 authorities makes no sense`},
		{`threshold = 2`, `threshold = 0`, `n.toml:2: threshold: 0 of 2`},
		{`"http://a"`, `"ftp://a"`, `n.toml:3: directories: "ftp://a" is not a URL`},
		{`epoch = "1h"`, `epoch = "1500ms"`, `n.toml:5: parameters.epoch: "1500ms" is not whole seconds`},
		{`epoch = "1h"`, `epoch = "1y"`, `n.toml:5: parameters.epoch: "1y" is not a duration`},
		{`onion_epochs = 24`, `onion_epochs = 65537`, `n.toml:6: parameters.onion_epochs: 65537 is out of range`},
		{`onion_epochs = 24`, `valid_epochs = -1`, `n.toml:6: parameters.valid_epochs: -1 is out of range`},
		{`key = "` + key, `key = "` + key[4:], `n.toml:8: authority[1].key: 1981 bytes, not 1984`},
		{`key = "` + key, `key = "!`, `n.toml:8: authority[1].key: not base64`},
		{`key = "` + key + `"`, `name = "x"`, `n.toml:7: authority[1].key: missing`},
		{`key = "` + key + `"`, `key_file = "nowhere.pub"`, `n.toml:8: authority[1].key_file: `},
		{`key = "` + key + `"`, `key_file = "x"` + "\nkey = \"" + key + `"`, `n.toml:8: authority[1].key_file: beside key`},
		{base64.StdEncoding.EncodeToString(other), key, `n.toml:9: authority[2]: the same key as authority[1]`},
		{`threshold = 2`, "threshold = 2\npsk = \"AAAA\"", `n.toml:3: psk: 3 bytes, not 32`},
		{`threshold = 2`, "threshold = 2\ntreshold = 2", `n.toml:3: treshold: unknown key`},
	}
	for _, tt := range tests {
		text := strings.Replace(good, tt.old, tt.new, 1)
		if text == good {
			t.Fatalf("%q is not in the file", tt.old)
		}
		if _, err := parseNetwork("n.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q:\n got %v\nwant %s", tt.new, err, tt.want)
		}
	}
	_, err := parseNetwork("n.toml", []byte("network = \"n\"\nthreshold = 1\n"))
	if err == nil || !strings.Contains(err.Error(), "n.toml:1: authority: 0 authorities") {
		t.Errorf("no authority: %v", err)
	}
	if _, err := LoadNetwork(filepath.Join(t.TempDir(), "x")); err == nil {
		t.Error("read a network that is not there")
	}
}

func TestInitMakesANetwork(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "net")
	wall := int64(1_800_000_000)
	out, err := Init(dir, InitConfig{Network: "testnet", Streams: 2, Mixes: 4, Authorities: 3, Regions: 2, PSK: true, AllowPrivate: true, Wall: wall})
	if err != nil {
		t.Fatal(err)
	}
	n, err := LoadNetwork(out.NetworkFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Trust.Authorities) != 3 || n.Trust.Threshold != 2 || len(n.Directories) != 3 || n.PSK == nil {
		t.Errorf("%d authorities, threshold %d, %v", len(n.Trust.Authorities), n.Trust.Threshold, n.Directories)
	}
	descriptors := checkNodes(t, out, n, wall)
	for i, path := range out.Authorities {
		c, err := LoadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		if !c.Authority || len(c.Serve.Peers) != 2 || "http://"+c.Serve.Listen.String() != n.Directories[i] {
			t.Errorf("%s: %+v", c.Name, c.Serve)
		}
		if signer, err := LoadAuthorityKey(c.Keys); err != nil || string(signer.Public()) != string(n.Trust.Authorities[i]) {
			t.Errorf("%s: its key is not in the network file: %v", c.Name, err)
		}
		for _, d := range descriptors {
			if !c.Serve.Member(d.Identity) {
				t.Errorf("%s does not know node %x", c.Name, d.ID[:4])
			}
		}
		if c.Serve.Member(make([]byte, seal.SignPublicSize)) {
			t.Errorf("%s admits a stranger", c.Name)
		}
	}
	entries, _ := os.ReadDir(filepath.Dir(dir))
	if len(entries) != 1 {
		t.Errorf("%d entries are left beside the network", len(entries))
	}
}

// checkNodes loads every node as it would start and signs its descriptor.
func checkNodes(t *testing.T, out *Initialized, n *Network, wall int64) (all []*directory.Descriptor) {
	t.Helper()
	var fleet *seal.Key
	networks := map[string]bool{}
	for _, path := range append(out.Streams, out.Mixes...) {
		c, err := LoadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := LoadNodeKeys(c.Keys)
		if err != nil {
			t.Fatal(err)
		}
		if stream := !c.Roles.Has(directory.RoleMix); stream {
			if keys.Fleet == nil || fleet != nil && *fleet != *keys.Fleet {
				t.Errorf("%s: fleet keys differ or are missing", c.Name)
			}
			fleet = keys.Fleet
		} else if keys.Fleet != nil {
			t.Errorf("%s: a Mix node has the fleet key", c.Name)
		}
		node := &directory.Node{
			Version: uint64(wall), Roles: c.Roles, Operator: c.Relay.Operator, Region: c.Relay.Region, Label: c.Relay.Label,
			Link: keys.Link.Public().Bytes(), Capacity: c.Relay.Capacity, Exit: c.Exit,
			Onion: []directory.OnionKey{{Epoch: keys.Onion[0].Epoch, Key: keys.Onion[0].Key.Public().Bytes()}},
		}
		node.Addrs = append(node.Addrs, c.Relay.Listen)
		b, err := directory.SignDescriptor(keys.Identity, n.Trust.Network, node)
		if err != nil {
			t.Fatal(err)
		}
		d, err := directory.ParseDescriptor(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range d.Networks() {
			if networks[name] {
				t.Errorf("%s shares the network %s", c.Name, name)
			}
			networks[name] = true
		}
		all = append(all, d)
	}
	return all
}

func TestInitRefuses(t *testing.T) {
	good := InitConfig{Network: "testnet", Streams: 2, Mixes: 3, Authorities: 1}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(full, good); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("a full directory: %v", err)
	}
	if _, err := Init(filepath.Join(full, "x"), good); err == nil {
		t.Error("a file as directory")
	}
	empty := t.TempDir()
	if _, err := Init(empty, good); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	for what, change := range map[string]func(*InitConfig){
		"a name is":                    func(c *InitConfig) { c.Network = "" },
		"a route needs at least":       func(c *InitConfig) { c.Mixes = 2 },
		"at most 200":                  func(c *InitConfig) { c.Mixes = 200 },
		"authorities: 1 to 32":         func(c *InitConfig) { c.Authorities, c.Threshold = 33, 1 },
		"threshold 2 of 1":             func(c *InitConfig) { c.Threshold = 2 },
		"65 regions":                   func(c *InitConfig) { c.Regions = 65 },
		"leaves no room for 6 ports":   func(c *InitConfig) { c.Port = 65530 },
		"no randomness":                func(c *InitConfig) { c.Random = strings.NewReader("short") },
		"0 authorities: 1 to 32 are p": func(c *InitConfig) { c.Authorities, c.Threshold = 0, 1 },
	} {
		c := good
		change(&c)
		dir := filepath.Join(t.TempDir(), "net")
		if _, err := Init(dir, c); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want %q", err, what)
		}
		if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 0 {
			t.Errorf("%q: something is left", what)
		}
	}
}

// On several machines, nodes take the hosts in turn, each with a port of its
// own, and no label.
func TestInitOnHosts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	hosts := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	out, err := Init(dir, InitConfig{Network: "testnet", Streams: 2, Mixes: 3, Authorities: 1, Hosts: hosts, Port: 5000})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[netip.AddrPort]bool{}
	for i, path := range append(out.Streams, out.Mixes...) {
		c, err := LoadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		if c.Relay.Listen.Addr() != hosts[(i+1)%2] || c.Relay.Label != "" || seen[c.Relay.Listen] {
			t.Errorf("%s listens on %v, label %q", c.Name, c.Relay.Listen, c.Relay.Label)
		}
		seen[c.Relay.Listen] = true
	}
}
