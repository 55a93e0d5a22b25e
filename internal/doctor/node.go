package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/setup"
)

// node looks at what a node needs where it is to run, and at what it needs of others.
func (e *examination) node(ctx context.Context, cfg *setup.Config, running []daemon.Standing) {
	if !slices.ContainsFunc(running, func(s daemon.Standing) bool {
		return s.Program == "node" && s.Name == cfg.Name && s.Network == cfg.Network.Trust.Network
	}) {
		e.addresses(cfg)
	}
	e.look("directories that are written to")
	e.writable(cfg.State)
	if cfg.Roles != 0 {
		e.advertised(cfg.Relay)
		e.control(ctx, cfg.Controls, "the node goes by what was decided last, keeps its events, and follows no change of the configuration")
	}
	if !cfg.Authority && !cfg.Witness {
		e.directory(ctx, &cfg.Network.Trust, slices.Concat(cfg.Replicas, cfg.Directories))
	}
}

// addresses tries to listen where the node is to, unless it is running.
func (e *examination) addresses(cfg *setup.Config) {
	e.look("addresses that are listened on")
	for _, l := range []struct {
		wanted  bool
		network string
		at      netip.AddrPort
		key     string
	}{
		{cfg.Roles != 0, "udp", cfg.Relay.Listen, "relay.listen"},
		{cfg.Authority, "tcp", cfg.Serve.Listen, "authority.listen"},
		{cfg.Replica, "tcp", cfg.Replicate.Listen, "replica.listen"},
		{cfg.Control, "tcp", cfg.Plane.Listen, "control.listen"},
		{cfg.Client, "tcp", cfg.Proxy.Socks, "client.socks"},
		{cfg.Metrics.IsValid(), "tcp", cfg.Metrics, "metrics.listen"},
	} {
		if l.wanted {
			e.port(l.network, l.at.String(), "write another at "+l.key+", or stop what uses it")
		}
	}
}

// port tries whether an address can be listened on.
func (e *examination) port(network, at, do string) {
	err := listens(network, at)
	if err == nil {
		return
	}
	what := fmt.Sprintf("%s address %s cannot be listened on: %v", network, at, err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		what = fmt.Sprintf("%s address %s is in use by another program", network, at)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		what = fmt.Sprintf("%s address %s is not one of this machine", network, at)
	case errors.Is(err, syscall.EACCES):
		what = fmt.Sprintf("%s address %s: this user may not listen there; ports below 1024 are reserved", network, at)
	}
	e.found(PortTaken, Misconfiguration, what, do)
}

func listens(network, at string) error {
	if network == "udp" {
		conn, err := net.ListenPacket(network, at)
		if err == nil {
			conn.Close()
		}
		return err
	}
	ln, err := net.Listen(network, at)
	if err == nil {
		ln.Close()
	}
	return err
}

// advertised looks whether the address by which others are to reach a node is this
// machine's.
func (e *examination) advertised(r setup.RelayConfig) {
	e.look("the address that the node names")
	at := r.Advertise.Addr().Unmap()
	if !r.Advertise.IsValid() || at.IsLoopback() {
		return
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return
	}
	for _, a := range own {
		if p, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(p.IP); ok && ip.Unmap() == at {
				return
			}
		}
	}
	e.found(NATAdvertise, Note, fmt.Sprintf("no interface of this machine has %v, by which relay.advertise has others reach it: it is behind NAT, or the address is wrong", at),
		fmt.Sprintf("forward UDP port %d of that address to %v of this machine; the node is listed all the same, and counts no datagram (nyx top) if none gets through", r.Advertise.Port(), r.Listen))
}

// writable tries to keep a file in a directory.
func (e *examination) writable(dir string) {
	if dir == "" {
		return
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err == nil {
		f.Close()
		err = os.Remove(f.Name())
	}
	if err != nil {
		e.found(DirUnwritable, Misconfiguration, fmt.Sprintf("nothing can be kept in %s: %v", dir, err), "make the directory, owned by the user who runs the node, on a disk with room")
	}
}
