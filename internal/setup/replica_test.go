package setup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/mirror"
)

// Init makes replicas whose keys are those that the network file names.
func TestInitMakesReplicas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	made, err := Init(dir, InitConfig{Network: "testnet", Streams: 2, Mixes: 3, Authorities: 3, Replicas: 2})
	if err != nil {
		t.Fatal(err)
	}
	n, err := LoadNetwork(made.NetworkFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Replicas) != 2 || len(n.Replicas) != 2 || len(n.Directories) != 3 {
		t.Fatalf("%d files, %v, %v", len(made.Replicas), n.Replicas, n.Directories)
	}
	for i, file := range made.Replicas {
		c, err := LoadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := mirror.ParseServer(n.Replicas[i])
		if err != nil {
			t.Fatal(err)
		}
		key, err := LoadReplicaKey(c.Keys)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := front.Issue(key, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if pin, err := front.Pin(&cert); err != nil || pin != s.Pin || s.URL != "https://"+c.Replicate.Listen.String() {
			t.Errorf("replica %d: %v, %v", i, s, err)
		}
		if !c.Replica || c.Authority || c.Roles != 0 || c.Replicate.Cache != 500*time.Millisecond {
			t.Errorf("replica %d: %+v", i, c)
		}
	}
	if c, err := LoadConfig(made.Streams[0]); err != nil || len(c.Replicas) != 2 {
		t.Errorf("a node asks %v, %v", c.Replicas, err)
	}
	if _, err := MakeReplicaKey(filepath.Join(dir, "replica-1", "keys"), nil); err == nil {
		t.Error("a key was replaced")
	}
	if _, err := Init(filepath.Join(dir, "more"), InitConfig{Network: "testnet", Streams: 2, Mixes: 3, Authorities: 3, Replicas: replicasMax + 1}); err == nil {
		t.Error("too many replicas")
	}
}

func TestReplicaConfigRefused(t *testing.T) {
	dir := testFiles(t)
	const good = "name = \"r\"\nroles = [\"replica\"]\nnetwork = \"network.toml\"\nkeys = \"keys\"\n[replica]\nlisten = \"127.0.0.1:9001\"\ncache = \"0s\"\n"
	pin := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		good:                                 "",
		strings.Replace(good, "0s", "2m", 1): "replica.cache",
		strings.Replace(good, "127.0.0.1:9001", "nowhere", 1):                    "replica.listen",
		strings.Replace(good, "keys = \"keys\"\n", "", 1):                        "keys",
		strings.Replace(good, "replica\"]", "client\"]", 1):                      "replica: has no effect",
		good + "[directory]\nreplicas = [\"http://127.0.0.1:1\"]\n":              "is not a replica",
		good + "[directory]\nreplicas = [\"https://127.0.0.1:1\"]\n":             "is not a replica",
		good + "[directory]\nreplicas = [\"https://127.0.0.1:1#" + pin + "\"]\n": "",
	} {
		path := filepath.Join(dir, "replica.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadConfig(path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
