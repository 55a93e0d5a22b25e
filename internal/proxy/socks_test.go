package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestConnectPassesNameUnresolved(t *testing.T) {
	d := &fakeDialer{}
	p := start(t, d, Options{})
	c := p.dial()
	defer c.Close()
	connect(t, c, "no.such.name.invalid", 443)
	if got, want := d.lastCall(t), (dialled{"", "no.such.name.invalid", 443}); got != want {
		t.Fatalf("dialled %+v, want %+v", got, want)
	}
	send(t, c, "hello")
	want(t, c, "hello")
	if n := p.counts.ByAddress.Load(); n != 0 {
		t.Errorf("%d requests counted as by address, want 0", n)
	}
}

func TestConnectAddresses(t *testing.T) {
	for _, tc := range []struct{ raw, host string }{
		{"\x01\x7f\x00\x00\x01", "127.0.0.1"},
		{"\x04" + strings.Repeat("\x00", 15) + "\x01", "::1"},
		{"\x04" + strings.Repeat("\x00", 10) + "\xff\xff\x0a\x00\x00\x01", "10.0.0.1"},
		{"\x03\x03::1", "::1"},
		{"\x03\x0a10.9.8.7.6", "10.9.8.7.6"}, // a name, if a strange one
	} {
		d := &fakeDialer{}
		p := start(t, d, Options{})
		c := p.dial()
		send(t, c, "\x05\x01\x00")
		want(t, c, "\x05\x00")
		send(t, c, "\x05\x01\x00"+tc.raw+"\x01\xbb")
		want(t, c, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
		if got := d.lastCall(t); got.host != tc.host || got.port != 443 {
			t.Errorf("%q: dialled %+v, want host %s", tc.raw, got, tc.host)
		}
		c.Close()
		p.stop()
	}
}

func TestIsolationByCredentials(t *testing.T) {
	d := &fakeDialer{}
	p := start(t, d, Options{})
	keyOf := func(user, password string) string {
		c := p.dial()
		defer c.Close()
		send(t, c, "\x05\x02\x00\x02")
		want(t, c, "\x05\x02")
		send(t, c, "\x01"+string(rune(len(user)))+user+string(rune(len(password)))+password)
		want(t, c, "\x01\x00")
		send(t, c, "\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50")
		want(t, c, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
		return d.lastCall(t).isolation
	}
	seen := map[string]string{"": "no credentials"}
	for _, pair := range [][2]string{{"a", "b:c"}, {"a:b", "c"}, {"a", "b"}, {"", "a:b"}, {"a", ""}, {"", ""}, {"1:a", "b"}} {
		key := keyOf(pair[0], pair[1])
		if other, ok := seen[key]; ok {
			t.Errorf("%q shares key %q with %s", pair, key, other)
		}
		seen[key] = fmt.Sprintf("%q", pair)
		if again := keyOf(pair[0], pair[1]); again != key {
			t.Errorf("%q: key %q, then %q", pair, key, again)
		}
	}
}

// timeoutError is a deadline that is not of this package.
type timeoutError struct{}

func (timeoutError) Error() string   { return "timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestErrorsMapped(t *testing.T) {
	for _, tc := range []struct {
		err    error
		socks  byte
		status string
	}{
		{ErrNotAllowed, 2, "403"},
		{ErrNetworkDown, 3, "503"},
		{ErrTooManyKeys, 2, "429"},
		{ErrHostUnreachable, 4, "502"},
		{ErrRefused, 5, "502"},
		{ErrTTL, 6, "504"},
		{context.DeadlineExceeded, 6, "504"},
		{os.ErrDeadlineExceeded, 6, "504"},
		{timeoutError{}, 6, "504"},
		{errors.New("anything"), 1, "502"},
	} {
		d := &fakeDialer{err: fmt.Errorf("exit: %w", tc.err)}
		p := start(t, d, Options{})
		c := p.dial()
		send(t, c, "\x05\x01\x00")
		want(t, c, "\x05\x00")
		send(t, c, "\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50")
		want(t, c, string([]byte{5, tc.socks, 0, 1, 0, 0, 0, 0, 0, 0}))
		wantEnd(t, c)
		c.Close()

		c = p.dial()
		send(t, c, "CONNECT example.com:443 HTTP/1.1\r\n\r\n")
		want(t, c, "HTTP/1.1 "+tc.status+" ")
		if body := rest(t, c); !strings.Contains(body, "\r\n\r\nnyx: ") || strings.Contains(body, "example.com") {
			t.Errorf("%v: answer %q", tc.err, body)
		}
		c.Close()
		if n := p.counts.Failed.Load(); n != 2 {
			t.Errorf("%v: %d failures counted, want 2", tc.err, n)
		}
		p.stop()
	}
}

func TestRefusedRequests(t *testing.T) {
	for _, tc := range []struct {
		name, request string
		reply         byte
	}{
		{"bind", "\x05\x02\x00\x01\x01\x02\x03\x04\x00\x50", 7},
		{"command 9", "\x05\x09\x00\x01\x01\x02\x03\x04\x00\x50", 7},
		{"address type", "\x05\x01\x00\x02\x01\x02\x03\x04\x00\x50", 8},
		{"reserved byte", "\x05\x01\x01\x01\x01\x02\x03\x04\x00\x50", 1},
		{"version", "\x04\x01\x00\x01\x01\x02\x03\x04\x00\x50", 1},
		{"port 0", "\x05\x01\x00\x01\x01\x02\x03\x04\x00\x00", 4},
		{"empty name", "\x05\x01\x00\x03\x00\x00\x50", 4},
		{"name with NUL", "\x05\x01\x00\x03\x03a\x00b\x00\x50", 4},
		{"name with newline", "\x05\x01\x00\x03\x03a\nb\x00\x50", 4},
		{"name with zone", "\x05\x01\x00\x03\x09fe80::1%1\x00\x50", 4},
		{"name that is no ASCII", "\x05\x01\x00\x03\x02\xc3\xa4\x00\x50", 4},
		{"datagrams without a network", "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", 7}, // no TCP here
	} {
		d := &fakeDialer{}
		p := start(t, d, Options{})
		c := p.dial()
		send(t, c, "\x05\x01\x00")
		want(t, c, "\x05\x00")
		go io.WriteString(c, tc.request)
		got := make([]byte, 10)
		if _, err := io.ReadFull(c, got); err != nil || got[1] != tc.reply {
			t.Errorf("%s: reply %v, %v; want code %d", tc.name, got, err, tc.reply)
		}
		if len(d.calls) != 0 {
			t.Errorf("%s: the Dialer was asked for %+v", tc.name, d.calls)
		}
		c.Close()
		p.stop()
	}
}

func TestNoMethodInCommon(t *testing.T) {
	p := start(t, &fakeDialer{}, Options{})
	for _, greeting := range []string{"\x05\x01\x01", "\x05\x02\x03\x80", "\x05\x00"} {
		c := p.dial()
		send(t, c, greeting)
		want(t, c, "\x05\xff")
		wantEnd(t, c)
		c.Close()
	}
}

func TestGarbage(t *testing.T) {
	p := start(t, &fakeDialer{}, Options{})
	for _, b := range []string{"\x04\x01\x00\x50\x01\x02\x03\x04\x00", "\x16\x03\x01\x02\x00", "\x00", "\xff\xff\xff", "\r\n"} {
		c := p.dial()
		send(t, c, b[:1])
		io.WriteString(c, b[1:])
		if got := rest(t, c); got != "" {
			t.Errorf("%q answered %q", b, got)
		}
		c.Close()
	}
	p.stop()
	if n := p.counts.Malformed.Load(); n != 5 {
		t.Errorf("%d malformed counted, want 5", n)
	}
}

// A client that says its request slowly, or nothing at all, is closed; one
// whose request is complete may then idle.
func TestSlowHeader(t *testing.T) {
	for name, bytes := range map[string]string{
		"nothing": "", "greeting": "\x05", "request": "\x05\x01\x00\x05\x01\x00\x03\x20abc", "http": "GET http://a/ HTTP/1.1\r\nA: b\r\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			p := start(t, &fakeDialer{}, Options{HeaderTimeout: 5 * time.Second})
			defer p.stop()
			c := p.dial()
			defer c.Close()
			began := time.Now()
			go func() {
				for i := range len(bytes) { // a byte a second at most keeps it going
					time.Sleep(100 * time.Millisecond)
					if _, err := io.WriteString(c, bytes[i:i+1]); err != nil {
						return
					}
				}
			}()
			answer := rest(t, c)
			if took := time.Since(began); took != 5*time.Second {
				t.Errorf("%s: closed after %v, want 5s", name, took)
			}
			if http := strings.HasPrefix(answer, "HTTP/1.1 408 "); http != (name == "http") {
				t.Errorf("%s: answered %q", name, answer)
			}
			p.stop()
			if n := p.counts.TimedOut.Load(); n != 1 {
				t.Errorf("%s: %d timeouts counted, want 1", name, n)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &fakeDialer{}, Options{HeaderTimeout: 5 * time.Second})
		defer p.stop()
		c := p.dial()
		defer c.Close()
		connect(t, c, "a", 1)
		time.Sleep(24 * time.Hour)
		send(t, c, "still here")
		want(t, c, "still here")
	})
}

func TestDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &fakeDialer{block: true}, Options{DialTimeout: 7 * time.Second})
		defer p.stop()
		c := p.dial()
		defer c.Close()
		send(t, c, "\x05\x01\x00")
		want(t, c, "\x05\x00")
		began := time.Now()
		send(t, c, "\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50")
		want(t, c, "\x05\x06\x00\x01\x00\x00\x00\x00\x00\x00")
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("answered after %v, want 7s", took)
		}
	})
}

// A client that leaves while its target is being dialled ends the dial.
func TestClientLeavesDuringDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &fakeDialer{block: true}, Options{})
		defer p.stop()
		c := p.dial()
		send(t, c, "\x05\x01\x00")
		want(t, c, "\x05\x00")
		send(t, c, "\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50")
		synctest.Wait()
		began := time.Now()
		c.Close()
		synctest.Wait()
		if n := p.counts.Failed.Load(); n != 1 || time.Since(began) != 0 {
			t.Errorf("%d dials ended after %v, want 1 at once", n, time.Since(began))
		}
	})
}

func TestTooManyClients(t *testing.T) {
	p := start(t, &fakeDialer{}, Options{MaxConns: 2})
	var held []net.Conn
	for range 2 {
		c := p.dial()
		defer c.Close()
		connect(t, c, "a", 1)
		held = append(held, c)
	}
	c := p.dial()
	wantEnd(t, c)
	c.Close()
	send(t, held[0], "x")
	want(t, held[0], "x")
	if n := p.counts.Refused.Load(); n != 1 {
		t.Errorf("%d refused, want 1", n)
	}
}

type brokenListener struct {
	*memListener
	errs chan error
}

func (l brokenListener) Accept() (net.Conn, error) { return nil, <-l.errs }

// A listener out of descriptors is tried again; one that is broken ends Serve.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := brokenListener{newMemListener(), make(chan error, 2)}
		l.errs <- timeoutError{} // temporary
		l.errs <- errors.New("listener broken")
		err := Serve(t.Context(), l, &fakeDialer{}, Options{})
		if err == nil || !strings.Contains(err.Error(), "listener broken") {
			t.Errorf("Serve: %v, want the listener's error", err)
		}
	})
}
