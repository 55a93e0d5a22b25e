package daemon

import (
	"io"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// What nodes measure over the links of a client's routes reaches the authority,
// which tells the delay between two regions, and metrics of both.
func TestDelaysReachTheAuthority(t *testing.T) {
	l := standNetwork(t, LocalConfig{Seed: [32]byte{1}, Streams: 4, Mixes: 6, Regions: 2, Client: client.Config{Level: wire.Fast}})
	port := echoServer(t)
	pass := func() { // a challenge is answered before what passes over its link next
		for i := range 6 {
			c := dial(t, l, strconv.Itoa(i), port)
			c.SetDeadline(time.Now().Add(patience))
			c.Write([]byte{1})
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
	}
	pass()
	for _, n := range l.Nodes {
		for range l.Nodes {
			n.host.Do(func(machine.Time) { n.links.Measure() })
		}
	}
	pass()
	for _, n := range l.Nodes {
		client := newHTTP()
		n.report(t.Context(), client)
		client.CloseIdleConnections()
	}
	if err := l.Authority.sayRound(time.Now().Unix() + 10); err != nil {
		t.Fatal(err)
	}
	page := httptest.NewRecorder()
	l.source().page().Text(page)
	if !strings.Contains(page.Body.String(), `latency_cross_region{part="authority",from="region-0",to="region-1"} 0`) {
		t.Error("the authority does not tell the delay between the regions")
	}
	if n := strings.Count(page.Body.String(), `latency_cross_region{part="`); n < 4 {
		t.Errorf("%d values of latency_cross_region", n)
	}
}
