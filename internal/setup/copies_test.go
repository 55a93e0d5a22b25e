package setup

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const copying = `name = "control-1"
roles = ["control"]
network = "network.toml"
keys = "control-1/keys"

[control]
listen = "127.0.0.1:9001"
copies = "s3://audit/fleet/control-1"
copies_server = "https://s3.example:9000"
copies_region = "eu-1"
copies_key_id = "AKIA1"
copies_secret = "s3.secret"
copies_ca = "s3.pem"
copies_days = 30
copies_every = "1m"
`

// TestCopies: where a control process copies its log to.
func TestCopies(t *testing.T) {
	dir := testFiles(t)
	path := filepath.Join(dir, "node.toml")
	c, err := parseConfig(path, []byte(copying))
	if err != nil {
		t.Fatal(err)
	}
	got := &c.Plane.Copies
	if !got.Used() || got.Bucket != "audit" || got.Prefix != "fleet/control-1/" || got.Server != "https://s3.example:9000" || got.Region != "eu-1" || got.KeyID != "AKIA1" ||
		got.SecretFile != filepath.Join(dir, "s3.secret") || got.CA != filepath.Join(dir, "s3.pem") || got.Keep != 30*24*time.Hour || got.Every != time.Minute {
		t.Errorf("%+v", got)
	}
	brief := strings.NewReplacer("copies_region = \"eu-1\"\n", "", "copies_days = 30\n", "", "copies_every = \"1m\"\n", "", "copies_ca = \"s3.pem\"\n", "", "/fleet/control-1", "").Replace(copying)
	if c, err = parseConfig(path, []byte(brief)); err != nil || c.Plane.Copies.Prefix != "" || c.Plane.Copies.Keep != 3650*24*time.Hour || c.Plane.Copies.Every != 5*time.Minute {
		t.Errorf("%+v, %v", c, err)
	}
	secrets := "\n[secrets]\nstore = \"keystore\"\nkey_file = \"keystore.key\"\n"
	c, err = parseConfig(path, []byte(strings.Replace(copying, `"s3.secret"`, `"secret://audit/s3"`, 1)+secrets))
	if err != nil || c.Plane.Copies.SecretName != "audit/s3" || c.Plane.Copies.SecretFile != "" {
		t.Errorf("a reference: %+v, %v", c, err)
	}
	for _, bad := range []struct{ old, new, want string }{
		{`copies = "s3://audit/fleet/control-1"`, "", "control.copies: missing"},
		{"s3://audit/fleet", "audit/fleet", "s3://BUCKET/PREFIX"},
		{"s3://audit/fleet", "s3://Audit/fleet", "s3://BUCKET/PREFIX"},
		{"s3://audit/fleet", "s3://audit/../fleet", "s3://BUCKET/PREFIX"},
		{"s3://audit/fleet", "s3://audit//fleet", ""},
		{"s3://audit/fleet", "s3://audit/a//fleet", "s3://BUCKET/PREFIX"},
		{"https://s3.example:9000", "http://s3.example:9000", "in the clear"},
		{"https://s3.example:9000", "http://127.0.0.1:9000", ""},
		{"https://s3.example:9000", "https://s3.example:9000/audit", "not a URL"},
		{`copies_key_id = "AKIA1"`, "", "access key"},
		{`copies_secret = "s3.secret"`, "", "secret is missing"},
		{`"s3.secret"`, `"secret://audit/s3"`, "no [secrets]"},
		{"copies_days = 30", "copies_days = -1", "control.copies_days"},
		{"copies_days = 30", "copies_days = 40000", "control.copies_days"},
		{"copies_days = 30", "copies_days = 30\naudit_days = 30", ""},
		{"copies_days = 30", "copies_days = 30\naudit_days = 31", "control.copies_days: the lock of a copy would end after 30 days, and the log keeps events for 31"},
		{"copies_days = 30", "audit_days = 3651", "control.copies_days"},
		{`copies_every = "1m"`, `copies_every = "1s"`, "control.copies_every"},
	} {
		_, err := parseConfig(path, []byte(strings.Replace(copying, bad.old, bad.new, 1)))
		if bad.want == "" && err == nil {
			continue
		}
		if err == nil || bad.want == "" || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v", bad.new, err)
		}
	}
}
