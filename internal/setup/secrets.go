package setup

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/secret"
)

// SecretsConfig is the store behind the secret:// references of a configuration,
// and what they are.
type SecretsConfig struct {
	// Dir is the directory of an encrypted key store, which opens by a key file or
	// by the passphrase in a file.
	Dir                     string
	KeyFile, PassphraseFile string
	// URL is that of a server with Vault's API. Mount is its KV engine, Prefix stands
	// before names, and CA is a PEM file of who vouches for it, "" for whom the
	// system trusts.
	URL, Mount, Prefix, CA string
	// RoleID and SecretIDFile log in to it by AppRole.
	RoleID, SecretIDFile string
	// Node is the name under which the keys of the node are; "" for key files.
	Node string
	// Fleet is the name of the fleet key; "" for the one among the node's keys.
	Fleet string
}

// Used reports whether there is a store.
func (c *SecretsConfig) Used() bool { return c.Dir != "" || c.URL != "" }

// Locate takes where the store is: a directory, or a URL.
func (c *SecretsConfig) Locate(store string) {
	if c.Dir = store; strings.Contains(store, "://") {
		c.URL, c.Dir = store, ""
	}
}

// secretsTable is the table as written.
type secretsTable struct {
	Store          string `toml:"store"`
	KeyFile        string `toml:"key_file"`
	PassphraseFile string `toml:"passphrase_file"`
	Mount          string `toml:"mount"`
	Prefix         string `toml:"prefix"`
	CA             string `toml:"ca"`
	RoleID         string `toml:"role_id"`
	SecretIDFile   string `toml:"secret_id_file"`
	Fleet          string `toml:"fleet"`
}

// secrets reads the store, and the references of keys and state.
func (d *document) secrets(c *Config, f *configFile) {
	s, t := &c.Secrets, &f.Secrets
	if name, ok := d.reference("keys", f.Keys); ok {
		s.Node, c.Keys = name, ""
		if f.State == "" {
			d.bad("state", "missing: keys is a reference, and what must outlive the process needs a directory. Write one, as in state = \"state\"")
		}
		if !d.has("secrets") {
			d.bad("keys", "%q is a reference, and there is no [secrets] that says where it leads. Write the table with its store", f.Keys)
		}
	}
	dir := filepath.Dir(d.path)
	if f.State != "" {
		c.State = beside(dir, f.State)
	}
	if !d.has("secrets") {
		return
	}
	if t.Fleet != "" {
		name, ok := d.reference("secrets.fleet", t.Fleet)
		if s.Fleet = name; !ok {
			d.bad("secrets.fleet", "%q is not a reference. Write secret:// and the name of the secret, as in \"secret://fleet\"", t.Fleet)
		}
	}
	if s.Node == "" && s.Fleet == "" && !f.Control.refersToStore() && !f.Telemetry.refersToStore() {
		d.bad("secrets", "has no effect: no key is a reference. Write keys = \"secret://NAME\", or remove the table")
	}
	file := func(path string) string {
		if path == "" {
			return ""
		}
		return beside(dir, path)
	}
	s.KeyFile, s.PassphraseFile, s.SecretIDFile, s.CA = file(t.KeyFile), file(t.PassphraseFile), file(t.SecretIDFile), file(t.CA)
	s.Mount, s.Prefix, s.RoleID = t.Mount, t.Prefix, t.RoleID
	if s.Locate(t.Store); s.Dir != "" {
		s.Dir = beside(dir, s.Dir)
	}
	if err := s.Check(); err != nil {
		d.bad("secrets", "%v", err)
	}
}

// reference parses a value that may be a reference.
func (d *document) reference(key, s string) (name string, ok bool) {
	name, ok, err := secret.Reference(s)
	if err != nil {
		d.bad(key, "%v", err)
	}
	return name, ok
}

// Check says what is wrong with a store's figures, in the words of the table.
func (c *SecretsConfig) Check() error {
	if !c.Used() {
		return fmt.Errorf("store is missing. Write the directory of a key store, or the URL of a server, as in \"https://vault:8200\"")
	}
	if c.Dir != "" {
		switch {
		case (c.KeyFile == "") == (c.PassphraseFile == ""):
			return fmt.Errorf("a key store opens by key_file or by passphrase_file. Write one of them")
		case c.Mount != "" || c.Prefix != "" || c.CA != "" || c.RoleID != "" || c.SecretIDFile != "":
			return fmt.Errorf("mount, prefix, ca, role_id and secret_id_file are for a server. Write its URL in store, or remove them")
		}
		return nil
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return fmt.Errorf("store is not the URL of a secret server. Write https://host:port")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fmt.Errorf("store would send secrets in the clear. Write https://, or a loopback address of an agent")
	case c.RoleID == "" || c.SecretIDFile == "":
		return fmt.Errorf("role_id and secret_id_file are missing. Write the AppRole by which this node logs in")
	case c.KeyFile != "" || c.PassphraseFile != "":
		return fmt.Errorf("key_file and passphrase_file are for a key store on disk. Remove them")
	case strings.Trim(c.Mount+c.Prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") != "" || strings.Contains(c.Mount+"/"+c.Prefix, ".."):
		return fmt.Errorf("mount and prefix are paths of letters, digits, dot, hyphen, underscore and slash")
	}
	return nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// kindStore is of the key file of a key store.
const kindStore = "nyx-secret-keystore-1"

// MakeStoreKey makes the key file of a key store. It never replaces one.
func MakeStoreKey(path string, random io.Reader) (*seal.Key, error) {
	key := &seal.Key{}
	return key, makeSecret(path, kindStore, key[:], random)
}

// LoadStoreKey reads the key file of a key store.
func LoadStoreKey(path string) (*seal.Key, error) {
	key := &seal.Key{}
	return key, readSecret(path, kindStore, key[:])
}

// lineMax bounds a passphrase and a secret id.
const lineMax = 4 << 10

// LoadLine reads the first line of a file that its owner alone can read: a
// passphrase, or the secret id of an AppRole.
func LoadLine(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); runtime.GOOS != "windows" && mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o); run: chmod 600 %s", path, mode.Perm(), path)
	}
	b, err := readFile(path, lineMax)
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
		return nil, fmt.Errorf("the first line of %s is empty", path)
	}
	return line, nil
}
