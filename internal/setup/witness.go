package setup

import (
	"encoding/base64"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/seal"
)

// Key files of a witness, as those of an authority.
const (
	witnessFile       = "witness.key"
	witnessPublicFile = "witness.pub"
)

const (
	kindWitness       = "nyx-secret-witness-1"
	kindWitnessPublic = "nyx-public-witness-1"
)

// MakeWitnessKey makes a witness's signing key in dir, with the public key beside
// it for the network file.
func MakeWitnessKey(dir string, random io.Reader) (*seal.Signer, error) {
	return makeSigner(dir, witnessFile, kindWitness, witnessPublicFile, kindWitnessPublic, "a witness", random)
}

// LoadWitnessKey reads a witness's signing key from its directory.
func LoadWitnessKey(dir string) (*seal.Signer, error) {
	return loadSigner(filepath.Join(dir, witnessFile), kindWitness)
}

// witnessTable is a table of a network file.
type witnessTable struct {
	Name    string `toml:"name"`
	Key     string `toml:"key"`
	KeyFile string `toml:"key_file"`
	URL     string `toml:"url"`
}

// witnesses reads whose cosignatures count, and where authorities ask for them.
func (d *document) witnesses(n *Network, f *networkFile) {
	for i, w := range f.Witness {
		at := fmt.Sprintf("witness[%d]", i+1)
		n.Trust.Witnesses = append(n.Trust.Witnesses, d.publicKey(at, kindWitnessPublic, w.Key, w.KeyFile))
		if w.URL == "" {
			d.bad(at+".url", "missing. Write where the authorities reach the witness, as in \"http://host:port\"")
		} else {
			d.url(at+".url", w.URL)
		}
		n.WitnessURLs = append(n.WitnessURLs, w.URL)
	}
	if n.Trust.WitnessThreshold = f.WitnessThreshold; f.WitnessThreshold == 0 && len(f.Witness) > 0 {
		n.Trust.WitnessThreshold = len(f.Witness)/2 + 1
	}
	if len(d.problems) > 0 {
		return // keys that could not be read would be told of twice
	}
	if err := translog.NewPolicy(&n.Trust).Check(); err != nil {
		d.bad("witness_threshold", "%v", err)
	}
}

// encodeWitnesses writes what witnesses reads.
func (n *Network) encodeWitnesses(b *strings.Builder) {
	for i, key := range n.Trust.Witnesses {
		fmt.Fprintf(b, "\n[[witness]]\nname = \"witness-%d\"\nurl = %q\nkey = %q\n", i+1, n.WitnessURLs[i], base64.StdEncoding.EncodeToString(key))
	}
}

// witness reads the table of the role.
func (d *document) witness(c *Config, f *configFile) {
	c.WitnessAt = d.address("witness.listen", f.Witness.Listen)
	if c.Network != nil && len(c.Network.Trust.Witnesses) == 0 {
		d.bad("roles", "witness: the network file names no witness")
	}
}
