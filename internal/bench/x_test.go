package bench

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

func TestX(t *testing.T) {
	l, err := network(t.Context(), wire.Fast)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ln, _ := source()
	defer ln.Close()
	go func() {
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			for _, n := range l.Nodes {
				for _, s := range n.Sessions() {
					fmt.Printf("rtt %v min %v win %d infl %d pace %.1f MB/s backlog %d sent %d lost %d retr %d spur %d lossdelay %v\n", s.RTT, s.MinRTT, s.Window, s.InFlight, float64(s.PacingRate)/1e6, s.Backlog, s.PacketsSent, s.Lost, s.Retransmitted, s.Spurious, s.LossDelay)
				}
			}
		}
	}()
	rate, cpu, err := download(t.Context(), 1, 10*time.Second, func(ctx context.Context) (net.Conn, error) {
		return dialSocks(ctx, l.Socks(), ln.Addr().String())
	})
	fmt.Println(rate/1e6, "MB/s", cpu/(rate*10)*(1<<30), "s/GiB", err)
}
