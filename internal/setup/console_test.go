package setup

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const consoled = `name = "control-1"
roles = ["control"]
network = "network.toml"
keys = "control-1/keys"

[control]
listen = "127.0.0.1:9001"

[console]
listen = "192.0.2.1:9600"
url = "https://console.example.org:9600/"
certificate = "console.pem"
key = "console.key"
issuer = "https://id.example"
client = "pages"
secret = "console.secret"
`

// TestConsoleConfig: whom a control process serves its console, and what it is refused for:
// people do not sign in in the clear, and links are for this machine.
func TestConsoleConfig(t *testing.T) {
	dir := testFiles(t)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})
	if err := os.WriteFile(filepath.Join(dir, "console.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node.toml")
	c, err := parseConfig(path, []byte(consoled))
	if err != nil {
		t.Fatal(err)
	}
	want := ConsoleConfig{Listen: c.Plane.Console.Listen, URL: "https://console.example.org:9600", Certificate: filepath.Join(dir, "console.pem"), Key: filepath.Join(dir, "console.key"),
		Issuer: "https://id.example", Client: "pages", Secret: filepath.Join(dir, "console.secret")}
	if c.Plane.Console != want || c.Plane.Console.Listen.Port() != 9600 || !want.TLS() {
		t.Errorf("%+v", c.Plane.Console)
	}
	for _, one := range []struct{ old, new, want string }{
		{`listen = "192.0.2.1:9600"`, "", "console.listen: missing"},
		{`url = "https://console.example.org:9600/"`, "", "console.url: missing"},
		{"https://console.example.org", "http://console.example.org", "in the clear"},
		{":9600/", ":9600/pages", "not the URL of a site"},
		{"https://id.example", "http://id.example", "in the clear"},
		{"issuer = \"https://id.example\"\nclient = \"pages\"\nsecret = \"console.secret\"", "", "console.issuer: missing"},
		{`issuer = "https://id.example"`, "", "console.issuer: client and secret are for an issuer"},
		{`key = "console.key"`, "", "certificate and key go together"},
		{`"console.pem"`, `"network.toml"`, "holds no CERTIFICATE in PEM"},
		{`["control"]`, `["witness"]`, "console: has no effect without the role control"},
		{"192.0.2.1", "127.0.0.1", ""},
	} {
		_, err := parseConfig(path, []byte(strings.Replace(consoled, one.old, one.new, 1)))
		if err == nil && one.want == "" {
			continue
		}
		if err == nil || one.want == "" || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: %v, want %q", one.new, err, one.want)
		}
	}
	head, _, _ := strings.Cut(consoled, "[console]")
	c, err = parseConfig(path, []byte(head+"[console]\nlisten = \"127.0.0.1:0\"\n"))
	if err != nil || c.Plane.Console.TLS() || c.Plane.Console.Client != defaultConsoleClient {
		t.Errorf("a console of this machine: %+v, %v", c, err)
	}
	if c, err = parseConfig(path, []byte(head)); err != nil || c.Plane.Console.Listen.IsValid() {
		t.Errorf("without the table: %+v, %v", c, err)
	}
}
