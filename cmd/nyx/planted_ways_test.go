//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
	"github.com/nyxnet/nyx/internal/carrier/quic"
	"github.com/nyxnet/nyx/internal/carrier/websocket"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

// The ways by which people with planted names come to a network: unlinkable tokens, links
// by UDP, QUIC and WebSocket, streams and flows of datagrams; each from the planted
// address.

// sources are the addresses from which clients were seen.
type sources struct {
	mu   sync.Mutex
	seen []netip.AddrPort
}

func (s *sources) add(a net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, netip.MustParseAddrPort(a.String()))
}

func (s *sources) all() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]netip.AddrPort(nil), s.seen...)
}

// from passes connections on to a server from the planted address, and returns where it
// does: directory and issuer see the client there too.
func (s *sources) from(t *testing.T, server string) string {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	to.Host = s.connections(t, to.Host).String()
	return to.String()
}

// connections passes TCP connections on from the planted address.
func (s *sources) connections(t *testing.T, to string) netip.AddrPort {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return netip.AddrPort{}
	}
	t.Cleanup(func() { ln.Close() })
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(plantedClientAt)}}
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := dialer.Dial("tcp", to)
				if err != nil {
					return
				}
				s.add(out.LocalAddr())
				go func() { io.Copy(out, in); out.Close() }()
				io.Copy(in, out)
			}()
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

// datagrams passes the datagrams of one sender on from the planted address, and what
// comes back.
func (s *sources) datagrams(t *testing.T, to netip.AddrPort) netip.AddrPort {
	in, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return netip.AddrPort{}
	}
	out, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(plantedClientAt)}, net.UDPAddrFromAddrPort(to))
	if err != nil {
		in.Close()
		t.Error(err)
		return netip.AddrPort{}
	}
	s.add(out.LocalAddr())
	t.Cleanup(func() { in.Close(); out.Close() })
	back := make(chan net.Addr, 1)
	go func() {
		b := make([]byte, 2048)
		for known := false; ; known = true {
			n, from, err := in.ReadFrom(b)
			if err != nil {
				return
			}
			if !known {
				back <- from
			}
			out.Write(b[:n])
		}
	}()
	go func() {
		b := make([]byte, 2048)
		var sender net.Addr
		for {
			n, err := out.Read(b)
			if err != nil {
				return
			}
			if sender == nil {
				sender = <-back
			}
			in.WriteTo(b[:n], sender)
		}
	}()
	return netip.MustParseAddrPort(in.LocalAddr().String())
}

// kinds are the carriers beside UDP, each through a door that is seen from the planted
// address. The TLS name of a server does not change with where it is reached.
func (s *sources) kinds(t *testing.T) (byQUIC, byWebSocket joint.Kind) {
	through := func(dial func(context.Context, *front.Door) (pipe.Pipe, error), pass func(netip.AddrPort) netip.AddrPort) func(context.Context, *front.Door) (pipe.Pipe, error) {
		return func(ctx context.Context, d *front.Door) (pipe.Pipe, error) {
			other := *d
			other.Addr = pass(d.Addr)
			return dial(ctx, &other)
		}
	}
	byQUIC = joint.Kind{Kind: directory.CarrierQUIC, Dial: through(quic.Dial, func(to netip.AddrPort) netip.AddrPort { return s.datagrams(t, to) })}
	byWebSocket = joint.Kind{Kind: directory.CarrierWebSocket, Dial: through(websocket.Dial, func(to netip.AddrPort) netip.AddrPort { return s.connections(t, to.String()) })}
	return byQUIC, byWebSocket
}

// startPlanted fetches unlinkable tokens and starts a client for each kind of carrier that
// shows them; all are seen at planted addresses. tokens are their tags: what an
// entry keeps of a token that was spent there.
func startPlanted(t *testing.T, network *setup.Network) (clients []*daemon.Proxy, from *sources, tokens [][]byte) {
	t.Helper()
	from = &sources{}
	own := *network
	own.Directories = []string{from.from(t, network.Directories[0])}
	own.Controls = []string{from.from(t, network.Controls[0])}
	own.Issuer = &setup.Issuer{Key: network.Issuer.Key, Required: true} // so that they look for entries for which they have one
	dir := t.TempDir()
	wallet, err := daemon.OpenWallet(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if n, err := daemon.FetchPasses(ctx, daemon.PassOrder{Network: &own, Wallet: wallet}, client.Config{Level: wire.Standard}); err != nil || n < 12 {
		t.Fatalf("%d tokens, %v", n, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if tag, is := strings.CutSuffix(f.Name(), ".pass"); is {
			b, err := hex.DecodeString(tag)
			if err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, b)
		}
	}
	byQUIC, byWebSocket := from.kinds(t)
	for _, kind := range [][]joint.Kind{nil, {byQUIC}, {byWebSocket}} {
		free, err := net.ListenPacket("udp", plantedClientAt+":0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := daemon.ProxyConfig{Network: &own, Client: client.Config{Level: wire.Standard}, Socks: "127.0.0.1:0", Listen: netip.MustParseAddrPort(free.LocalAddr().String()), Wallet: dir, Carriers: kind}
		from.add(free.LocalAddr())
		free.Close()
		if kind != nil {
			cfg.Use = joint.Only
		}
		p, err := daemon.StartProxy(cfg)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, p)
	}
	for _, p := range clients {
		if err := p.Client.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return clients, from, tokens
}

// useAll uses the network by all clients at once.
func useAll(t *testing.T, clients []*daemon.Proxy, at targets) {
	var all sync.WaitGroup
	all.Go(func() { use(t, clients[0].Addr(), at) })
	for _, p := range clients[1:] {
		all.Go(func() {
			request(t, p.Addr(), "socks5h", plantedUser, plantedURL("http", plantedTarget, at.plain.Port()), plantedAnswer)
		})
	}
	for _, p := range clients {
		all.Go(func() {
			for _, host := range []string{plantedTarget + ".test", at.echo.Addr().String()} {
				if err := exchange(p.Addr(), host, at.echo.Port()); err != nil {
					t.Errorf("datagrams to %s: %v", host, err)
				}
			}
		})
	}
	all.Wait()
}

// answerDatagrams answers datagrams at the planted target's address.
func answerDatagrams(t *testing.T) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", plantedTargetAt+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if bytes.Contains(b[:n], []byte(plantedRequest)) {
				conn.WriteTo([]byte(plantedAnswer+" to "+plantedRequest), from)
			}
		}
	}()
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

// exchange sends datagrams to a host by UDP ASSOCIATE of SOCKS5, under a planted name,
// until one is answered: any may be lost.
func exchange(front, host string, port uint16) error {
	control, err := net.DialTimeout("tcp", front, patience)
	if err != nil {
		return err
	}
	defer control.Close()
	control.SetDeadline(time.Now().Add(2 * patience))
	auth := append([]byte{1, byte(len(plantedUser))}, plantedUser...)
	auth = append(append(auth, byte(len(plantedPassword))), plantedPassword...)
	var bound [10]byte
	for _, step := range []struct {
		say  []byte
		hear []byte
	}{{[]byte{5, 1, 2}, bound[:2]}, {auth, bound[:2]}, {[]byte{5, 3, 0, 1, 0, 0, 0, 0, 0, 0}, bound[:]}} {
		if _, err := control.Write(step.say); err != nil {
			return err
		}
		if _, err := io.ReadFull(control, step.hear); err != nil {
			return err
		}
	}
	if bound[1] != 0 || bound[3] != 1 {
		return fmt.Errorf("the association is refused: % x", bound)
	}
	relay := netip.AddrPortFrom(netip.AddrFrom4([4]byte(bound[4:8])), binary.BigEndian.Uint16(bound[8:]))
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(relay))
	if err != nil {
		return err
	}
	defer conn.Close()
	datagram := append([]byte{0, 0, 0, 3, byte(len(host))}, host...)
	datagram = append(binary.BigEndian.AppendUint16(datagram, port), plantedRequest...)
	answer := make([]byte, 2048)
	for range 20 {
		if _, err := conn.Write(datagram); err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := conn.Read(answer); err == nil {
			if !bytes.Contains(answer[:n], []byte(plantedAnswer)) {
				return fmt.Errorf("the answer is %q", answer[:n])
			}
			return nil
		}
	}
	return fmt.Errorf("no answer")
}

// tagNeedles are of what a token that was spent is known by.
func tagNeedles(tokens [][]byte) (out []needle) {
	for i, tag := range tokens {
		out = append(out, needle{name: fmt.Sprint("the tag of token ", i), exact: [][]byte{tag}, fold: [][]byte{[]byte(hex.EncodeToString(tag))}})
	}
	return out
}

// unlinkable returns what was found but for the tags of tokens where they were spent: the
// files of entries. Above all who issued them has none. One must be found: a client that is
// faster than its wallet is admitted by the network's key.
func unlinkable(t *testing.T, found []string) (rest []string) {
	spent := map[string]bool{}
	for _, f := range found {
		if where, tag, is := strings.Cut(f, ".spent: the tag of "); is && strings.HasPrefix(where, "file stream-") {
			spent[tag] = true
			continue
		}
		rest = append(rest, f)
	}
	if len(spent) == 0 {
		t.Error("the search finds no token that was spent")
	}
	return rest
}
