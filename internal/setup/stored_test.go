package setup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/secret"
)

func epochsOf(t *testing.T, k *StoredKeys) (out []uint64) {
	t.Helper()
	keys, err := k.Onions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range keys {
		out = append(out, o.Epoch)
	}
	return out
}

// The keys of a node in a store are those of key files: made once, loaded again,
// turned by period, and what is retired is destroyed.
func TestStoredKeys(t *testing.T) {
	s, ctx := secret.NewMemory(), t.Context()
	k := &StoredKeys{Store: s, Name: "mix-7"}
	made, err := k.Make(ctx, 24, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Make(ctx, 24, nil); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("made again: %v", err)
	}
	got, err := k.Load(ctx)
	if err != nil || got.ID() != made.ID() || got.Fleet != nil || len(got.Onion) != 1 {
		t.Fatalf("%+v, error %v", got, err)
	}
	for _, epoch := range []uint64{48, 72, 48} {
		if err := k.MakeOnion(ctx, epoch, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := epochsOf(t, k); !slices.Equal(got, []uint64{24, 48, 72}) {
		t.Fatalf("epochs %v", got)
	}
	before, _ := s.Get(ctx, "mix-7/onion", 0)
	if err := k.RetireOnions(ctx, 50); err != nil {
		t.Fatal(err)
	}
	if got := epochsOf(t, k); !slices.Equal(got, []uint64{48, 72}) {
		t.Fatalf("epochs %v", got)
	}
	if _, err := s.Get(ctx, "mix-7/onion", before.Version); !errors.Is(err, secret.ErrNone) {
		t.Errorf("a retired key is still in version %d: %v", before.Version, err)
	}
	if err := k.RetireOnions(ctx, 50); err != nil {
		t.Fatal(err)
	}
}

// One rotation in the store is that of all nodes that name the fleet's key; the
// version before it stays until the next.
func TestStoredFleet(t *testing.T) {
	s, ctx := secret.NewMemory(), t.Context()
	one, two := &StoredKeys{Store: s, Name: "stream-1", Fleet: "fleet"}, &StoredKeys{Store: s, Name: "stream-2", Fleet: "fleet"}
	if _, _, err := one.LoadFleet(ctx); !errors.Is(err, secret.ErrNone) {
		t.Fatal(err)
	}
	for want := uint64(1); want <= 3; want++ {
		if version, err := one.RotateFleet(ctx, nil); err != nil || version != want {
			t.Fatalf("version %d, error %v", version, err)
		}
		a, placed, err := one.LoadFleet(ctx)
		b, _, err2 := two.LoadFleet(ctx)
		if err != nil || err2 != nil || *a != *b || placed.IsZero() {
			t.Fatalf("errors %v, %v", err, err2)
		}
	}
	if _, err := s.Get(ctx, "fleet", 1); !errors.Is(err, secret.ErrNone) {
		t.Errorf("version 1: %v", err)
	}
	if got, err := s.Get(ctx, "fleet", 2); err != nil || !strings.HasPrefix(string(got.Value), kindFleet) {
		t.Errorf("version 2: %v", err)
	}
}

// A key file can be put as it is; another kind of key is not taken.
func TestKeyFilesAsSecrets(t *testing.T) {
	dir, s := t.TempDir(), secret.NewMemory()
	made, err := MakeAuthorityKey(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, authorityFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"authority", "witness"} {
		if _, err := s.Put(t.Context(), "a/"+part, b, 0); err != nil {
			t.Fatal(err)
		}
	}
	k := &StoredKeys{Store: s, Name: "a"}
	if got, err := k.Authority(t.Context()); err != nil || string(got.Public()) != string(made.Public()) {
		t.Errorf("another key, error %v", err)
	}
	if _, err := k.Witness(t.Context()); err == nil || !strings.Contains(err.Error(), "secret a/witness") {
		t.Errorf("an authority's key is a witness's: %v", err)
	}
}

const secretConfig = `name = "stream-1"
roles = ["entry", "exit"]
network = "network.toml"
keys = "secret://stream-1"
state = "state"

[secrets]
store = "keystore"
key_file = "keystore.key"
fleet = "secret://fleet"

[relay]
listen = "127.0.0.1:9001"
operator = "acme"
region = "eu"
`

func TestSecretReferences(t *testing.T) {
	dir := testFiles(t)
	path := filepath.Join(dir, "node.toml")
	c, err := parseConfig(path, []byte(secretConfig))
	if err != nil {
		t.Fatal(err)
	}
	want := SecretsConfig{Dir: filepath.Join(dir, "keystore"), KeyFile: filepath.Join(dir, "keystore.key"), Node: "stream-1", Fleet: "fleet"}
	if c.Secrets != want || c.Keys != "" || c.State != filepath.Join(dir, "state") {
		t.Errorf("%+v, keys %q, state %q", c.Secrets, c.Keys, c.State)
	}
	disk := "store = \"keystore\"\nkey_file = \"keystore.key\"\n"
	server := func(url string) string {
		return "store = \"" + url + "\"\nrole_id = \"r\"\nsecret_id_file = \"id\"\n"
	}
	for _, good := range []string{"https://vault:8200", "http://127.0.0.1:8200", "http://localhost:8200/"} {
		if _, err := parseConfig(path, []byte(strings.Replace(secretConfig, disk, server(good), 1))); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []struct{ from, to, why string }{
		{`secret://stream-1`, `secret://Stream 1`, "node.toml:4: keys: "},
		{`state = "state"`, ``, "state: missing"},
		{`secret://fleet`, `fleet`, "secrets.fleet"},
		{disk, "", "store is missing"},
		{disk, "store = \"keystore\"\n", "key_file or by passphrase_file"},
		{disk, disk + "passphrase_file = \"p\"\n", "key_file or by passphrase_file"},
		{disk, disk + "role_id = \"r\"\n", "are for a server"},
		{disk, server("http://vault:8200"), "in the clear"},
		{disk, server("https://user:word@vault"), "not the URL"},
		{disk, server("https://vault/v1"), "not the URL"},
		{disk, "store = \"https://vault\"\n", "role_id and secret_id_file"},
		{disk, server("https://vault") + "prefix = \"../\"\n", "mount and prefix"},
		{"[secrets]\n" + disk + "fleet = \"secret://fleet\"\n", "", "no [secrets]"},
		{`keys = "secret://stream-1"`, `keys = "stream-1/keys"`, ""},
		{"fleet = \"secret://fleet\"\n", "", ""},
	} {
		_, err := parseConfig(path, []byte(strings.Replace(secretConfig, bad.from, bad.to, 1)))
		if bad.why == "" && err != nil || bad.why != "" && (err == nil || !strings.Contains(err.Error(), bad.why)) {
			t.Errorf("%q for %q: %v", bad.to, bad.from, err)
		}
	}
	both := strings.NewReplacer(`keys = "secret://stream-1"`, `keys = "stream-1/keys"`, "fleet = \"secret://fleet\"\n", "").Replace(secretConfig)
	if _, err := parseConfig(path, []byte(both)); err == nil || !strings.Contains(err.Error(), "no effect") {
		t.Errorf("a store without a reference: %v", err)
	}
}

func TestLoadLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "line")
	for content, want := range map[string]string{"pass phrase\nmore\n": "pass phrase", "one\r\n": "one", "\n": "", "": ""} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadLine(path); string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, error %v", content, got, err)
		}
	}
	os.Chmod(path, 0o640)
	if _, err := LoadLine(path); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a file that others can read: %v", err)
	}
}
