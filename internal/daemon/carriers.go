package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/metric"
)

// EntryCarriers are the ways beside UDP on which an entry takes links
// (docs/protocol.md, section 15).
type EntryCarriers struct {
	// Kinds are those that the program has.
	Kinds []joint.Kind
	// Listen says where the node takes which.
	Listen map[directory.CarrierKind]netip.AddrPort
	// Name is the server name that clients ask for; "" for none.
	Name string
	// Certificate and Key are PEM files; "" for a certificate of the node's own
	// making, new with each start.
	Certificate, Key string
}

// carriers are the running servers of an entry; the zero carriers are none.
type carriers struct {
	face    *front.Face // of all servers; nil without
	servers []pipe.Listener
	offered []directory.Carrier
}

// startCarriers puts an entry's servers beside its socket.
func startCarriers(cfg *NodeConfig, base drive.Carrier, path string) (c carriers, _ drive.Carrier, err error) {
	if len(cfg.Carriers.Listen) == 0 {
		return c, base, nil
	}
	face, err := cfg.Carriers.face(path)
	if err != nil {
		return c, nil, err
	}
	c.face = face
	joined := joint.NewServer(base)
	for _, kind := range cfg.Carriers.Kinds { // in ascending order, as a descriptor has them
		at, ok := cfg.Carriers.Listen[kind.Kind]
		if !ok || kind.Listen == nil {
			continue
		}
		server, err := kind.Listen(at, face, joined.Accept)
		if err != nil {
			return c, nil, errors.Join(fmt.Errorf("carrier %v: %w", kind.Kind, err), c.close())
		}
		c.servers = append(c.servers, server)
		offered, err := face.Carrier(kind.Kind, server.Addr().Port())
		if err != nil {
			return c, nil, errors.Join(err, c.close())
		}
		c.offered = append(c.offered, offered)
	}
	if len(c.servers) < len(cfg.Carriers.Listen) {
		return c, nil, errors.Join(errors.New("this program lacks a carrier that the configuration asks for"), c.close())
	}
	return c, joined, nil
}

func (e *EntryCarriers) face(path string) (*front.Face, error) {
	f := &front.Face{Name: e.Name, Path: path}
	var err error
	if e.Certificate == "" {
		f.Certificate, err = front.SelfSigned(e.Name, time.Now())
	} else {
		f.Certificate, err = front.Load(e.Certificate, e.Key)
	}
	return f, err
}

// writeHandshakes writes the handshakes of entries.
func writeHandshakes(to *metric.Page, parts []part) {
	for _, p := range parts {
		if c := p.handshakes; c != nil {
			to.Distribute("tls_handshake_duration", classed(c.Classes[:], func(class int) time.Duration { return front.Bounds[class] }, c.Time), "part", p.Name)
			to.Add("tls_handshake_refused_total", float64(c.Refused), "part", p.Name)
		}
	}
}

func (c *carriers) close() error {
	var errs []error
	for _, s := range c.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// doors are the carriers of all entries in a view, by UDP address.
func doors(v *directory.View) map[netip.AddrPort][]front.Door {
	out := make(map[netip.AddrPort][]front.Door)
	for i := range v.Len() {
		if n := v.At(i); len(n.Carriers) > 0 {
			out[n.Addrs[0]] = front.Doors(n)
		}
	}
	return out
}
