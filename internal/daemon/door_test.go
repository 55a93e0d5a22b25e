package daemon

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
)

// cameFrom is a connection from an address of the test's choice.
type cameFrom struct {
	net.Conn
	at net.TCPAddr
}

func (c cameFrom) RemoteAddr() net.Addr { return &c.at }

// visit opens a connection from an address.
func (w *wires) visit(host, ip string) net.Conn {
	w.mu.Lock()
	p := w.ports[host+":80"]
	w.mu.Unlock()
	ours, theirs := net.Pipe()
	p.calls <- cameFrom{theirs, net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}
	return ours
}

// asked is what a visitor is answered, 0: nothing.
func asked(c net.Conn, request string) int {
	go io.WriteString(c, request)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// plainDoors are those who serve plain HTTP: what they take, and a request that is answered.
var plainDoors = []struct {
	host, takes, request string
	answer               int
}{
	{host(0), descriptorPath, "GET " + documentPath + " HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusOK},
	{witnessHost(0), witnessPath, "POST " + witnessPath + " HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n-", http.StatusBadRequest},
}

// Connections that say nothing keep nobody out of an authority or a witness: those of one
// address beyond its bound are closed, and of so many that there is no room at all the
// oldest give way. They end by themselves, and are counted.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	for i, d := range plainDoors {
		t.Run(d.host, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newWatched(t, 1, 1, 1, 1)
				defer c.close()
				c.post(0, 1, 2, 3)
				advance(3 * time.Second)
				at := []*door{&c.all[0].door, &c.watched.all[0].door}[i]
				served := func(when string) {
					t.Helper()
					own := c.visit(d.host, "192.0.2.1")
					defer own.Close()
					if got := asked(own, d.request); got != d.answer {
						t.Errorf("%s an honest visitor is answered %d, want %d", when, got, d.answer)
					}
				}
				served("alone")
				begun := time.Now()
				var flood []net.Conn
				for range front.PerAddressMax + 50 {
					flood = append(flood, c.visit(d.host, "203.0.113.1"))
					<-time.After(front.HandshakeGap)
				}
				synctest.Wait()
				if n := at.full.Load(); n != 50 {
					t.Errorf("%d connections of one address are turned away, want 50", n)
				}
				served("beside one address's flood")
				for range front.ConnectionsMax {
					flood = append(flood, c.visit(d.host, "127.0.0.1"))
				}
				served("beside a flood that fills the server")
				if n := at.full.Load(); n != 50 {
					t.Errorf("%d connections are turned away, where the oldest are to give way", n-50)
				}
				for _, f := range flood {
					if b, err := io.ReadAll(f); err != nil || len(b) != 0 {
						t.Fatalf("a silent connection is told %q, %v", b, err)
					}
				}
				if took := time.Since(begun); took > 2*feedTimeout {
					t.Errorf("the last silent connection ends after %v", took)
				}
				synctest.Wait()
				if n := at.silent.Load(); n < uint64(len(flood))-50 || n > uint64(len(flood)) {
					t.Errorf("%d of %d silent connections are counted", n, len(flood))
				}
				served("after the flood")
			})
		})
	}
}

// Who sends a request or takes an answer a byte a second is let go of in time.
func TestSlowVisitorsAreCut(t *testing.T) {
	const slow = time.Second
	for _, d := range plainDoors {
		for _, c := range []struct {
			what, begin string
			reads       bool
			most        time.Duration
		}{
			{"a head", "GET / HTTP/1.1\r\nHost: ", false, feedTimeout},
			{"a body", "POST " + d.takes + " HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", false, feedTimeout},
			{"an answer", d.request, true, 2 * feedTimeout},
		} {
			t.Run(d.host+" "+c.what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWatched(t, 1, 1, 1, 1)
					defer w.close()
					w.post(0, 1, 2, 3)
					advance(3 * time.Second)
					own, begun := w.visit(d.host, "192.0.2.1"), time.Now()
					defer own.Close()
					_, err := io.WriteString(own, c.begin)
					if !c.reads {
						go io.Copy(io.Discard, own)
					}
					for err == nil && time.Since(begun) < 10*c.most {
						<-time.After(slow)
						if c.reads {
							_, err = own.Read(make([]byte, 1))
						} else {
							_, err = own.Write([]byte("x"))
						}
					}
					if took := time.Since(begun); took < c.most-2*slow || took > c.most+2*slow {
						t.Errorf("it is cut after %v, want %v: %v", took, c.most, err)
					}
				})
			})
		}
	}
}
