package setup

import (
	"cmp"
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
	// Members are the control processes that are one cluster, this one included; nil for
	// none. BusMembers says that their bus is there too.
	Members    []Member
	BusMembers bool
	// Passes are the unlinkable tokens that it issues.
	Passes Passes
	// Console is that of the network.
	Console ConsoleConfig
	// Governing is how the audit log is indexed and read.
	Governing
	// Copies are of that log, where nobody can change them.
	Copies CopiesConfig
	// Policy is where policies of admission come from: a directory, an archive, or the
	// URL of one; "" for the one that is built in. PolicyKey is the PEM file of the public
	// key of who signs them; "" for none.
	Policy, PolicyKey string
	// Store keeps the configuration of the network.
	Store StoreConfig
	// Operators is the address at which operators of this machine change it.
	Operators netip.AddrPort
}

// defaultOperators is any port: the operator file says which.
const defaultOperators = "127.0.0.1:0"

// controlFile is the table [control] of a node's configuration.
type controlFile struct {
	Listen         string `toml:"listen"`
	Bus            string `toml:"bus"`
	BusCA          string `toml:"bus_ca"`
	BusCertificate string `toml:"bus_certificate"`
	BusKey         string `toml:"bus_key"`

	Policy    string `toml:"policy"`
	PolicyKey string `toml:"policy_key"`

	Store            string `toml:"store"`
	StoreCA          string `toml:"store_ca"`
	StoreCertificate string `toml:"store_certificate"`
	StoreKey         string `toml:"store_key"`

	Members []string `toml:"members"`

	Operators string `toml:"operators"`

	Passes           string `toml:"passes"`
	PassesPerHour    int    `toml:"passes_per_hour"`
	PassesPerHourAll int    `toml:"passes_per_hour_all"`
	PassLife         string `toml:"pass_life"`
	governingFile
	copiesFile
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
	if in.Bus == membersWord {
		out.BusMembers = true
	} else if in.Bus != "" && in.Bus != "nats" {
		for u := range strings.SplitSeq(in.Bus, ",") {
			u = strings.TrimSpace(u)
			if rest, ok := strings.CutPrefix(strings.Replace(u, "tls://", "nats://", 1), "nats://"); !ok || rest == "" || strings.ContainsAny(rest, " \t/") {
				d.bad("control.bus", "%q is not a bus. Write \"nats\" for one in the process, or the URLs of a NATS cluster as in \"tls://a:4222,tls://b:4222\"", u)
			}
			out.Bus = append(out.Bus, u)
		}
	}
	if len(out.Bus) == 0 && (in.BusCA != "" || in.BusCertificate != "" || in.BusKey != "") {
		d.bad("control.bus", "bus_ca, bus_certificate and bus_key are for a cluster. Write its URLs, or remove them")
	}
	if (in.BusCertificate == "") != (in.BusKey == "") {
		d.bad("control.bus_certificate", "certificate and key go together. Write both, or neither")
	}
	out.BusCA, out.BusCertificate, out.BusKey = d.file(in.BusCA), d.file(in.BusCertificate), d.file(in.BusKey)
	d.policy(out, in)
	d.members(out, c.Name, in)
	out.Operators = d.address("control.operators", cmp.Or(in.Operators, defaultOperators))
	if a := out.Operators.Addr(); a.IsValid() && !a.IsLoopback() {
		d.bad("control.operators", "%q is not an address of this machine alone: what operators show goes there unencrypted. Write \"127.0.0.1:PORT\", and reach it from elsewhere by ssh -L", in.Operators)
	}
	if in.Operators != "" && out.Store.Kind == StoreNone {
		d.bad("control.operators", "this process has no configuration for operators (store = \"none\"). Remove the key, or ask the process that has it")
	}
	d.governing(&out.Governing, &in.governingFile, in.Passes, &c.Secrets)
	d.copies(&out.Copies, &in.copiesFile, out.AuditDays, &c.Secrets)
	d.passes(c, f)
	d.console(&out.Console, &f.Console)
	if len(c.Directories) == 0 {
		d.bad("directory.urls", `missing here and in the network file. Write urls = ["http://host:port"]`)
	}
}

// policy reads where policies come from.
func (d *document) policy(out *ControlConfig, in *controlFile) {
	out.PolicyKey = d.file(in.PolicyKey)
	if out.PolicyKey != "" {
		if _, err := os.Stat(out.PolicyKey); err != nil {
			d.bad("control.policy_key", "%v. Write the PEM file of the public key of who signs policies (ECDSA on P-256)", err)
		}
	}
	rest, remote := strings.CutPrefix(strings.Replace(in.Policy, "https://", "http://", 1), "http://")
	switch {
	case in.Policy == "":
	case remote && (rest == "" || strings.ContainsAny(rest, " \t\n")):
		d.bad("control.policy", "%q is not a URL. Write https://host/path of a bundle, or the path of one", in.Policy)
	case remote:
		if out.Policy = in.Policy; in.PolicyKey == "" {
			d.bad("control.policy_key", "missing, and control.policy is a URL: a bundle from elsewhere must be signed. Write the PEM file of the signer's public key")
		}
	default:
		out.Policy = d.file(in.Policy)
		if _, err := os.Stat(out.Policy); err != nil {
			d.bad("control.policy", "%v. Write the directory, the archive or the URL of a policy bundle, or remove the key for the policy that is built in", err)
		}
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
	members, err := g.controlMembers()
	if err != nil {
		return err
	}
	for i := range g.Controls {
		at, name := g.controls[i], controlName(i)
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
		b.WriteString("\n[console]\n# Pages for operators, on this machine; port 0 is any. nyx console --data keys prints a link to them.\nlisten = \"127.0.0.1:0\"\n")
		fmt.Fprintf(&b, "\n[control]\nlisten = %q\n", at)
		if members != "" {
			b.WriteString(members)
		} else {
			store := "etcd"
			if i > 0 {
				store = "none"
			}
			b.WriteString("# In the process; with several control processes, the URLs of a NATS cluster that they share.\nbus = \"nats\"\n")
			fmt.Fprintf(&b, "# The configuration of the network: in the process (\"etcd\"), at another control process (\"none\"),\n# or the URLs of an etcd cluster, which all of them then name.\nstore = %q\n", store)
		}
		fmt.Fprintf(&b, "# The directory, archive or URL of a bundle of policies; without it everybody is admitted.\n# policy = \"policy\"\n# For how many days the audit log keeps events; without it, for ever.\n# audit_days = 400\n%s", passes)
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
