package front

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// line is a listener of connections in memory, from addresses of the test's choice.
type line chan net.Conn

func (l line) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l line) Close() error   { return nil }
func (l line) Addr() net.Addr { return &net.TCPAddr{} }

// from is a connection that comes from an address.
type from struct {
	net.Conn
	addr net.Addr
}

func (c from) RemoteAddr() net.Addr { return c.addr }

// dial has somebody at an address connect.
func (l line) dial(ip string) net.Conn {
	ours, theirs := net.Pipe()
	l <- from{theirs, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}
	return ours
}

// Connections beyond the bounds, of one address or in all, are told so and closed; who
// leaves makes room; this machine's own have the bound of all alone. (Control: without
// the limits all are taken.)
func TestListenerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := make(line)
		turned := map[string]int{}
		l := &Listener{Listener: in, Limits: NewLimits(8, 3), Answer: []byte("full"), Turned: func(why string) { turned[why]++ }}
		taken := make(chan net.Conn, 100)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					close(taken)
					return
				}
				taken <- c
			}
		}()
		comes := func(ip string, want bool) {
			t.Helper()
			c := in.dial(ip)
			said := make(chan string, 1)
			go func() {
				b, _ := io.ReadAll(c)
				said <- string(b)
			}()
			if synctest.Wait(); (len(said) == 0) != want {
				t.Errorf("%s is taken: %v", ip, !want)
			} else if !want && <-said != "full" {
				t.Errorf("%s is not told why it is not taken", ip)
			}
		}
		for i := range 4 {
			comes("192.0.2.1", i < 3)
		}
		comes("2001:db8::1", true)
		comes("2001:db8::2", true)
		comes("2001:db8::3", true)
		comes("2001:db8::4", false) // of the same /64
		comes("127.0.0.1", true)
		comes("127.0.0.1", true)
		comes("127.0.0.1", false) // of all
		comes("192.0.2.2", false)
		c := <-taken
		c.Close()
		c.Close()
		comes("192.0.2.1", true)
		comes("192.0.2.2", false)
		if turned[NoRoom] != 5 || len(turned) != 1 {
			t.Errorf("turned away: %v", turned)
		}
		close(in)
		for c := range taken {
			c.Close()
		}
		if l.Limits.total != 0 {
			t.Errorf("%d connections are counted when none is left", l.Limits.total)
		}
	})
}

// A connection that brings no request, or one too slowly, is let go of, and counted; one
// that brings a request is not counted.
func TestListenerCountsTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const headers = 10 * time.Second
		in := make(line)
		turned := map[string]int{}
		l := &Listener{Listener: in, Limits: NewLimits(8, 8), Turned: func(why string) { turned[why]++ }}
		s := &http.Server{ReadHeaderTimeout: headers, IdleTimeout: headers, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })}
		l.Watch(s)
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		for i, say := range []string{"", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"} {
			c, begun := in.dial("192.0.2.1"), time.Now()
			go io.WriteString(c, say)
			b, _ := io.ReadAll(c)
			if took := time.Since(begun); took != headers || strings.Contains(string(b), "hello") != (i == 2) {
				t.Errorf("%q is answered %q after %v", say, b, took)
			}
		}
		synctest.Wait()
		if turned[Silent] != 2 || len(turned) != 1 || l.Limits.total != 0 {
			t.Errorf("turned away: %v, %d connections are left", turned, l.Limits.total)
		}
		close(in)
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// Where connections yield, one for which there is no room takes the place of the oldest
// that is not known; those that are known keep theirs, and the next is told that there is
// no room. (Control: without Yields it is told so at once.)
func TestListenerYields(t *testing.T) {
	for _, yields := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			in := make(line)
			l := &Listener{Listener: in, Limits: NewLimits(2, 2), Answer: []byte("full"), Yields: yields}
			s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/known" {
					Known(r)
				}
			})}
			l.Watch(s)
			served := make(chan error, 1)
			go func() { served <- s.Serve(l) }()
			comes := func(path string) (ended chan string) {
				c := in.dial("127.0.0.1")
				ended = make(chan string, 1)
				go func() {
					b, _ := io.ReadAll(c)
					ended <- string(b)
				}()
				if path != "" {
					io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
				}
				synctest.Wait()
				return ended
			}
			silent, forged := comes(""), comes("/forged")
			known := comes("/known")
			gone := func(c chan string) bool { return len(c) == 1 }
			if gone(silent) != yields || gone(known) == yields {
				t.Fatalf("yields %v: the oldest has ended: %v, the newest: %v", yields, gone(silent), gone(known))
			}
			if yields {
				other := comes("/known")
				if !gone(forged) || gone(known) || gone(other) {
					t.Errorf("who is not known keeps its place: %v", !gone(forged))
				}
				if last := comes(""); !gone(last) || <-last != "full" || gone(known) || gone(other) || l.unknown.Len() != 0 {
					t.Error("one who is known has given way")
				}
			}
			close(in)
			<-served
			s.Close()
		})
	}
}

// Who has used up what an address may have displaces nobody, though there is no room in
// all; who comes from elsewhere then takes the place of the oldest.
func TestListenerYieldsToOtherAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := make(line)
		l := &Listener{Listener: in, Limits: NewLimits(3, 2), Yields: true}
		go func() {
			for {
				if _, err := l.Accept(); err != nil {
					return
				}
			}
		}()
		comes := func(ip string) (ended chan error) {
			c := in.dial(ip)
			ended = make(chan error, 1)
			go func() {
				_, err := c.Read(make([]byte, 1))
				ended <- err
			}()
			synctest.Wait()
			return ended
		}
		gone := func(c chan error) bool { return len(c) == 1 }
		oldest, first, second := comes("192.0.2.1"), comes("192.0.2.2"), comes("192.0.2.2")
		for range 5 {
			if again := comes("192.0.2.2"); !gone(again) || gone(oldest) {
				t.Fatalf("a third connection of one address has taken a place: %v, of another's: %v", !gone(again), gone(oldest))
			}
		}
		if other := comes("192.0.2.3"); gone(other) || !gone(oldest) || gone(first) || gone(second) {
			t.Errorf("the newest has ended: %v, the oldest: %v", gone(other), gone(oldest))
		}
		close(in)
		for e := l.unknown.Front(); e != nil; e = l.unknown.Front() {
			e.Value.(*Conn).Close()
		}
	})
}
