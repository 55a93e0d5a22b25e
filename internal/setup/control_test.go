package setup

import (
	"crypto/tls"
	"crypto/x509"
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

// Of two control processes of a new network one has the configuration. Three and more are
// a cluster, of which each has its own key and knows the certificates of all.
func TestInitWritesControlProcesses(t *testing.T) {
	for _, controls := range []int{2, 3} {
		dir := filepath.Join(t.TempDir(), "net")
		made, err := Init(dir, InitConfig{Network: "testnet", Streams: 2, Mixes: 3, Authorities: 3, Controls: controls, Carriers: true})
		if err != nil {
			t.Fatal(err)
		}
		for i, path := range made.Controls {
			c, err := LoadConfig(path)
			if err != nil {
				t.Fatal(err)
			}
			p := &c.Plane
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			kept, err := parseConfig(path, []byte(strings.Replace(string(b), "# audit_days", "audit_days", 1)))
			if err != nil || kept.Plane.AuditDays != 400 || p.AuditDays != 0 {
				t.Errorf("%s: events are kept for %d days, and for %+v as it proposes: %v", path, p.AuditDays, kept, err)
			}
			kind := [2]StoreKind{StoreEtcd, StoreNone}[min(i, 1)]
			if controls == 3 {
				kind = StoreMembers
			}
			if p.Store.Kind != kind || !p.Operators.Addr().IsLoopback() || !p.Console.Listen.Addr().IsLoopback() || p.Policy != "" || p.BusMembers != (controls == 3) {
				t.Errorf("%s: %+v", path, *p)
			}
			if controls == 3 {
				checkMember(t, p, c.Name, i)
			}
		}
	}
}

func checkMember(t *testing.T, p *ControlConfig, name string, i int) {
	t.Helper()
	if len(p.Members) != 3 || p.Members[i].Name != name || p.Members[i].Address.Addr() != p.Listen.Addr() {
		t.Errorf("members %v of %s", p.Members, name)
	}
	own, err := tls.LoadX509KeyPair(p.Store.Certificate, p.Store.Key)
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(p.Store.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(all) || strings.Count(string(all), "BEGIN") != 3 {
		t.Fatalf("certificates of all: %s", all)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := own.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: p.Members[i].Address.Addr().String(), KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			t.Errorf("the certificate of %s: %v", name, err)
		}
	}
	if about, err := os.Stat(p.Store.Key); err != nil || about.Mode().Perm() != 0o600 {
		t.Errorf("the key of %s: %v, %v", name, about.Mode(), err)
	}
}

// What a configuration says of members has to fit.
func TestMembersOfControl(t *testing.T) {
	const good = `name = "control-1"
roles = ["control"]
network = "network.toml"
keys = "keys"

[directory]
urls = ["http://127.0.0.1:1"]

[control]
listen = "127.0.0.1:9401"
store = "members"
bus = "members"
members = ["control-1@127.0.0.1:9411", "control-2@127.0.0.1:9412", "control-3@127.0.0.1:9413"]
store_ca = "controls.pem"
store_certificate = "keys/member.pem"
store_key = "keys/member.key"
`
	dir := filepath.Join(t.TempDir(), "net")
	if _, err := Init(dir, InitConfig{Network: "testnet", Streams: 2, Mixes: 3, Authorities: 1}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node.toml")
	c, err := parseConfig(path, []byte(good))
	if err != nil || len(c.Plane.Members) != 3 || c.Plane.Store.CA != filepath.Join(dir, "controls.pem") {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`store_ca = "controls.pem"`, "", "control.store: members know each other by certificates"},
		{`, "control-3@127.0.0.1:9413"`, "", "control.members: 2 members"},
		{"control-3@127.0.0.1:9413", "control-3", "control.members: \"control-3\" is not a member"},
		{"control-3@127.0.0.1:9413", "control-2@127.0.0.1:9413", "has the name or the address of another"},
		{"control-3@127.0.0.1:9413", "control-3@127.0.0.1:9412", "has the name or the address of another"},
		{`"control-1@127.0.0.1:9411"`, `"control-4@127.0.0.1:9411"`, "none of them has the name of this process"},
		{`store = "members"`, `store = "https://a:2379"`, "have no effect without store"},
	} {
		if _, err := parseConfig(path, []byte(strings.Replace(good, c.old, c.new, 1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.new, err, c.want)
		}
	}
}
