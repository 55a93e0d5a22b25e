package joint

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/mem"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/wire"
)

var (
	clientAddr = netip.MustParseAddrPort("192.0.2.1:1")
	entryAddr  = netip.MustParseAddrPort("192.0.2.2:2")
)

// network is a client and an entry that sends every datagram back to where it
// came from, in virtual time.
type network struct {
	t       *testing.T
	client  *Client
	server  *Server
	blocked atomic.Bool // UDP
	noQUIC  atomic.Bool
	udp     atomic.Int64    // datagrams sent by UDP
	dials   [3]atomic.Int32 // by kind
	last    atomic.Pointer[netip.AddrPort]
	done    chan struct{}
}

func newNetwork(t *testing.T, use Use) *network {
	n := &network{t: t, done: make(chan struct{})}
	nw := &mem.Network{Lose: func(netip.AddrPort, netip.AddrPort, []byte) bool {
		n.udp.Add(1)
		return n.blocked.Load()
	}}
	at := func(a netip.AddrPort) Carrier {
		c, err := nw.Listen(a)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	n.server = NewServer(at(entryAddr))
	kind := func(k directory.CarrierKind) Kind {
		return Kind{Kind: k, Dial: func(ctx context.Context, d *front.Door) (pipe.Pipe, error) {
			n.dials[k].Add(1)
			if k == directory.CarrierQUIC && n.noQUIC.Load() {
				<-ctx.Done() // as where its packets are dropped
				return nil, errors.New("no answer")
			}
			a, b := pipe.NewFake(16)
			go n.server.Accept(b)
			return a, nil
		}}
	}
	n.client = NewClient(at(clientAddr), use, []Kind{kind(directory.CarrierQUIC), kind(directory.CarrierWebSocket)})
	n.client.SetDoors(map[netip.AddrPort][]front.Door{entryAddr: {{Kind: directory.CarrierWebSocket}, {Kind: directory.CarrierQUIC}}})
	go func() {
		defer close(n.done)
		for {
			count, err := n.server.Read(-1)
			if err != nil {
				return
			}
			for i := range count {
				b, from := n.server.At(i)
				n.last.Store(&from)
				n.server.Commit(copy(n.server.Next(), b), from)
			}
			n.server.Flush()
		}
	}()
	return n
}

func (n *network) close() {
	n.client.Close()
	n.server.Close()
	<-n.done
}

// beat sends for d, 50 times a second, and returns how many came back.
func (n *network) beat(d time.Duration) (back int) {
	n.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		next := time.Now().Add(20 * time.Millisecond)
		n.client.Commit(copy(n.client.Next(), make([]byte, wire.DatagramSize)), entryAddr)
		n.client.Flush()
		for left := time.Until(next); left > 0; left = time.Until(next) {
			count, err := n.client.Read(left)
			if err != nil {
				n.t.Fatal(err)
			}
			for i := range count {
				if b, from := n.client.At(i); len(b) != wire.DatagramSize || from != entryAddr {
					n.t.Fatalf("%d bytes from %v", len(b), from)
				}
			}
			back += count
		}
	}
	return back
}

// byUDP reports which way the last datagram reached the entry.
func (n *network) byUDP() bool { return *n.last.Load() == clientAddr }

func TestBlockedUDP(t *testing.T) {
	for _, noQUIC := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t, Auto)
			defer n.close()
			n.noQUIC.Store(noQUIC)
			if back := n.beat(time.Second); back != 50 || !n.byUDP() {
				t.Fatalf("%d of 50 by UDP", back)
			}
			n.blocked.Store(true)
			n.beat(9 * time.Second)
			if back := n.beat(time.Second); back < 49 || n.byUDP() { // one may be a probe
				t.Fatalf("%d of 50 came back in the tenth second without UDP", back)
			}
			if got := n.dials[directory.CarrierWebSocket].Load(); (got > 0) != noQUIC {
				t.Errorf("%d dials of WebSocket, QUIC blocked: %v", got, noQUIC)
			}
			n.blocked.Store(false)
			n.beat(59 * time.Second)
			if back := n.beat(time.Second); back != 50 || !n.byUDP() {
				t.Errorf("%d of 50 in the sixtieth second with UDP again, by UDP: %v", back, n.byUDP())
			}
		})
	}
}

// Control: without fall-back nothing passes.
func TestBlockedUDPWithoutFallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, UDP)
		defer n.close()
		n.client.SetDoors(nil)
		n.blocked.Store(true)
		if back := n.beat(time.Minute); back != 0 {
			t.Errorf("%d came back", back)
		}
	})
}

func TestOnlyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, Only)
		defer n.close()
		if back := n.beat(time.Minute); back < 2990 || n.byUDP() {
			t.Errorf("%d of 3000 came back", back)
		}
		n.client.SetDoors(nil)
		other := netip.MustParseAddrPort("192.0.2.9:9")
		n.client.Commit(copy(n.client.Next(), "x"), other)
		n.client.Flush()
		if sent := n.udp.Load(); sent != 0 {
			t.Errorf("%d datagrams by UDP", sent)
		}
	})
}

// Each connection has an address of its own, never one of the network.
func TestConnectionAddresses(t *testing.T) {
	a, b := connAddr(1), connAddr(1<<40)
	if a == b || !prefix.Contains(a.Addr()) || !prefix.Contains(b.Addr()) || !a.IsValid() {
		t.Errorf("%v and %v", a, b)
	}
}

// UDP through a Server and a Client costs no allocation.
func TestNoAllocation(t *testing.T) {
	nw := &mem.Network{}
	x, _ := nw.Listen(clientAddr)
	y, _ := nw.Listen(entryAddr)
	c, s := NewClient(x, Auto, []Kind{{Kind: directory.CarrierQUIC}}), NewServer(y)
	defer c.Close()
	defer s.Close()
	c.SetDoors(map[netip.AddrPort][]front.Door{entryAddr: {{Kind: directory.CarrierQUIC}}})
	if n := testing.AllocsPerRun(200, func() {
		c.Commit(len(c.Next()), entryAddr)
		c.Flush()
		count, _ := s.Read(0)
		for i := range count {
			b, from := s.At(i)
			s.Commit(copy(s.Next(), b), from)
		}
		s.Flush()
		count, _ = c.Read(0)
		for i := range count {
			c.At(i)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Nothing leaves before Flush, whichever way it goes.
func TestNothingLeavesBeforeFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := &mem.Network{}
		base, err := nw.Listen(entryAddr)
		if err != nil {
			t.Fatal(err)
		}
		s := NewServer(base)
		a, b := pipe.NewFake(2 * heldMax)
		got := 0
		go s.Accept(b)
		peer := pipe.Run(a, func([]byte) { got++ })
		synctest.Wait()
		sent := 0
		for room := s.Next(); room != nil && sent <= heldMax; room = s.Next() {
			s.Commit(len(room), connAddr(1))
			sent++
		}
		synctest.Wait()
		if sent != heldMax || got != 0 {
			t.Errorf("batch of %d, of which %d have left", sent, got)
		}
		s.Flush()
		synctest.Wait()
		if got != sent {
			t.Errorf("%d of %d have left", got, sent)
		}
		s.Close()
		peer.Close()
	})
}
