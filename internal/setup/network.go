package setup

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Network is what a client must know of a network from elsewhere: whom to
// believe and where to ask.
type Network struct {
	Trust directory.Trust
	// Directories are URLs; nobody behind them need be trusted.
	Directories []string
	// Replicas are URLs of replicas, each with # and the hash of its key.
	Replicas []string
	// Controls are URLs of the control plane, each with # and the hash of its key.
	Controls []string
	// Params are for the authorities; documents carry them to everybody else.
	Params directory.Params
	// PSK is a secret of the network's members, or nil.
	PSK *seal.Key
	// WitnessURLs are where the authorities reach the witnesses of Trust, in their
	// order.
	WitnessURLs []string
	// Issuer issues unlinkable tokens; nil: there are none.
	Issuer *Issuer
}

type networkFile struct {
	Network     string   `toml:"network"`
	Threshold   int      `toml:"threshold"`
	Directories []string `toml:"directories"`
	Replicas    []string `toml:"replicas"`
	Controls    []string `toml:"controls"`
	PSK         string   `toml:"psk"`

	Issuer           issuerTable    `toml:"issuer"`
	WitnessThreshold int            `toml:"witness_threshold"`
	Witness          []witnessTable `toml:"witness"`
	Parameters       struct {
		Epoch       string `toml:"epoch"`
		OnionEpochs int64  `toml:"onion_epochs"`
		ValidEpochs int64  `toml:"valid_epochs"`
	} `toml:"parameters"`
	Authority []struct {
		Name    string `toml:"name"`
		Key     string `toml:"key"`
		KeyFile string `toml:"key_file"`
	} `toml:"authority"`
}

// LoadNetwork reads and checks a network file.
func LoadNetwork(path string) (*Network, error) {
	b, err := readFile(path, configMax)
	if err != nil {
		return nil, fmt.Errorf("cannot read the network file: %w", err)
	}
	return parseNetwork(path, b)
}

func parseNetwork(path string, b []byte) (*Network, error) {
	f := networkFile{}
	d, err := decode(path, b, &f)
	if err != nil {
		return nil, err
	}
	n := &Network{
		Trust:       directory.Trust{Network: f.Network, Threshold: f.Threshold},
		Directories: f.Directories, Replicas: f.Replicas, Controls: f.Controls,
	}
	d.name("network", f.Network)
	for _, u := range f.Directories {
		d.url("directories", u)
	}
	d.replicas("replicas", f.Replicas)
	d.controls("controls", f.Controls)
	for i, a := range f.Authority {
		at := fmt.Sprintf("authority[%d]", i+1)
		key := d.publicKey(at, kindPublic, a.Key, a.KeyFile)
		for j, other := range n.Trust.Authorities {
			if key != nil && string(key) == string(other) {
				d.bad(at, "the same key as authority[%d]. Each authority has its own", j+1)
			}
		}
		n.Trust.Authorities = append(n.Trust.Authorities, key)
	}
	switch total := len(f.Authority); {
	case total == 0 || total > directory.MaxAuthorities:
		d.bad("authority", "%d authorities. Write 1 to %d tables [[authority]], each with its key", total, directory.MaxAuthorities)
	case f.Threshold < 1 || f.Threshold > total:
		d.bad("threshold", "%d of %d authorities makes no sense. Write 1 to %d; more than half is wise", f.Threshold, total, total)
	}
	if f.PSK != "" {
		n.PSK = &seal.Key{}
		if err := decodeBase64(f.PSK, n.PSK[:]); err != nil {
			d.bad("psk", "%v. Write 32 bytes in base64", err)
		}
	}
	d.parameters(&n.Params, &f)
	d.witnesses(n, &f)
	d.issuer(n, &f)
	if err := d.err(); err != nil {
		return nil, err
	}
	return n, nil
}

// publicKey reads a key of a kind, which stands in the file or beside it.
func (d *document) publicKey(at, kind, inline, file string) []byte {
	key := make([]byte, seal.SignPublicSize)
	switch {
	case inline != "" && file != "":
		d.bad(at+".key_file", "beside key. Write one of the two")
	case inline != "":
		if err := decodeBase64(inline, key); err != nil {
			d.bad(at+".key", "%v. Write the line of the .pub file after its first word", err)
		}
		return key
	case file != "":
		path := beside(filepath.Dir(d.path), file)
		b, err := readFile(path, keyFileMax)
		if err == nil {
			err = parseKey(path, kind, b, key)
		}
		if err != nil {
			d.bad(at+".key_file", "%v", err)
		}
		return key
	default:
		d.bad(at+".key", "missing. Write the public key, or its file as key_file")
	}
	return nil
}

func decodeBase64(s string, out []byte) error {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return fmt.Errorf("not base64")
	}
	if len(b) != len(out) {
		return fmt.Errorf("%d bytes, not %d", len(b), len(out))
	}
	copy(out, b)
	return nil
}

// epochs bounds the parameters as documents do.
const epochsMax = 1 << 16

func (d *document) parameters(p *directory.Params, f *networkFile) {
	if f.Parameters.Epoch != "" {
		p.EpochLength = d.duration("parameters.epoch", f.Parameters.Epoch, time.Second, 31*24*time.Hour)
		if p.EpochLength%time.Second != 0 {
			d.bad("parameters.epoch", "%q is not whole seconds. Write it as in \"1h\"", f.Parameters.Epoch)
		}
	}
	count := func(key string, v int64) uint32 {
		if v < 0 || v > epochsMax {
			d.bad(key, "%d is out of range. Write 1 to %d", v, epochsMax)
			return 0
		}
		return uint32(v)
	}
	p.OnionEpochs = count("parameters.onion_epochs", f.Parameters.OnionEpochs)
	p.ValidEpochs = count("parameters.valid_epochs", f.Parameters.ValidEpochs)
}

// Encode writes a network file that LoadNetwork reads back. names are of the
// authorities, in order; missing ones are numbered.
func (n *Network) Encode(names []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Nyx network file: whom a client believes, and where it asks.\n# It holds no secret%s.\n\n", map[bool]string{true: " but the psk", false: ""}[n.PSK != nil])
	fmt.Fprintf(&b, "network = %q\n# That many authorities must have signed a document.\nthreshold = %d\ndirectories = [", n.Trust.Network, n.Trust.Threshold)
	for i, u := range n.Directories {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", u)
	}
	b.WriteString("]\n")
	list := func(why, key string, urls []string) {
		if len(urls) == 0 {
			return
		}
		fmt.Fprintf(&b, "# %s\n%s = [", why, key)
		for i, u := range urls {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%q", u)
		}
		b.WriteString("]\n")
	}
	list("Asked first; the hash of each one's key follows its address.", "replicas", n.Replicas)
	list("To which nodes tell events; of clients, those speak to them that get unlinkable tokens.", "controls", n.Controls)
	if n.Trust.WitnessThreshold > 0 {
		fmt.Fprintf(&b, "# That many witnesses must have seen it in a log.\nwitness_threshold = %d\n", n.Trust.WitnessThreshold)
	}
	if n.PSK != nil {
		fmt.Fprintf(&b, "psk = %q\n", base64.StdEncoding.EncodeToString(n.PSK[:]))
	}
	if p := n.Params; p.EpochLength != 0 || p.OnionEpochs != 0 || p.ValidEpochs != 0 {
		b.WriteString("\n[parameters]\n")
		if p.EpochLength != 0 {
			fmt.Fprintf(&b, "epoch = %q\n", p.EpochLength)
		}
		if p.OnionEpochs != 0 {
			fmt.Fprintf(&b, "onion_epochs = %d\n", p.OnionEpochs)
		}
		if p.ValidEpochs != 0 {
			fmt.Fprintf(&b, "valid_epochs = %d\n", p.ValidEpochs)
		}
	}
	for i, key := range n.Trust.Authorities {
		name := fmt.Sprintf("authority-%d", i+1)
		if i < len(names) {
			name = names[i]
		}
		fmt.Fprintf(&b, "\n[[authority]]\nname = %q\nkey = %q\n", name, base64.StdEncoding.EncodeToString(key))
	}
	n.encodeWitnesses(&b)
	n.encodeIssuer(&b)
	return []byte(b.String())
}

// membersMax bounds the list of members, in bytes: a line per node.
const membersMax = directory.MaxNodes * 160

// LoadMembers reads the list of nodes that may publish: a line each, with the
// node's ID in hex and, if wanted, a name. Lines that begin with # are
// comments.
func LoadMembers(path string) (map[wire.NodeID]string, error) {
	b, err := readFile(path, membersMax)
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of members: %w", err)
	}
	members := make(map[wire.NodeID]string)
	for i, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		text, name, _ := strings.Cut(line, " ")
		id, err := hex.DecodeString(text)
		if err != nil || len(id) != len(wire.NodeID{}) {
			return nil, &Problem{path, i + 1, "", fmt.Sprintf("%q is not a node's ID. Write 64 hexadecimal digits, a space and a name", text)}
		}
		members[wire.NodeID(id)] = strings.TrimSpace(name)
	}
	return members, nil
}
