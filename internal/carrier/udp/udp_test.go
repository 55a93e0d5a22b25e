package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	loopback4 = netip.MustParseAddrPort("127.0.0.1:0")
	loopback6 = netip.MustParseAddrPort("[::1]:0")
)

func listen(t testing.TB, addr netip.AddrPort, mode Mode) *Conn {
	t.Helper()
	c, err := Listen(addr, Options{Mode: mode})
	if err != nil {
		if addr.Addr().Is6() {
			t.Skipf("no IPv6 here: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func eachMode(t *testing.T, f func(t *testing.T, mode Mode)) {
	for mode := Offload; mode <= Plain; mode++ {
		t.Run(mode.String(), func(t *testing.T) { f(t, mode) })
	}
}

// put adds a datagram of size bytes, all of value v, to the batch.
func put(t testing.TB, c *Conn, v byte, size int, to netip.AddrPort) {
	t.Helper()
	b := c.Next()
	if b == nil {
		t.Fatal("the batch is full")
	}
	for i := range b[:size] {
		b[i] = v
	}
	c.Commit(size, to)
}

// wantDatagrams reads len(want) datagrams and compares value and size.
func wantDatagrams(t testing.TB, c *Conn, from netip.AddrPort, want ...[2]int) {
	t.Helper()
	for len(want) > 0 {
		n, err := c.Read(-1)
		if err != nil {
			t.Fatalf("%v with %d datagrams missing", err, len(want))
		}
		for i := range n {
			b, sender := c.At(i)
			if len(want) == 0 {
				t.Fatalf("%d datagrams too many", n-i)
			}
			if v, size := byte(want[0][0]), want[0][1]; !bytes.Equal(b, bytes.Repeat([]byte{v}, size)) {
				t.Fatalf("got %d bytes %.8x, want %d of %d", len(b), b, size, v)
			}
			if sender != from {
				t.Fatalf("from %v, want %v", sender, from)
			}
			want = want[1:]
		}
	}
}

func TestSeveralDestinationsAndSizesInOneBatch(t *testing.T) {
	for _, addr := range []netip.AddrPort{loopback4, loopback6} {
		eachMode(t, func(t *testing.T, mode Mode) {
			t.Run(addr.Addr().String(), func(t *testing.T) {
				src := listen(t, addr, mode)
				var dst [3]*Conn
				for i := range dst {
					dst[i] = listen(t, addr, mode)
				}
				var want [3][][2]int
				add := func(d, v, size int) {
					put(t, src, byte(v), size, dst[d].Addr())
					want[d] = append(want[d], [2]int{v, size})
				}
				for i := range 70 { // a full run and a part
					add(0, i, 1280)
				}
				for i := range 20 { // alternating destinations
					add(1+i%2, i, 1280)
				}
				for i := range 3 { // a run, its short end, a larger one, an empty one
					add(2, i, 1280)
				}
				add(2, 50, 700)
				add(2, 51, 1280)
				add(2, 52, 0)
				add(2, 53, 9)
				if err := src.Flush(); err != nil {
					t.Fatal(err)
				}
				for i, d := range dst {
					wantDatagrams(t, d, src.Addr(), want[i]...)
				}
				if s := src.Stats(); s.Sent != 97 || s.SendDropped != 0 {
					t.Errorf("stats %+v, want 97 sent", s)
				}
			})
		})
	}
}

func TestDualStackSocketSpeaksToBoth(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		host := listen(t, netip.AddrPort{}, mode)
		for _, addr := range []netip.AddrPort{loopback4, loopback6} {
			peer := listen(t, addr, mode)
			put(t, peer, 7, 1280, netip.AddrPortFrom(addr.Addr(), host.Addr().Port()))
			peer.Flush()
			wantDatagrams(t, host, peer.Addr(), [2]int{7, 1280})
			_, from := host.At(0)
			put(t, host, 8, 1280, from)
			host.Flush()
			wantDatagrams(t, peer, netip.AddrPortFrom(addr.Addr(), host.Addr().Port()), [2]int{8, 1280})
		}
	})
}

func TestBatchIsBounded(t *testing.T) {
	src, dst := listen(t, loopback4, Offload), listen(t, loopback4, Offload)
	for range 2 {
		n := 0
		for ; src.Next() != nil; n++ {
			put(t, src, byte(n), 1280, dst.Addr())
		}
		if n != sendMax {
			t.Fatalf("batch of %d, want %d", n, sendMax)
		}
		src.Flush()
		for got := 0; got < n; {
			k, err := dst.Read(-1)
			if err != nil {
				t.Fatalf("%d of %d arrived: %v", got, n, err)
			}
			got += k
		}
	}
}

// What the network refuses must not stop what it takes.
func TestRefusedDestinationsAreDroppedAndCounted(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		src, dst := listen(t, loopback4, mode), listen(t, loopback4, mode)
		bad := []netip.AddrPort{
			{}, // no address
			netip.MustParseAddrPort("[2001:db8::1]:9"), // IPv6 on an IPv4 socket
			netip.MustParseAddrPort("127.0.0.1:0"),     // no port
		}
		for i, a := range bad {
			put(t, src, byte(i), 1280, dst.Addr())
			put(t, src, byte(i), 1280, a)
			put(t, src, byte(i), 1280, a)
		}
		if err := src.Flush(); err != nil {
			t.Fatal(err)
		}
		wantDatagrams(t, dst, src.Addr(), [2]int{0, 1280}, [2]int{1, 1280}, [2]int{2, 1280})
		if s := src.Stats(); s.SendDropped != 6 || s.Sent != 3 {
			t.Errorf("stats %+v, want 6 dropped and 3 sent", s)
		}
	})
}

func TestReadWithoutWaiting(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		c := listen(t, loopback4, mode)
		if n, err := c.Read(0); n != 0 || err != nil {
			t.Errorf("Read = %d, %v", n, err)
		}
	})
}

func TestReadEndsNoEarlierThanItsTime(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		c := listen(t, loopback4, mode)
		for _, wait := range []time.Duration{time.Microsecond, 200 * time.Microsecond, 2 * time.Millisecond} {
			end := time.Now().Add(wait)
			for left := wait; left > 0; left = time.Until(end) {
				if n, err := c.Read(left); n != 0 || err != nil {
					t.Fatalf("Read = %d, %v", n, err)
				}
			}
		}
	})
}

// Each wake-up must be answered by a return of Read, whatever the two
// goroutines are doing: one lost would hang this test.
func TestNoWakeIsLost(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		c := listen(t, loopback4, mode)
		const rounds = 5000
		asked, answered := make(chan int, 1), make(chan int, 1)
		go func() {
			for i := range rounds {
				asked <- i
				c.Wake()
				if got := <-answered; got != i {
					t.Errorf("round %d answered as %d", i, got)
				}
			}
			close(asked)
			c.Wake()
		}()
		for returns := 0; ; returns++ {
			if n, err := c.Read(-1); n != 0 || err != nil {
				t.Fatalf("Read = %d, %v", n, err)
			}
			if returns > 2*rounds+2 {
				t.Fatalf("Read returns without a wake-up")
			}
			select {
			case i, ok := <-asked:
				if !ok {
					return
				}
				answered <- i
			default: // an earlier wake-up that came late
			}
		}
	})
}

func TestWakeCountsOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		c := listen(t, loopback4, mode)
		put(t, c, 1, 10, c.Addr())
		c.Flush()
		c.Wake()
		wantDatagrams(t, c, c.Addr(), [2]int{1, 10})
		c.Wake()
		c.Wake()
		returns := 0
		for end := time.Now().Add(5 * time.Millisecond); time.Now().Before(end); returns++ {
			c.Read(time.Until(end))
		}
		if returns > 4 { // the wake-up, and one more for each time set
			t.Errorf("Read returned %d times for one wake-up", returns)
		}
	})
}

func TestCloseEndsRead(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		for _, wait := range []time.Duration{-1, time.Hour} {
			c := listen(t, loopback4, mode)
			reading, done := make(chan bool), make(chan error)
			go func() {
				c.Read(0)
				close(reading)
				_, err := c.Read(wait)
				done <- err
			}()
			<-reading
			c.Close()
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read after Close: %v", err)
			}
			put(t, c, 1, 10, loopback4)
			if err := c.Flush(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Flush after Close: %v", err)
			}
			c.Wake()
		}
	})
}

func TestListenSaysWhatWasWrong(t *testing.T) {
	c := listen(t, loopback4, Offload)
	if _, err := Listen(c.Addr(), Options{}); err == nil {
		t.Error("two sockets at one address")
	} else if got := fmt.Sprint(err); len(got) < 20 {
		t.Errorf("error %q", got)
	}
}

func TestNoAllocationPerDatagram(t *testing.T) {
	eachMode(t, func(t *testing.T, mode Mode) {
		src, a, b := listen(t, netip.AddrPort{}, mode), listen(t, loopback4, mode), listen(t, loopback6, mode)
		round := func() {
			for i := range 40 {
				to := a
				if i%10 > 6 {
					to = b
				}
				src.Next()
				src.Commit(1280, to.Addr())
			}
			src.Flush()
			for _, c := range []*Conn{a, b} {
				for got, want := 0, map[*Conn]int{a: 28, b: 12}[c]; got < want; {
					n, err := c.Read(time.Second)
					if err != nil {
						t.Fatalf("%d of %d arrived: %v", got, want, err)
					}
					for i := range n {
						c.At(i)
					}
					got += n
				}
			}
			src.Read(0)
			src.Read(time.Microsecond)
		}
		round()
		if n := testing.AllocsPerRun(50, round); n != 0 {
			t.Errorf("%v allocations a round", n)
		}
	})
}
