package daemon

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/carrier/udp"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// mobile is a carrier whose socket is replaced by one of another address, as
// when a machine changes its network: what was under way to the old is lost.
type mobile struct {
	*udp.Conn // the loop's

	mu    sync.Mutex
	now   *udp.Conn // guarded by mu
	moves int       // guarded by mu: sockets that wait to be replaced
}

func (m *mobile) move() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moves++
	m.now.Wake()
}

// Read changes the socket if it is to, which only the loop may.
func (m *mobile) Read(wait time.Duration) (int, error) {
	m.mu.Lock()
	if m.moves > 0 {
		m.moves--
		fresh, err := udp.Listen(loopback(0), udp.Options{})
		if err != nil {
			m.mu.Unlock()
			return 0, err
		}
		m.now.Close()
		m.now, m.Conn = fresh, fresh
	}
	m.mu.Unlock()
	return m.Conn.Read(wait)
}

func (m *mobile) Wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Wake()
}

// A client's socket is replaced in the middle of a transfer, and again while it
// is idle: every byte arrives, in the same connection.
func TestConnectionsOutliveChangesOfAddress(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("network", func(t *testing.T) {
		l := startNetwork(t, wire.Fast)
		port := echoServer(t)
		carrier := &mobile{}
		c, err := StartClient(ClientConfig{
			Trust: l.trust, Directories: []string{l.Authority.URL()}, Listen: loopback(0),
			block: func(base drive.Carrier) drive.Carrier {
				carrier.now = base.(*udp.Conn)
				carrier.Conn = carrier.now
				return carrier
			},
		}, systemEntropy())
		if err != nil {
			t.Fatal(err)
		}
		first := c.Addr()
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		stream, err := c.DialStream(ctx, "", "127.0.0.1", port)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		stream.SetDeadline(time.Now().Add(patience))
		piece := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
		got := make([]byte, len(piece))
		for i := range 8 {
			written := make(chan error, 1)
			go func() { _, err := stream.Write(piece); written <- err }()
			if _, err := io.ReadFull(stream, got[:len(got)/3]); err != nil {
				t.Fatalf("piece %d: %v", i, err)
			}
			if i%2 == 1 { // a third of the piece is back, the rest is on its way
				carrier.move()
			}
			if _, err := io.ReadFull(stream, got[len(got)/3:]); err != nil || !bytes.Equal(got, piece) {
				t.Fatalf("piece %d: %v", i, err)
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 { // nothing is under way
				carrier.move()
			}
		}
		moved := uint64(0)
		for _, n := range l.Nodes {
			moved += n.Stats()[trace.LinkPathChanges]
		}
		if at := c.Addr(); moved == 0 || at == first {
			t.Errorf("%d links moved, from %v to %v", moved, first, at)
		}
	})
}
