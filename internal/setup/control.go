package setup

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/mirror"
)

// ControlConfig is a process of the control plane.
type ControlConfig struct {
	// Listen is the address of its server.
	Listen netip.AddrPort
	// Bus are the URLs of the NATS servers of the bus; nil for one in the process.
	Bus []string
	// BusCA, BusCertificate and BusKey are PEM files for tls; "" for what the system
	// trusts, and for no certificate of our own.
	BusCA, BusCertificate, BusKey string
	// Passes are the unlinkable tokens that it issues.
	Passes Passes
	// Governing is how the audit log is indexed and read.
	Governing
}

// controlFile is the table [control] of a node's configuration.
type controlFile struct {
	Listen         string `toml:"listen"`
	Bus            string `toml:"bus"`
	BusCA          string `toml:"bus_ca"`
	BusCertificate string `toml:"bus_certificate"`
	BusKey         string `toml:"bus_key"`

	Passes        string `toml:"passes"`
	PassesPerHour int    `toml:"passes_per_hour"`
	PassLife      string `toml:"pass_life"`
	governingFile
}

const (
	controlKeyFile = "control.key"
	kindControl    = "nyx-secret-control-1"
	// controlsMax bounds the control processes of a network: three zones, with room.
	controlsMax = 9
)

// MakeControlKey makes the key of a control process's certificate in dir, and
// returns the hash by which nodes know it. It never replaces a key.
func MakeControlKey(dir string, random io.Reader) (pin [32]byte, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return pin, fmt.Errorf("cannot make the key directory: %w", err)
	}
	var key [front.KeySize]byte
	defer clear(key[:])
	if err := makeSecret(filepath.Join(dir, controlKeyFile), kindControl, key[:], random); err != nil {
		return pin, err
	}
	cert, err := front.Issue(&key, time.Now())
	if err != nil {
		return pin, err
	}
	return front.Pin(&cert)
}

// LoadControlKey reads the key of a control process's certificate.
func LoadControlKey(dir string) (*[front.KeySize]byte, error) {
	var key [front.KeySize]byte
	return &key, readSecret(filepath.Join(dir, controlKeyFile), kindControl, key[:])
}

// control reads the table of the role.
func (d *document) control(c *Config, f *configFile) {
	out, in := &c.Plane, &f.Control
	out.Listen = d.address("control.listen", in.Listen)
	if in.Bus != "" && in.Bus != "nats" {
		for u := range strings.SplitSeq(in.Bus, ",") {
			u = strings.TrimSpace(u)
			if rest, ok := strings.CutPrefix(strings.Replace(u, "tls://", "nats://", 1), "nats://"); !ok || rest == "" || strings.ContainsAny(rest, " \t/") {
				d.bad("control.bus", "%q is not a bus. Write \"nats\" for one in the process, or the URLs of a NATS cluster as in \"tls://a:4222,tls://b:4222\"", u)
			}
			out.Bus = append(out.Bus, u)
		}
	} else if in.BusCA != "" || in.BusCertificate != "" || in.BusKey != "" {
		d.bad("control.bus", "bus_ca, bus_certificate and bus_key are for a cluster. Write its URLs, or remove them")
	}
	if (in.BusCertificate == "") != (in.BusKey == "") {
		d.bad("control.bus_certificate", "certificate and key go together. Write both, or neither")
	}
	dir := filepath.Dir(d.path)
	for _, file := range []struct {
		from string
		to   *string
	}{{in.BusCA, &out.BusCA}, {in.BusCertificate, &out.BusCertificate}, {in.BusKey, &out.BusKey}} {
		if file.from != "" {
			*file.to = beside(dir, file.from)
		}
	}
	d.governing(&out.Governing, &in.governingFile, in.Passes, &c.Secrets)
	d.passes(c, f)
	if len(c.Directories) == 0 {
		d.bad("directory.urls", `missing here and in the network file. Write urls = ["http://host:port"]`)
	}
}

// controls checks the URLs of control processes with the hashes of their keys.
func (d *document) controls(key string, urls []string) {
	if len(urls) > controlsMax {
		d.bad(key, "%d control processes, at most %d are known. Remove some", len(urls), controlsMax)
	}
	for _, u := range urls {
		if s, err := mirror.ParseServer(u); err != nil || !s.Replica {
			d.bad(key, "%q is not a control process. Write https://host:port#HASH, as nyx network init does", u)
		}
	}
}

// controlNodes makes the keys and the configurations of the control processes.
func (g *generator) controlNodes(dir string) error {
	for i := range g.Controls {
		at, name := g.place(false), fmt.Sprintf("control-%d", i+1)
		pin, err := MakeControlKey(filepath.Join(g.dir, name, "keys"), g.Random)
		if err != nil {
			return err
		}
		passes := ""
		if g.Passes && i == 0 {
			if passes, err = g.issuer(filepath.Join(g.dir, name, "keys")); err != nil {
				return err
			}
		}
		g.network.Controls = append(g.network.Controls, mirror.Server{URL: "https://" + at.String(), Pin: pin, Replica: true}.String())
		var b strings.Builder
		g.head(&b, name, []string{"control"})
		fmt.Fprintf(&b, "\n[control]\nlisten = %q\n# In the process; with several control processes, the URLs of a NATS cluster that they share.\nbus = \"nats\"\n%s", at, passes)
		g.out.Controls = append(g.out.Controls, filepath.Join(dir, name, "node.toml"))
		if err := writeFile(filepath.Join(g.dir, name, "node.toml"), []byte(b.String()), 0o644, false); err != nil {
			return err
		}
	}
	return nil
}

// issuer makes the key of the network's issuer of unlinkable tokens, and returns what
// its configuration says of it.
func (g *generator) issuer(keys string) (string, error) {
	signer, err := MakeIssuerKey(keys, g.Random)
	if err != nil {
		return "", err
	}
	g.network.Issuer = &Issuer{Key: signer.Public(), Required: true}
	to := PassesOpen
	if g.PSK {
		to = PassesKey
	}
	return fmt.Sprintf("# Who gets unlinkable tokens: open, key, or oidc with tables [[control.issuer]].\npasses = %q\n", to), nil
}
