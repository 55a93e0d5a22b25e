package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
)

func FuzzSOCKS(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x01a\x00\x50"))
	f.Add([]byte("\x05\x02\x00\x02\x01\x01u\x01p\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x05\x01\x02\x01\x00\x00\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bufio.NewReader(bytes.NewReader(b))
		var out bytes.Buffer
		if _, err := readGreeting(in, &out); err != nil {
			return
		}
		r, err := readSOCKSRequest(in)
		if err != nil || !validHost(r.host) {
			return
		}
		if len(r.host) > 255 || strings.ContainsAny(r.host, "\x00\r\n /@%") {
			t.Fatalf("host %q passed", r.host)
		}
		if _, err := netip.ParseAddr(r.host); (err == nil) != r.byAddress {
			t.Fatalf("host %q counted as address: %v", r.host, r.byAddress)
		}
	})
}

// What is read from the rewritten request is what was read from the original,
// and a second rewriting changes nothing.
func FuzzHTTP(f *testing.F) {
	f.Add([]byte("CONNECT a:443 HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\n\r\n"))
	f.Add([]byte("GET http://[::1]:8080?x HTTP/1.0\r\nHost: b\r\nConnection: c\r\nC: d\r\n\r\n"))
	f.Add([]byte("POST http://a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"))
	f.Add([]byte("POST http://a/b HTTP/1.1\nContent-Length: 3\n\nabc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readHTTPRequest(bufio.NewReaderSize(bytes.NewReader(b), headerBuffer))
		if err != nil {
			appendHTTPError(nil, answerTo(err))
			return
		}
		if !validHost(r.host) || r.port == 0 {
			t.Fatalf("target %q:%d passed", r.host, r.port)
		}
		if r.connect {
			return
		}
		method, rest, _ := strings.Cut(string(r.head), " ")
		path, rest, _ := strings.Cut(rest, " ")
		_, after, _ := strings.Cut(rest, "Host: ")
		authority, _, _ := strings.Cut(after, "\r\n")
		if strings.Count(string(r.head), "\r\n\r\n") != 1 || !strings.HasPrefix(path, "/") {
			t.Fatalf("head %q", r.head)
		}
		again := method + " http://" + authority + path + " " + rest
		r2, err := readHTTPRequest(bufio.NewReaderSize(strings.NewReader(again), 2*headerBuffer))
		if err == errTooLarge {
			return
		}
		if err != nil || string(r2.head) != string(r.head) || *r2.body != *r.body {
			t.Fatalf("%q rewritten again: %v", again, err)
		}
	})
}

// The end of a body does not depend on how its bytes arrive.
func FuzzChunked(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\nmore"), 1)
	f.Add([]byte("0;a\r\nT: u\r\n\r\n"), 2)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		step = max(1, step)
		whole, pieces := &body{state: chunkSize}, &body{state: chunkSize}
		n, err1 := whole.take(b)
		got, err2 := wholeBody(pieces, string(b), step)
		if (err1 == nil) != (err2 == nil) {
			t.Fatalf("at once: %v; by %d: %v", err1, step, err2)
		}
		if err1 == nil && (got != string(b[:n]) || whole.state != pieces.state) {
			t.Fatalf("at once %q, by %d %q", b[:n], step, got)
		}
	})
}

func FuzzDatagram(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03\x01a\x00\x35x"))
	f.Add([]byte("\x00\x00\x00\x04" + strings.Repeat("\x01", 16) + "\x00\x35x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d destination
		data, ok := d.parse(b)
		if !ok {
			return
		}
		head, ok := appendDatagramHeader(nil, d.host, d.port)
		if !ok || !validHost(d.host) {
			t.Fatalf("destination %q passed", d.host)
		}
		var again destination
		data2, ok := again.parse(append(head, data...))
		if addr, err := netip.ParseAddr(d.host); err == nil {
			d.host = addr.Unmap().String() // a name that spells an address comes back as one
		}
		if !ok || again.host != d.host || again.port != d.port || string(data2) != string(data) {
			t.Fatalf("%q read again as %+v %q", b, again, data2)
		}
	})
}

// FuzzServe gives whole conversations to a client handler.
func FuzzServe(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50data"))
	f.Add([]byte("GET http://a/ HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\x04\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &fakeDialer{}
		p := start(t, d, Options{})
		c := p.dial().(*memConn)
		go func() { c.Write(b); c.CloseWrite() }()
		io.Copy(io.Discard, struct{ io.Reader }{c})
		c.Close()
		p.stop()
	})
}
