package bench

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/wire"
)

// downloading is a client in the middle of a download over five hops, and the
// datagrams of it that have come next.
func downloading(tb testing.TB) (core *client.Client, datagrams [][]byte, from netip.AddrPort) {
	tb.Helper()
	fixed := stream.Config{Congestion: congestion.Fixed, FixedRate: 200 << 20}
	w, err := lab.NewRun(&lab.Scenario{ID: "test"}, 1).NewNetwork(lab.Plan{Streams: 2, Mixes: 3, Level: wire.Fast, Ideal: true,
		Gateway: func(c *gateway.Config) { c.Stream = fixed },
		Client:  func(c *client.Config) { c.Stream, c.RoutesPerSession, c.Ahead = fixed, 1, -1 }})
	if err != nil {
		tb.Fatal(err)
	}
	w.AddUsers(1)
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		tb.Fatal(err)
	}
	answer := make([]byte, 64<<20)
	for _, g := range w.Gateways {
		g.Service.Answer = func(machine.Time, []byte) []byte { return answer }
	}
	u := w.Users[0]
	u.Ask("a", []byte("more"), func(machine.Time, []byte, error) {})
	w.Sim.RunFor(100 * time.Millisecond)
	w.Sim.Intercept(func(d sim.Datagram) bool {
		if d.To == u.Node.Addr() {
			datagrams, from = append(datagrams, append([]byte(nil), d.B...)), d.From
		}
		return d.To != u.Node.Addr()
	})
	w.Sim.RunFor(60 * time.Millisecond)
	return u.Core(), datagrams, from
}

// BenchmarkClientReceive hands a client the datagrams of a download as
// BenchmarkReceive does to a relay: what is timed ends with the bytes in the
// stream's buffer.
func BenchmarkClientReceive(b *testing.B) {
	for _, ways := range []int{1, 2, 0} {
		b.Run(fmt.Sprint("ways-", ways), func(b *testing.B) {
			var took time.Duration
			n := 0
			for range b.N {
				core, datagrams, from := downloading(b)
				_, pass := storeHost(b, core, from, 128, ways, func([]byte) {})
				began := time.Now()
				pass(datagrams)
				took += time.Since(began)
				n += len(datagrams)
			}
			b.ReportMetric(float64(took)/float64(n), "ns/datagram")
		})
	}
}
