package setup

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const governed = `name = "control-1"
roles = ["control"]
network = "network.toml"
keys = "control-1/keys"

[control]
listen = "127.0.0.1:9001"
audit_days = 400
index = "postgres://audit@db/audit"
governance = "127.0.0.1:9500"
people = "people.pem"
access = "policy.tar.gz"
access_key = "policy.pem"

[[control.issuer]]
url = "https://id.example"
keys = "https://id.example/keys"
audience = "governance"
algorithms = ["ES256"]
`

// TestGoverning: how a control process indexes its log, and to whom it serves it.
func TestGoverning(t *testing.T) {
	dir := testFiles(t)
	for name, block := range map[string]string{"people.pem": "CERTIFICATE", "policy.pem": "PUBLIC KEY", "policy.tar.gz": "", "other.pem": "PRIVATE KEY"} {
		text := pem.EncodeToMemory(&pem.Block{Type: block, Bytes: []byte{1}})
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "node.toml")
	c, err := parseConfig(path, []byte(governed))
	if err != nil {
		t.Fatal(err)
	}
	g := &c.Plane.Governing
	if g.AuditDays != 400 || g.Index != "postgres://audit@db/audit" || g.Governance.Port() != 9500 || g.People != filepath.Join(dir, "people.pem") ||
		g.Access != filepath.Join(dir, "policy.tar.gz") || g.AccessKey != filepath.Join(dir, "policy.pem") || len(g.Issuers) != 1 || g.Issuers[0].Audience != "governance" {
		t.Errorf("%+v", g)
	}
	secrets := "\n[secrets]\nstore = \"keystore\"\nkey_file = \"keystore.key\"\n"
	c, err = parseConfig(path, []byte(strings.Replace(governed, "postgres://audit@db/audit", "secret://audit/index", 1)+secrets))
	if err != nil || c.Plane.Index != "" || c.Plane.IndexSecret != "audit/index" {
		t.Errorf("a reference: %+v, %v", c, err)
	}
	for _, bad := range []struct{ old, new, want string }{
		{"audit_days = 400\n", "", ""},
		{"audit_days = 400", "audit_days = 0", ""},
		{"audit_days = 400", "audit_days = -1", "8: control.audit_days: -1 is not from 0 to 36500"},
		{"audit_days = 400", "audit_days = 36501", "control.audit_days"},
		{"audit_days = 400", `audit_days = "90d"`, "audit_days"},
		{"postgres://audit@db/audit", "index.db", "control.index: it is not the URL"},
		{"postgres://audit@db/audit", "postgres://audit@db:port/audit", "control.index: it is not the URL"},
		{"postgres://audit@db/audit", "postgres:///audit", "control.index: it is not the URL"},
		{"postgres://audit@db/audit", "postgres://audit:pass word@db/audit", "control.index: it is not the URL"},
		{"postgres://audit@db/audit", "postgres:///audit?host=/run/postgresql", ""},
		{"postgres://audit@db/audit", "secret://audit/index", "no [secrets]"},
		{`"people.pem"`, `"nobody.pem"`, "control.people: "},
		{`"people.pem"`, `"other.pem"`, "other.pem holds no CERTIFICATE in PEM"},
		{`"policy.pem"`, `"nobody.pem"`, "control.access_key: "},
		{`"policy.pem"`, `"people.pem"`, "people.pem holds no PUBLIC KEY in PEM"},
		{`"policy.tar.gz"`, `"gone.tar.gz"`, "control.access: "},
		{`governance = "127.0.0.1:9500"`, "", "control.people: has no effect without control.governance"},
		{"127.0.0.1:9500", "here", "control.governance"},
		{`"policy.tar.gz"`, `"https://policies/a.tar.gz"`, ""},
		{"access = \"policy.tar.gz\"\naccess_key = \"policy.pem\"", `access = "https://policies/a.tar.gz"`, "must be signed"},
		{"access = \"policy.tar.gz\"\n", "", "control.access_key: has no effect"},
	} {
		_, err := parseConfig(path, []byte(strings.Replace(governed, bad.old, bad.new, 1)))
		if bad.want == "" && err == nil {
			continue
		}
		if err != nil && strings.Contains(err.Error(), "pass word") {
			t.Errorf("the fault shows a password: %v", err)
		}
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s in the place of %s: %v, want %q", bad.new, bad.old, err, bad.want)
		}
	}
}
