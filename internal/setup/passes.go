package setup

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

// Key files of an issuer of unlinkable tokens: what signs the list of its keys.
const (
	issuerFile       = "pass-issuer.key"
	issuerPublicFile = "pass-issuer.pub"
	kindIssuer       = "nyx-secret-pass-issuer-1"
	kindIssuerPublic = "nyx-public-pass-issuer-1"
)

// MakeIssuerKey makes an issuer's signing key in dir, with the public key beside it for
// the network file.
func MakeIssuerKey(dir string, random io.Reader) (*seal.Signer, error) {
	return makeSigner(dir, issuerFile, kindIssuer, issuerPublicFile, kindIssuerPublic, "an issuer of unlinkable tokens", random)
}

// LoadIssuerKey reads an issuer's signing key from its directory.
func LoadIssuerKey(dir string) (*seal.Signer, error) {
	return loadSigner(filepath.Join(dir, issuerFile), kindIssuer)
}

// Issuer is who issues the unlinkable tokens of a network.
type Issuer struct {
	// Key is the public key that signs the list of its keys.
	Key []byte
	// Required says that entries admit nobody without a token.
	Required bool
}

// issuerTable is the table [issuer] of a network file.
type issuerTable struct {
	Key      string `toml:"key"`
	KeyFile  string `toml:"key_file"`
	Required bool   `toml:"required"`
}

// issuer reads who issues unlinkable tokens.
func (d *document) issuer(n *Network, f *networkFile) {
	if !d.has("issuer") {
		return
	}
	n.Issuer = &Issuer{Key: d.publicKey("issuer", kindIssuerPublic, f.Issuer.Key, f.Issuer.KeyFile), Required: f.Issuer.Required}
	if len(n.Controls) == 0 {
		d.bad("issuer", "the issuer is a control process, and controls names none. Write its URL there")
	}
}

// encodeIssuer writes what issuer reads.
func (n *Network) encodeIssuer(b *strings.Builder) {
	if n.Issuer != nil {
		fmt.Fprintf(b, "\n# Who issues unlinkable tokens; it is one of the controls.\n[issuer]\nrequired = %v\nkey = %q\n", n.Issuer.Required, base64.StdEncoding.EncodeToString(n.Issuer.Key))
	}
}

// Passes are the unlinkable tokens that a control process issues.
type Passes struct {
	// To is who gets them: "" nobody, it is no issuer; "open" everybody; "key" who
	// holds the network's key; "oidc" whom one of the process's Issuers names.
	To string
	// PerHour is how many one of them gets in an hour. Those who are known by nothing, or
	// by the network's key, are told apart by their addresses, and PerHourAll is how many
	// all of them get together; 0 where each has a name.
	PerHour, PerHourAll int
	// Life is how long a key signs.
	Life time.Duration
}

// Bounds of what one gets: 30 sessions a minute, which is what an entry admits one
// client at; of what those get together who have addresses alone, of which some have many:
// half an hour of the issuer's processor; and of a key's life, of which there must be
// enough to fetch long before.
const (
	defaultPassesPerHour        = 64
	passesPerHourMax            = 30 * 60
	defaultPassesPerHourAll     = 1 << 13
	passesPerHourAllMax         = 1 << 19
	defaultPassLife             = 24 * time.Hour
	passLifeLeast, passLifeMost = time.Hour, 31 * 24 * time.Hour
)

// To whom passes are issued.
const (
	PassesOpen = "open"
	PassesKey  = "key"
	PassesOIDC = "oidc"
)

// passes reads whom a control process gives passes.
func (d *document) passes(c *Config, f *configFile) {
	in, out := &f.Control, &c.Plane.Passes
	*out = Passes{To: in.Passes, PerHour: cmp.Or(in.PassesPerHour, defaultPassesPerHour), PerHourAll: in.PassesPerHourAll, Life: defaultPassLife}
	if out.PerHour < 1 || out.PerHour > passesPerHourMax {
		d.bad("control.passes_per_hour", "%d is out of range. Write 1 to %d", out.PerHour, passesPerHourMax)
	}
	if out.To == PassesOpen || out.To == PassesKey {
		out.PerHourAll = cmp.Or(out.PerHourAll, defaultPassesPerHourAll)
		if out.PerHourAll < out.PerHour || out.PerHourAll > passesPerHourAllMax {
			d.bad("control.passes_per_hour_all", "%d is out of range. Write what one gets, %d, to %d", out.PerHourAll, out.PerHour, passesPerHourAllMax)
		}
	} else if out.PerHourAll != 0 {
		d.bad("control.passes_per_hour_all", "it bounds those who have no name. Remove it, or write passes = \"open\" or \"key\"")
	}
	if in.PassLife != "" {
		out.Life = d.duration("control.pass_life", in.PassLife, passLifeLeast, passLifeMost).Truncate(time.Second)
	}
	switch known := []string{"", PassesOpen, PassesKey, PassesOIDC}; {
	case !slices.Contains(known, out.To):
		d.bad("control.passes", "%q is not who gets unlinkable tokens. Use open, key or oidc", out.To)
	case out.To == PassesOIDC && len(c.Plane.Issuers) == 0:
		d.bad("control.issuer", "missing, and passes = \"oidc\" gives passes to whom an identity provider names. Write a table [[control.issuer]] with its url, keys and audience")
	case c.Network == nil || out.To == "":
	case c.Network.Issuer == nil:
		d.bad("control.passes", "the network file has no table [issuer]. Write it, with the public key in %s", issuerPublicFile)
	case out.To == PassesKey && c.Network.PSK == nil:
		d.bad("control.passes", "key, but the network has no psk. Use open or oidc")
	}
}

// wallet is the directory of a client's unlinkable tokens, "" for none.
func (d *document) wallet(dir string) string {
	if dir == "" {
		return ""
	}
	return beside(filepath.Dir(d.path), dir)
}

// Destroy overwrites a private file and removes it.
func Destroy(path string) error { return destroy(path) }
