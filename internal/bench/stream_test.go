package bench

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
	"net"
	"github.com/nyxnet/nyx/internal/trace"
	"context"
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
		for range 5 {
			time.Sleep(2 * time.Second)
			l.Client.Do(func(now machine.Time, c *client.Client) {
				for _, m := range c.Members() {
					fmt.Printf("client %+v\n", m.Core.Stats())
				}
			})
		}
	}()
	rate, cpu, err := download(t.Context(), 1, 10*time.Second, func(ctx context.Context) (net.Conn, error) {
		return dialSocks(ctx, l.Socks(), ln.Addr().String())
	})
	fmt.Println(rate/1e6, "MB/s", cpu/(rate*10)*(1<<30), "s/GiB", err)
	p := func(name string, s any) { fmt.Fprintf(os.Stdout, "%s %+v\n", name, s) }
	p("client", l.Client.Load())
	for i, n := range l.Nodes {
		p(fmt.Sprint(i), n.Load())
	    c := n.Stats()
		for k, v := range c { if v > 0 { fmt.Print(trName(k), "=", v, " ") } }
		fmt.Println()
	}
}

func trName(k int) string { return trace.Counter(k).String() }
