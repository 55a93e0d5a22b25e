package bench

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// store is a carrier that hands out datagrams from memory, in batches, and gives
// what is sent to a function: what is timed is the host and its machine.
type store struct {
	from      netip.AddrPort
	batch     int
	sent      func([]byte)
	datagrams [][]byte
	first, n  int // of the last Read
	out       [wire.DatagramSize]byte
	load      chan [][]byte
	empty     chan struct{}
}

func (s *store) Addr() netip.AddrPort { return s.from }

func (s *store) Read(wait time.Duration) (int, error) {
	s.first += s.n
	if s.n = min(s.batch, len(s.datagrams)-s.first); s.n > 0 {
		return s.n, nil
	}
	if len(s.datagrams) > 0 {
		s.datagrams, s.first = nil, 0
		s.empty <- struct{}{}
	}
	if wait == 0 {
		return 0, nil
	}
	next, ok := <-s.load
	if !ok {
		return 0, net.ErrClosed
	}
	s.datagrams, s.n = next, min(s.batch, len(next))
	return s.n, nil
}

func (s *store) At(i int) ([]byte, netip.AddrPort) { return s.datagrams[s.first+i], s.from }
func (s *store) Wake()                             {}
func (s *store) Next() []byte                      { return s.out[:] }
func (s *store) Commit(n int, _ netip.AddrPort)    { s.sent(s.out[:n]) }
func (s *store) Flush() error                      { return nil }
func (s *store) Close() error                      { return nil }

// storeHost runs a machine on a store; pass hands it datagrams that come from an
// address, and returns when they are through.
func storeHost(tb testing.TB, m machine.Machine, from netip.AddrPort, batch, ways int, sent func([]byte)) (h *drive.Host, pass func([][]byte)) {
	tb.Helper()
	s := &store{from: from, batch: batch, sent: sent, load: make(chan [][]byte), empty: make(chan struct{})}
	h, err := drive.Start(drive.Config{Machine: m, Carrier: s, Ways: ways})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { close(s.load); h.Close() })
	return h, func(d [][]byte) {
		s.load <- d
		<-s.empty
	}
}

// forwarding is a rig with a route through the relay.
func forwarding(tb testing.TB) (r *rig, cells func(int) [][]byte) {
	tb.Helper()
	r, err := newRig()
	if err != nil {
		tb.Fatal(err)
	}
	route, err := r.established(0)
	if err != nil {
		tb.Fatal(err)
	}
	var packet [wire.SessionPacketSize]byte
	return r, func(n int) [][]byte {
		return r.capture(n, func(_ int, f *wire.Frame) { route.Seal(f, packet[:], 0) })
	}
}

// A relay under its host forwards what it should in the order in which it came,
// however many goroutines open a batch: replays, changed and cut
// datagrams among it do not disturb the others.
func TestHostKeepsOrder(t *testing.T) {
	const count = 6000
	for _, ways := range []int{1, 2, 4, 8, 16} {
		r, cells := forwarding(t)
		var last uint32
		arrived, overtaken := 0, 0
		h, pass := storeHost(t, r.relay, r.addrs[r.ids[0]], 128, ways, func(b []byte) {
			_, frame, ok := r.next.HandleDatagram(r.now, r.addrs[r.ids[1]], append([]byte(nil), b...))
			if !ok || wire.FrameType(frame[0]) != wire.FrameForward {
				return
			}
			c := wire.CellCounter(frame) // which the client counts up
			if arrived++; c <= last {
				overtaken++
			}
			last = max(last, c)
		})
		batch := cells(count)
		spoiled := 0
		for i := 50; i < len(batch); i += 50 {
			switch i / 50 % 3 {
			case 0:
				batch[i][100] ^= 1
			case 1:
				batch[i] = batch[i][:1000]
			case 2:
				batch[i] = append([]byte(nil), batch[i-7]...)
			}
			spoiled++
		}
		pass(batch)
		st := h.Snapshot()
		if arrived != count-spoiled || overtaken > 0 {
			t.Errorf("%d ways: %d of %d cells arrived, %d after a later one", ways, arrived, count-spoiled, overtaken)
		}
		c := r.relay.Stats()
		if got := c[trace.DropLinkAuth] + c[trace.DropSize] + c[trace.DropLinkReplay]; got != uint64(spoiled) {
			t.Errorf("%d ways: %d datagrams were dropped, want %d", ways, got, spoiled)
		}
		if opened := st.Ahead.Datagrams; (ways > 1) != (opened > count*9/10) {
			t.Errorf("%d ways: %d datagrams were opened ahead", ways, opened)
		}
		if _, _, up := r.next.Peer(link.ID(1)); !up {
			t.Errorf("%d ways: the link is down", ways)
		}
		t.Logf("%d ways: %+v", ways, st.Ahead)
	}
}

// BenchmarkReceive forwards cells through a relay whose host opens batches on
// one and on several goroutines.
func BenchmarkReceive(b *testing.B) {
	for _, batch := range []int{64, 128} {
		for _, ways := range []int{1, 2, 0} {
			b.Run(fmt.Sprintf("batch-%d/ways-%d", batch, ways), func(b *testing.B) {
				r, cells := forwarding(b)
				h, pass := storeHost(b, r.relay, r.addrs[r.ids[0]], batch, ways, func([]byte) {})
				b.ReportAllocs()
				b.ResetTimer()
				for left := b.N; left > 0; left -= 16384 {
					b.StopTimer()
					c := cells(min(left, 16384))
					b.StartTimer()
					pass(c)
				}
				b.StopTimer()
				if st := h.Snapshot().Ahead; st.Batches > 0 {
					b.ReportMetric(float64(st.Helped)*8/float64(st.Datagrams), "helped")
				}
			})
		}
	}
}
