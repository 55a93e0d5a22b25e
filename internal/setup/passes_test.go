package setup

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

const someControl = "https://192.0.2.1:9500#0000000000000000000000000000000000000000000000000000000000000001"

func TestNetworkWithIssuer(t *testing.T) {
	n := testNetworkFile(t)
	n.Controls = []string{someControl}
	n.Issuer = &Issuer{Key: make([]byte, seal.SignPublicSize), Required: true}
	got, err := parseNetwork("network.toml", n.Encode(nil))
	if err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("got %+v, %v", got, err)
	}
	n.Controls = nil
	if _, err := parseNetwork("network.toml", n.Encode(nil)); err == nil || !strings.Contains(err.Error(), "controls") {
		t.Errorf("an issuer at no control process: %v", err)
	}
}

// A network that admits by unlinkable tokens is made with its issuer, whose key and
// configuration belong together.
func TestInitWithTokens(t *testing.T) {
	for _, psk := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "network")
		made, err := Init(dir, InitConfig{Network: "n", Streams: 2, Mixes: 3, Authorities: 1, Controls: 2, Passes: true, PSK: psk, Wall: 1_700_000_000})
		if err != nil {
			t.Fatal(err)
		}
		n, err := LoadNetwork(made.NetworkFile)
		if err != nil || n.Issuer == nil || !n.Issuer.Required {
			t.Fatalf("%+v, %v", n.Issuer, err)
		}
		key, err := LoadIssuerKey(filepath.Join(dir, "control-1", "keys"))
		if err != nil || !reflect.DeepEqual(key.Public(), n.Issuer.Key) {
			t.Errorf("the network names another issuer: %v", err)
		}
		want := Passes{To: PassesOpen, PerHour: defaultPassesPerHour, PerHourAll: defaultPassesPerHourAll, Life: defaultPassLife}
		if psk {
			want.To = PassesKey
		}
		for i, want := range []Passes{want, {PerHour: defaultPassesPerHour, Life: defaultPassLife}} {
			if c, err := LoadConfig(made.Controls[i]); err != nil || !reflect.DeepEqual(c.Plane.Passes, want) {
				t.Errorf("control %d: %+v, %v", i+1, c, err)
			}
		}
	}
	if _, err := Init(filepath.Join(t.TempDir(), "network"), InitConfig{Network: "n", Streams: 2, Mixes: 3, Authorities: 1, Passes: true}); err == nil {
		t.Error("unlinkable tokens without a control process")
	}
}

func TestPassesConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "network")
	made, err := Init(dir, InitConfig{Network: "n", Streams: 2, Mixes: 3, Authorities: 1, Controls: 1, Passes: true, Wall: 1_700_000_000})
	if err != nil {
		t.Fatal(err)
	}
	path := made.Controls[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const was = "passes = \"open\"\n"
	if !strings.Contains(string(b), was) {
		t.Fatalf("the configuration has no line %q:\n%s", was, b)
	}
	parse := func(now string) (*Config, error) {
		return parseConfig(path, []byte(strings.Replace(string(b), was, now, 1)))
	}
	const provider = "[[control.issuer]]\nurl = \"https://id.example\"\nkeys = \"https://id.example/jwks\"\naudience = \"nyx\"\nalgorithms = [\"ES256\"]\n"
	c, err := parse("passes = \"oidc\"\npasses_per_hour = 100\npass_life = \"48h\"\n" + provider)
	want := Passes{To: PassesOIDC, PerHour: 100, Life: 48 * time.Hour}
	who := []IssuerConfig{{"https://id.example", "https://id.example/jwks", "nyx", []string{"ES256"}}}
	if err != nil || !reflect.DeepEqual(c.Plane.Passes, want) || !reflect.DeepEqual(c.Plane.Issuers, who) {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]Passes{ // each address like a name of oidc, and a bound of all
		"passes = \"open\"\n": {To: PassesOpen, PerHour: 64, PerHourAll: 8192, Life: defaultPassLife},
		"passes = \"open\"\npasses_per_hour = 1800\npasses_per_hour_all = 524288\n": {To: PassesOpen, PerHour: 1800, PerHourAll: 1 << 19, Life: defaultPassLife},
	} {
		if c, err := parse(text); err != nil || c.Plane.Passes != want {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	for text, says := range map[string]string{
		"passes = \"all\"\n":                                       "open, key or oidc",
		"passes = \"oidc\"\n":                                      "[[control.issuer]]",
		"passes = \"open\"\n" + provider:                           "control.issuer",
		"passes = \"key\"\n":                                       "psk",
		"passes = \"open\"\npass_life = \"1m\"\n":                  "control.pass_life",
		"passes = \"open\"\npasses_per_hour = -1\n":                "control.passes_per_hour",
		"passes = \"open\"\npasses_per_hour = 1801\n":              "control.passes_per_hour: 1801 is out of range. Write 1 to 1800",
		"passes = \"open\"\npasses_per_hour_all = 63\n":            "control.passes_per_hour_all: 63 is out of range. Write what one gets, 64, to 524288",
		"passes = \"open\"\npasses_per_hour_all = 524289\n":        "control.passes_per_hour_all",
		"passes = \"oidc\"\npasses_per_hour_all = 99\n" + provider: "control.passes_per_hour_all: it bounds those who have no name",
		"passes = \"oidc\"\n[[control.issuer]]\nurl=\"\"":          "audience is missing",
		"passes = \"oidc\"\npasses_per_hour = 1801\n" + provider:   "1800",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, which does not say %q", text, err, says)
		}
	}
}
