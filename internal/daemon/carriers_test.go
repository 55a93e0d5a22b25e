package daemon

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/carrier/quic"
	"github.com/nyxnet/nyx/internal/carrier/websocket"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/wire"
)

var testKinds = []joint.Kind{
	{Kind: directory.CarrierQUIC, Dial: quic.Dial, Listen: quic.Listen},
	{Kind: directory.CarrierWebSocket, Dial: websocket.Dial, Listen: websocket.Listen},
}

// wall is a carrier behind a wall that may let no UDP through, either way.
type wall struct {
	drive.Carrier
	up     *atomic.Bool
	passed *atomic.Int64
}

// nobody is where datagrams go that a wall stops.
var nobody = netip.MustParseAddrPort("127.0.0.1:1")

func (w wall) Commit(n int, to netip.AddrPort) {
	if w.up.Load() {
		to = nobody
	} else {
		w.passed.Add(1)
	}
	w.Carrier.Commit(n, to)
}

func (w wall) At(i int) ([]byte, netip.AddrPort) {
	b, from := w.Carrier.At(i)
	if w.up.Load() {
		return b[:0], nobody
	}
	return b, from
}

func startBehindWall(t *testing.T, up bool, use joint.Use, kinds ...joint.Kind) (*Local, wall) {
	t.Helper()
	w := wall{up: new(atomic.Bool), passed: new(atomic.Int64)}
	w.up.Store(up)
	l, err := StartLocal(LocalConfig{
		Seed: [32]byte{5}, Streams: 3, Mixes: 4, Client: client.Config{Level: wire.Fast},
		Carriers: testKinds, Use: use, UseCarriers: kinds,
		block: func(c drive.Carrier) drive.Carrier { w.Carrier = c; return w },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := l.Client.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return l, w
}

// roundTrip sends some bytes over a connection that sends them back.
func roundTrip(t *testing.T, conn io.ReadWriter, b []byte) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Write(b)
		done <- err
	}()
	got := make([]byte, len(b))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, b) {
		t.Fatalf("came back otherwise: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Each carrier alone serves a whole network's client, with no datagram by UDP.
func TestEachCarrierAlone(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, kind := range testKinds {
		t.Run(kind.Kind.String(), func(t *testing.T) {
			l, w := startBehindWall(t, false, joint.Only, kind)
			conn := dialEcho(t, l)
			defer conn.Close()
			roundTrip(t, conn, bytes.Repeat([]byte("nyx"), 100_000))
			if n := w.passed.Load(); n != 0 {
				t.Errorf("%d datagrams by UDP", n)
			}
			var page metric.Page
			writeHandshakes(&page, l.parts())
			if !regexp.MustCompile(`tls_handshake_duration_count\{part="stream-\d"\} [1-9]`).MatchString(page.String()) {
				t.Errorf("no handshake in the metrics:\n%s", &page)
			}
		})
	}
}

// A stream that is open when UDP is blocked goes on.
func TestStreamOutlivesUDP(t *testing.T) {
	l, w := startBehindWall(t, false, joint.Auto, testKinds...)
	conn := dialEcho(t, l)
	defer conn.Close()
	roundTrip(t, conn, []byte("by UDP"))
	w.up.Store(true)
	roundTrip(t, conn, bytes.Repeat([]byte("without"), 10_000))
}

// A client that starts where UDP is blocked comes up.
func TestStartsWithoutUDP(t *testing.T) {
	l, _ := startBehindWall(t, true, joint.Auto, testKinds...)
	conn := dialEcho(t, l)
	defer conn.Close()
	roundTrip(t, conn, []byte("by a fall-back"))
}

func dialEcho(t *testing.T, l *Local) net.Conn {
	t.Helper()
	conn := dial(t, l, "", echoServer(t))
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}
