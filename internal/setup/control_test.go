package setup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const controlConfig = `name = "control-1"
roles = ["control"]
network = "network.toml"
keys = "keys"

[control]
listen = "127.0.0.1:9500"
policy = "policy"
policy_key = "signer.pem"
store = "https://a:2379,https://b:2379"
store_ca = "etcd.pem"
operators = "127.0.0.1:9501"
`

// A control process's file says where policies and configuration are, and each mistake
// in it is found, with its line and a way out.
func TestControlConfig(t *testing.T) {
	dir := testFiles(t)
	if err := os.Mkdir(filepath.Join(dir, "policy"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "signer.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node.toml")
	c, err := parseConfig(path, []byte(controlConfig))
	if err != nil {
		t.Fatal(err)
	}
	p := &c.Plane
	if p.Policy != filepath.Join(dir, "policy") || p.PolicyKey != filepath.Join(dir, "signer.pem") || p.Operators.Port() != 9501 {
		t.Errorf("%+v", p)
	}
	if p.Store.Kind != StoreCluster || len(p.Store.URLs) != 2 || p.Store.CA != filepath.Join(dir, "etcd.pem") {
		t.Errorf("store %+v", p.Store)
	}
	for _, c := range []struct{ old, new, want string }{
		{`policy = "policy"`, `policy = "nosuch"`, `8: control.policy: `},
		{`policy = "policy"`, `policy = "https://"`, `8: control.policy: "https://" is not a URL`},
		{"policy = \"policy\"\npolicy_key = \"signer.pem\"", `policy = "https://policies.test/nyx.tar.gz"`, `control.policy_key: missing, and control.policy is a URL`},
		{`policy_key = "signer.pem"`, `policy_key = "nosuch.pem"`, `9: control.policy_key: `},
		{`store = "https://a:2379,https://b:2379"`, `store = "files"`, `10: control.store: "files" is not a place for state. Write "etcd", "none"`},
		{`store = "https://a:2379,https://b:2379"`, `store = "none"`, `10: control.store: store_ca, store_certificate and store_key are for a cluster`},
		{"store = \"https://a:2379,https://b:2379\"\nstore_ca = \"etcd.pem\"", `store = "none"`, `11: control.operators: this process has no configuration for operators`},
		{`operators = "127.0.0.1:9501"`, `operators = "0.0.0.0:9501"`, `12: control.operators: "0.0.0.0:9501" is not an address of this machine alone`},
		{`operators = "127.0.0.1:9501"`, `operators = "localhost"`, `12: control.operators: "localhost" is not an address: no port`},
		{`operators = "127.0.0.1:9501"`, `store_key = "key.pem"`, `control.store_certificate: certificate and key go together`},
	} {
		text := strings.Replace(controlConfig, c.old, c.new, 1)
		if _, err := parseConfig(path, []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.new, err, c.want)
		}
	}
}

// Of several control processes of a new network one has the configuration.
func TestInitWritesControlProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	made, err := Init(dir, InitConfig{Network: "testnet", Streams: 2, Mixes: 3, Authorities: 3, Controls: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range made.Controls {
		c, err := LoadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		if has := c.Plane.Store.Kind == StoreEtcd; has != (i == 0) || !c.Plane.Operators.Addr().IsLoopback() || c.Plane.Policy != "" {
			t.Errorf("%s: %+v", path, c.Plane)
		}
	}
}
