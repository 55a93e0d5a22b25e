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
	"github.com/nyxnet/nyx/internal/directory"
)

// Member is a control process of those that are one cluster among themselves.
type Member struct {
	// Name is that of its process.
	Name string
	// Address is where it listens for the others.
	Address netip.AddrPort
}

const (
	// membersWord stands for them as a store, or as a bus.
	membersWord = "members"
	// membersLeast is the least cluster that goes on without one of its members.
	membersLeast = 3

	memberCertificateFile = "member.pem"
	memberKeyFile         = "member.key"
	// membersFile has the certificates of all members, who trust these and no others.
	membersFile = "controls.pem"
)

// members reads where the configuration of the network is, and who has a part in it.
func (d *document) members(out *ControlConfig, name string, in *controlFile) {
	if in.Store != membersWord {
		d.store(&out.Store, "control", "none", StoreNone, storeFile{in.Store, in.StoreCA, in.StoreCertificate, in.StoreKey})
		if len(in.Members) > 0 || out.BusMembers {
			d.bad("control.store", "%q, and members have no effect without store = \"members\". Write that, or remove them", in.Store)
		}
		return
	}
	out.Store = StoreConfig{Kind: StoreMembers, CA: d.file(in.StoreCA), Certificate: d.file(in.StoreCertificate), Key: d.file(in.StoreKey)}
	if in.StoreCA == "" || in.StoreCertificate == "" || in.StoreKey == "" {
		d.bad("control.store", "members know each other by certificates: write store_ca, store_certificate and store_key, as nyx network init --control 3 does")
	}
	own := false
	for _, text := range in.Members {
		who, at, _ := strings.Cut(text, "@")
		address, why := parseAddress(at)
		if !directory.ValidName(who) || why != "" {
			d.bad("control.members", "%q is not a member. Write name@host:port, as in \"control-1@192.0.2.1:9410\"", text)
		}
		for _, other := range out.Members {
			if other.Name == who || other.Address == address {
				d.bad("control.members", "%q has the name or the address of another. Write each once", text)
			}
		}
		own = own || who == name
		out.Members = append(out.Members, Member{who, address})
	}
	switch {
	case len(in.Members) < membersLeast || len(in.Members) > controlsMax:
		d.bad("control.members", "%d members: %d to %d are possible, and the least goes on without one of them", len(in.Members), membersLeast, controlsMax)
	case !own:
		d.bad("control.members", "none of them has the name of this process, %q. Write it among them", name)
	}
}

// MakeMember makes the key of a control process that is a member of a cluster, and its
// certificate, in dir. It never replaces them.
func MakeMember(dir, name string, host netip.Addr, random io.Reader) (certificate []byte, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the key directory: %w", err)
	}
	var secret [front.KeySize]byte
	defer clear(secret[:])
	if err := fill(random, secret[:]); err != nil {
		return nil, err
	}
	certificate, key, err := front.Lasting(&secret, name, host, time.Now())
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if err := writeFile(filepath.Join(dir, memberKeyFile), key, 0o600, false); err != nil {
		return nil, fmt.Errorf("cannot write the key: %w", err)
	}
	if err := writeFile(filepath.Join(dir, memberCertificateFile), certificate, 0o644, false); err != nil {
		return nil, fmt.Errorf("cannot write the certificate: %w", err)
	}
	return certificate, nil
}

func controlName(i int) string { return fmt.Sprintf("control-%d", i+1) }

// memberPorts is how many ports the members of a network listen at for each other.
func (c *InitConfig) memberPorts() int {
	if c.Controls < membersLeast {
		return 0
	}
	return c.Controls
}

// controlMembers gives the control processes their addresses, and those that are a cluster
// their certificates; it returns what the configuration of each says of it, "" for none.
// Members have the last ports.
func (g *generator) controlMembers() (text string, err error) {
	for range g.Controls {
		g.controls = append(g.controls, g.place(false))
	}
	if g.memberPorts() == 0 {
		return "", nil
	}
	var list []string
	var certificates []byte
	for i, at := range g.controls {
		peer := netip.AddrPortFrom(at.Addr(), g.Port+uint16(g.Ports()-g.memberPorts()+i))
		list = append(list, fmt.Sprintf("%q", controlName(i)+"@"+peer.String()))
		one, err := MakeMember(filepath.Join(g.dir, controlName(i), "keys"), controlName(i), at.Addr(), g.Random)
		if err != nil {
			return "", err
		}
		certificates = append(certificates, one...)
	}
	if err := writeFile(filepath.Join(g.dir, membersFile), certificates, 0o644, false); err != nil {
		return "", err
	}
	return fmt.Sprintf(`# The control processes are one cluster, which has the configuration of the network and the
# bus of audit events, and goes on while most of them run. Each listens at its address for
# the others, who are told by their certificates.
store = "members"
bus = "members"
members = [%s]
store_ca = "../%s"
store_certificate = "keys/%s"
store_key = "keys/%s"
`, strings.Join(list, ", "), membersFile, memberCertificateFile, memberKeyFile), nil
}
