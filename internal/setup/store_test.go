package setup

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// parseAs parses an authority's or a replica's configuration with more lines.
func parseAs(t *testing.T, role, lines string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	made, err := Init(filepath.Join(dir, "n"), InitConfig{Streams: 2, Mixes: 3, Authorities: 1, Replicas: 1, Network: "test", Port: 20000, Wall: 1_800_000_000})
	if err != nil {
		t.Fatal(err)
	}
	at := made.Authorities[0]
	if role == "replica" {
		at = made.Replicas[0]
	}
	b, err := readFile(at, configMax)
	if err != nil {
		t.Fatal(err)
	}
	return parseConfig(at, []byte(strings.Replace(string(b), "["+role+"]\n", "["+role+"]\n"+lines+"\n", 1)))
}

func TestStores(t *testing.T) {
	for lines, want := range map[string]StoreConfig{
		``:                {},
		`store = "etcd"`:  {},
		`store = "files"`: {Kind: StoreFiles},
		`store = "http://a:2379, https://b:2379"`: {Kind: StoreCluster, URLs: []string{"http://a:2379", "https://b:2379"}},
	} {
		c, err := parseAs(t, "authority", lines)
		if err != nil || c.Serve.Store.Kind != want.Kind || !slices.Equal(c.Serve.Store.URLs, want.URLs) {
			t.Errorf("%s: %v", lines, err)
		}
	}
	c, err := parseAs(t, "authority", "store = \"https://a:2379\"\nstore_ca = \"ca.pem\"\nstore_certificate = \"/c.pem\"\nstore_key = \"/k.pem\"")
	if err != nil || filepath.Base(c.Serve.Store.CA) != "ca.pem" || !filepath.IsAbs(c.Serve.Store.CA) || c.Serve.Store.Key != "/k.pem" {
		t.Errorf("%+v, %v", c, err)
	}
	for lines, problem := range map[string]string{
		`store = "nats"`:                                    "authority.store",
		`store = "https://a:2379/x"`:                        "authority.store",
		`store_ca = "ca.pem"`:                               "authority.store",
		"store = \"https://a:2379\"\nstore_key = \"k.pem\"": "authority.store_certificate",
	} {
		if _, err := parseAs(t, "authority", lines); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v", lines, err)
		}
	}
}

func TestCacheServers(t *testing.T) {
	c, err := parseAs(t, "replica", `cache_server = "redis://127.0.0.1:6379/2"`)
	if err != nil || c.Replicate.CacheServer != "redis://127.0.0.1:6379/2" {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"127.0.0.1:6379", "http://a", "redis://"} {
		if _, err := parseAs(t, "replica", "cache_server = \""+bad+"\""); err == nil || !strings.Contains(err.Error(), "replica.cache_server") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
