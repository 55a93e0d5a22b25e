package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/setup"
)

// client looks at what stands between this machine and a network that it is to join.
func (e *examination) client(ctx context.Context, n *setup.Network, running []daemon.Standing) {
	if e.Socks != "" && !slices.ContainsFunc(running, func(s daemon.Standing) bool { return s.Socks == e.Socks }) {
		e.look("the address of the proxy")
		e.port("tcp", e.Socks, "choose another with --socks, or stop what uses it")
	}
	e.translated(n)
	if n.Issuer != nil {
		e.control(ctx, n.Controls, "tokens cannot be fetched; those in the wallet are good until they end")
	}
	if e.directory(ctx, &n.Trust, slices.Concat(n.Replicas, n.Directories)) {
		e.entries(ctx, n)
	}
}

// entries tries whether a client comes up.
func (e *examination) entries(ctx context.Context, n *setup.Network) {
	e.look("whether entries answer by UDP")
	p := daemon.Probe{Network: n, Use: joint.UDP, Patience: e.Patience}
	got, err := p.Run(ctx)
	if err != nil || ctx.Err() != nil || got.Ready {
		if err != nil {
			e.found(NoRoute, Fault, err.Error(), "mend what it says, and ask again")
		}
		return
	}
	if got.Heard > 0 || got.Sent == 0 {
		e.unrouted(got.Why)
		return
	}
	what := fmt.Sprintf("no entry answers by UDP: %d datagrams left in %v and none came back, though the directory answers", got.Sent, e.Patience)
	do := "let UDP out in the firewall between; if it is let out, the entries are down: ask the network's operators"
	if len(e.Kinds) > 0 {
		e.look("whether they answer otherwise")
		p.Use, p.Kinds = joint.Only, e.Kinds
		if other, err := p.Run(ctx); err == nil && other.Ready {
			what, do = what+"; by another carrier they do", "nothing: --carrier auto, the default of nyx proxy, goes by what passes, somewhat slower; let UDP out in the firewall to be faster"
		}
	}
	e.found(UDPBlocked, Fault, what, do)
}

// unrouted tells why entries answer and no route stands.
func (e *examination) unrouted(why error) {
	if errors.Is(why, client.ErrNoPass) {
		// The wallet is not looked at: a token that is shown is spent.
		e.found(TokensMissing, Note, "the network's entries admit by unlinkable tokens, of which this examination shows none: whether a route can be set up was not seen", "get some with nyx token get, if nyx token list shows none")
		return
	}
	e.found(NoRoute, Fault, fmt.Sprintf("entries answer, and no route could be set up in %v: %v", e.Patience, why), "ask again in a minute; if it stays so, ask the network's operators")
}

// control asks the control processes for anything at all.
func (e *examination) control(ctx context.Context, urls []string, price string) {
	if len(urls) == 0 {
		return
	}
	e.look("the control plane")
	var first error
	for _, u := range urls {
		err := reaches(ctx, u)
		if err == nil {
			return
		}
		if first == nil {
			first = fmt.Errorf("control process %s: %w", u, err)
		}
	}
	e.found(ControlUnreachable, Fault, fmt.Sprintf("none of %d control processes answers: %v; %s", len(urls), first, price),
		"see whether they run, with nyx status where they do, and whether a firewall is between")
}

func reaches(ctx context.Context, u string) error {
	s, err := mirror.ParseServer(u)
	if err != nil {
		return err
	}
	clients, _, err := mirror.Guests([]mirror.Server{s})
	if err != nil {
		return err
	}
	defer clients[0].CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, askedMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/", nil)
	if err != nil {
		return err
	}
	resp, err := clients[0].Do(req)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// shared are addresses behind a provider's translation (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// inside reports whether an address is not one of the internet's.
func inside(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || shared.Contains(a)
}

// translated looks whether this machine's address is another to the network's servers. It
// sends nothing: a socket is asked from where it would.
func (e *examination) translated(n *setup.Network) {
	e.look("the way out")
	for _, to := range slices.Concat(n.Directories, n.Replicas) {
		u, err := url.Parse(to)
		if err != nil {
			continue
		}
		conn, err := net.DialTimeout("udp", u.Host, time.Second)
		if err != nil {
			continue
		}
		own := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
		theirs := conn.RemoteAddr().(*net.UDPAddr).AddrPort().Addr()
		conn.Close()
		if inside(own) && !inside(theirs) {
			e.found(NAT, Note, fmt.Sprintf("this machine is behind NAT: its address %v is not the one that others see", own),
				"nothing for a client, whose links keep the way open by themselves; a node needs its UDP port forwarded and relay.advertise set")
		}
		return
	}
}
