package nyx_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx"
	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/carrier/quic"
	"github.com/nyxnet/nyx/internal/carrier/websocket"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/pack"
	"github.com/nyxnet/nyx/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open runs a network on this machine and joins it through its network file.
func open(t *testing.T) *nyx.Client {
	c, _ := openBy(t, nyx.UDP)
	return c
}

// openBy is open with a carrier, which the network's entries have.
func openBy(t *testing.T, carrier nyx.Carrier) (*nyx.Client, *daemon.Local) {
	t.Helper()
	cfg := daemon.LocalConfig{Seed: [32]byte{3}, Streams: 3, Mixes: 6, Client: client.Config{Level: wire.Fast}, Use: joint.UDP,
		Compress: new(pack.Codec), Traffic: true} // one handshake is to be seen in its metrics
	if carrier != nyx.UDP {
		cfg.Carriers = []joint.Kind{
			{Kind: directory.CarrierQUIC, Listen: quic.Listen}, {Kind: directory.CarrierWebSocket, Listen: websocket.Listen},
		}
	}
	l, err := daemon.StartLocal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	file := filepath.Join(t.TempDir(), "network.toml")
	if err := l.WriteNetwork(file); err != nil {
		t.Fatal(err)
	}
	c, err := nyx.Open(nyx.Config{NetworkFile: file, Level: nyx.Fast, Carrier: carrier})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, l
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestCarriers(t *testing.T) {
	for _, carrier := range []nyx.Carrier{nyx.Auto, nyx.QUIC, nyx.WebSocket} {
		c, l := openBy(t, carrier)
		if err := c.Ready(timeout(t)); err != nil {
			t.Errorf("carrier %d: %v", carrier, err)
		}
		status, err := daemon.ServeStatus("127.0.0.1:0", l)
		if err != nil {
			t.Fatal(err)
		}
		defer status.Close()
		resp, err := http.Get(status.URL() + "metrics")
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		shaken := regexp.MustCompile(`tls_handshake_duration_count\S+ [1-9]`).Match(page)
		if err != nil || shaken != (carrier != nyx.Auto) {
			t.Errorf("carrier %d: entries saw a handshake: %v, %v", carrier, shaken, err)
		}
	}
	if _, err := nyx.Open(nyx.Config{Carrier: nyx.WebSocket + 1}); err == nil {
		t.Error("a carrier that there is not was accepted")
	}
}

func TestHTTPThroughTheNetwork(t *testing.T) {
	c := open(t)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	t.Cleanup(web.Close)
	transport := &http.Transport{DialContext: c.Isolated("browser").Dial}
	t.Cleanup(transport.CloseIdleConnections)
	req, err := http.NewRequestWithContext(timeout(t), http.MethodGet, web.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestServiceInsideTheNetwork(t *testing.T) {
	c := open(t)
	key, err := nyx.NewServiceKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := nyx.ParseServiceKey(key.Secret())
	if err != nil || again.Host() != key.Host() {
		t.Fatalf("the key does not come back: %v", err)
	}
	ln, err := c.Listen(timeout(t), key)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if conn, err := ln.Accept(); err == nil {
			io.Copy(conn, conn)
			conn.Close()
		}
	}()
	conn, err := c.Isolated("caller").Dial(timeout(t), "tcp", net.JoinHostPort(key.Host(), "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "ping")
	conn.(interface{ CloseWrite() error }).CloseWrite()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if b, err := io.ReadAll(conn); err != nil || string(b) != "ping" {
		t.Errorf("got %q, %v", b, err)
	}
}

// A connection may be dialled with a priority, and have another one later, at
// either end.
func TestPriorities(t *testing.T) {
	c := open(t)
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	conn, err := c.Isolated("shell").Prioritized(nyx.PriorityHigh).Dial(timeout(t), "tcp", target.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := nyx.SetPriority(conn, nyx.PriorityLow); err != nil {
		t.Error(err)
	}
	if err := nyx.SetPriority(conn, 3); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a priority that is none: %v", err)
	}
	if err := nyx.SetPriority(&net.TCPConn{}, nyx.PriorityLow); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a connection of another kind: %v", err)
	}
}

// The target sees plain bytes of a stream that was compressed on the way.
func TestCompressedThroughTheNetwork(t *testing.T) {
	c := open(t).Compressed()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if conn, err := ln.Accept(); err == nil {
			io.Copy(conn, conn)
			conn.Close()
		}
	}()
	conn, err := c.Dial(timeout(t), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	text := bytes.Repeat([]byte("the same again "), 10_000)
	go func() {
		conn.Write(text)
		conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes of %d came back, %v", len(got), len(text), err)
	}
	if _, ok := conn.(*pack.Conn); !ok {
		t.Error("the exit did not agree to compress")
	}
}

// Datagrams of every size reach a target and come back, also such as no packet
// holds.
func TestPacketsThroughTheNetwork(t *testing.T) {
	c := open(t)
	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for b := make([]byte, 1<<16); ; {
			n, from, err := echo.ReadFrom(b)
			if err != nil {
				return
			}
			echo.WriteTo(b[:n], from)
		}
	}()
	p, err := c.ListenPacket(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.SetDeadline(time.Now().Add(2 * time.Minute))
	got := make([]byte, 1<<16)
	for _, size := range []int{0, 1, 1000, 1500, 9000, 65_507} {
		sent := bytes.Repeat([]byte{byte(size)}, size)
		if n, err := p.WriteTo(sent, echo.LocalAddr()); n != size || err != nil {
			t.Fatal(n, err)
		}
		n, from, err := p.ReadFrom(got)
		if err != nil || from.String() != echo.LocalAddr().String() || !bytes.Equal(got[:n], sent) {
			t.Errorf("%d bytes of %d from %v, %v", n, size, from, err)
		}
	}
	if _, err := p.WriteTo(nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err == nil {
		t.Error("port 0 was written to")
	}
}

func TestErrorsSayWhy(t *testing.T) {
	c := open(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	ln.Close()
	if _, err := c.Dial(timeout(t), "tcp", closed); !errors.Is(err, nyx.ErrRefused) {
		t.Errorf("a closed port: %v", err)
	}
	if _, err := c.Dial(timeout(t), "tcp", "no-such-host.invalid:80"); !errors.Is(err, nyx.ErrUnreachable) {
		t.Errorf("a name that does not resolve: %v", err)
	}
	for _, bad := range [][2]string{{"udp", "a:1"}, {"tcp", "a"}, {"tcp", "a:0"}, {"tcp", "a:x"}} {
		if _, err := c.Dial(timeout(t), bad[0], bad[1]); err == nil {
			t.Errorf("%v was dialled", bad)
		}
	}
	if _, err := nyx.Open(nyx.Config{NetworkFile: "nowhere.toml"}); err == nil {
		t.Error("a missing network file was opened")
	}
	if _, err := nyx.Open(nyx.Config{Level: 9}); err == nil {
		t.Error("an unknown level was accepted")
	}
	if _, err := nyx.Open(nyx.Config{Profile: 3}); err == nil || !strings.Contains(err.Error(), "profile") {
		t.Errorf("an unknown profile: %v", err)
	}
}

// A client begins with a profile and changes it, within what there are.
func TestProfile(t *testing.T) {
	c := open(t)
	if err := c.SetProfile(nyx.ProfileLow); err != nil {
		t.Error(err)
	}
	if err := c.SetProfile(-1); err == nil {
		t.Error("an unknown profile was accepted")
	}
}
