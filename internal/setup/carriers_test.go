package setup

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/directory"
)

func TestCarriersOfAnEntry(t *testing.T) {
	dir := testFiles(t)
	parse := func(role, table string) (*Config, error) {
		return parseConfig(filepath.Join(dir, "node.toml"), []byte("name = \"s\"\nroles = [\""+role+"\"]\nnetwork = \"network.toml\"\nkeys = \"k\"\n"+
			"[relay]\nlisten = \"10.0.0.1:1\"\noperator = \"o\"\nregion = \"r\"\n[carriers]\n"+table))
	}
	c, err := parse("entry", "quic = \"0.0.0.0:443\"\nname = \"www.example.com\"\ncertificate = \"c.pem\"\nkey = \"/k.pem\"\n")
	if err != nil {
		t.Fatal(err)
	}
	e := c.Entry
	if len(e.Listen) != 1 || e.Listen[directory.CarrierQUIC].Port() != 443 || e.Name != "www.example.com" ||
		e.Certificate != filepath.Join(dir, "c.pem") || e.Key != "/k.pem" {
		t.Errorf("carriers %+v", e)
	}
	for _, tt := range []struct{ role, table, want string }{
		{"mix", "quic = \"0.0.0.0:443\"\n", "has no effect without the role entry"},
		{"entry", "websocket = \"443\"\n", "carriers.websocket: \"443\" is not an address"},
		{"entry", "name = \"A b\"\n", "carriers.name: \"A b\" is not a name"},
		{"entry", "key = \"k.pem\"\n", "certificate and key go together"},
	} {
		if _, err := parse(tt.role, tt.table); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.table, err, tt.want)
		}
	}
}
