package proxy

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

// httpTarget reads a request up to its end as framed by n body bytes, hands it
// over, and answers.
func httpTarget(got chan<- string, answer string) func(*memConn) {
	return func(c *memConn) {
		in := bufio.NewReader(c)
		var b strings.Builder
		for !strings.HasSuffix(b.String(), "\r\n\r\n") {
			line, err := in.ReadString('\n')
			b.WriteString(line)
			if err != nil {
				break
			}
		}
		if strings.Contains(b.String(), "Content-Length") {
			body, _ := in.ReadByte()
			b.WriteByte(body)
		}
		io.WriteString(c, answer)
		c.CloseWrite()
		more, _ := io.ReadAll(in) // whatever else reached us
		got <- b.String() + string(more)
	}
}

func TestHTTPConnect(t *testing.T) {
	d := &fakeDialer{}
	p := start(t, d, Options{})
	c := p.dial()
	defer c.Close()
	send(t, c, "CONNECT example.com:8443 HTTP/1.1\r\nHost: example.com:8443\r\nProxy-Authorization: Basic YTpiOmM=\r\n\r\n")
	want(t, c, "HTTP/1.1 200 Connection established\r\n\r\n")
	send(t, c, "ping")
	want(t, c, "ping")
	if got, want := d.lastCall(t), (dialled{isolationKey("a", "b:c"), "example.com", 8443}); got != want {
		t.Errorf("dialled %+v, want %+v", got, want)
	}
}

func TestHTTPAbsoluteForm(t *testing.T) {
	got := make(chan string, 1)
	d := &fakeDialer{target: httpTarget(got, "HTTP/1.1 204 No Content\r\n\r\n")}
	p := start(t, d, Options{})
	c := p.dial().(*memConn)
	defer c.Close()
	send(t, c, "GET http://Example.com/a?b HTTP/1.1\r\nHost: other.example\r\nAccept: */*\r\nCookie: x\r\n"+
		"Proxy-Authorization: Basic YTpi\r\nProxy-Connection: keep-alive\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nVia: me\r\n\r\n")
	want(t, c, "HTTP/1.1 204 No Content\r\n\r\n")
	wantEnd(t, c)
	c.CloseWrite()
	request := <-got
	const wanted = "GET /a?b HTTP/1.1\r\nHost: Example.com\r\nAccept: */*\r\nCookie: x\r\nConnection: close\r\n\r\n"
	if request != wanted {
		t.Errorf("the target got %q, want %q", request, wanted)
	}
	if got, want := d.lastCall(t), (dialled{isolationKey("a", "b"), "Example.com", 80}); got != want {
		t.Errorf("dialled %+v, want %+v", got, want)
	}
}

// A second request on the connection may be for another target: it must not
// reach the first one.
func TestHTTPSecondRequestNotPassedOn(t *testing.T) {
	for _, first := range []string{
		"GET http://first.example/ HTTP/1.1\r\n\r\n",
		"POST http://first.example/ HTTP/1.1\r\nContent-Length: 1\r\n\r\nX",
		"POST http://first.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;e=f\r\nab\r\n0\r\nT: x\r\n\r\n",
	} {
		got := make(chan string, 1)
		p := start(t, &fakeDialer{target: httpTarget(got, "HTTP/1.1 200 OK\r\n\r\n")}, Options{})
		c := p.dial().(*memConn)
		send(t, c, first+"GET http://second.example/secret HTTP/1.1\r\nCookie: planted\r\n\r\n")
		want(t, c, "HTTP/1.1 200 OK\r\n\r\n")
		send(t, c, "GET http://third.example/secret HTTP/1.1\r\n\r\n")
		c.CloseWrite()
		request := <-got
		if strings.Contains(request, "secret") {
			t.Errorf("the first target got %q", request)
		}
		_, body, _ := strings.Cut(first, "\r\n\r\n")
		if !strings.HasSuffix(request, "\r\n\r\n"+body) {
			t.Errorf("the first target got %q, without its body %q", request, body)
		}
		c.Close()
		p.stop()
	}
}

// The end of a client's sending side is passed on behind its only request.
func TestHTTPRequestThenEnd(t *testing.T) {
	got := make(chan string, 1)
	p := start(t, &fakeDialer{target: func(c *memConn) {
		b, _ := io.ReadAll(c)
		io.WriteString(c, "late answer")
		got <- string(b)
	}}, Options{})
	c := p.dial().(*memConn)
	defer c.Close()
	send(t, c, "GET http://a HTTP/1.0\r\n\r\n")
	c.CloseWrite()
	want(t, c, "late answer")
	if b := <-got; b != "GET / HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n" {
		t.Errorf("the target got %q", b)
	}
}

func TestHTTPRefused(t *testing.T) {
	for request, status := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                                            "400",
		"GET https://a/ HTTP/1.1\r\n\r\n":                                              "501",
		"GET http://u:p@a/ HTTP/1.1\r\n\r\n":                                           "400",
		"GET http:/// HTTP/1.1\r\n\r\n":                                                "400",
		"GET http://a/#x HTTP/1.1\r\n\r\n":                                             "400",
		"GET http://a/ HTTP/2.0\r\n\r\n":                                               "400",
		"GET http://a/ b HTTP/1.1\r\n\r\n":                                             "400",
		"GET http://a/\r\n\r\n":                                                        "400",
		"CONNECT a HTTP/1.1\r\n\r\n":                                                   "400",
		"CONNECT a: HTTP/1.1\r\n\r\n":                                                  "400",
		"CONNECT a:0 HTTP/1.1\r\n\r\n":                                                 "400",
		"CONNECT a:65536 HTTP/1.1\r\n\r\n":                                             "400",
		"CONNECT a:+80 HTTP/1.1\r\n\r\n":                                               "400",
		"CONNECT [::1 HTTP/1.1\r\n\r\n":                                                "400",
		"CONNECT [a]:1 HTTP/1.1\r\n\r\n":                                               "400",
		"CONNECT [fe80::1%25lo]:1 HTTP/1.1\r\n\r\n":                                    "400",
		"CONNECT ::1:80 HTTP/1.1\r\n\r\n":                                              "400",
		"CONNECT a:1 HTTP/1.1\r\nProxy-Authorization: Basic !!\r\n\r\n":                "400",
		"CONNECT a:1 HTTP/1.1\r\nProxy-Authorization: Bearer x\r\n\r\n":                "400",
		"CONNECT a:1 HTTP/1.1\r\n folded\r\n\r\n":                                      "400",
		"CONNECT a:1 HTTP/1.1\r\nA b: c\r\n\r\n":                                       "400",
		"CONNECT a:1 HTTP/1.1\r\nA: b\rc\r\n\r\n":                                      "400",
		"CONNECT a:1 HTTP/1.1\r\nA: " + strings.Repeat("b", headerBuffer) + "\r\n\r\n": "431",
		"CONNECT a:1 HTTP/1.1\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 20) + "\r\n":       "431",
		"CONNECT a:1 HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", headerLines+1) + "\r\n":                        "431",
		"POST http://a/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n":                   "400",
		"POST http://a/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n":                            "400",
		"POST http://a/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n":                                                "400",
		"POST http://a/ HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\n":                               "400",
		"POST http://a/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n":                                  "400",
		"POST http://a/ HTTP/1.1\r\nConnection: content-length\r\nContent-Length: 4\r\n\r\nabcd":               "400",
		"POST http://a/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": "400",
	} {
		d := &fakeDialer{}
		p := start(t, d, Options{})
		c := p.dial().(*memConn)
		go func() { io.WriteString(c, request); c.CloseWrite() }()
		answer := rest(t, c)
		if !strings.HasPrefix(answer, "HTTP/1.1 "+status+" ") {
			t.Errorf("%.80q answered %q, want %s", request, answer, status)
		}
		if len(d.calls) != 0 {
			t.Errorf("%.80q: the Dialer was asked for %+v", request, d.calls)
		}
		c.Close()
		p.stop()
	}
}

// wholeBody feeds b in pieces of size step and returns what belongs to it.
func wholeBody(m *body, b string, step int) (string, error) {
	var out strings.Builder
	for len(b) > 0 {
		piece := b[:min(step, len(b))]
		b = b[len(piece):]
		n, err := m.take([]byte(piece))
		if err != nil {
			return out.String(), err
		}
		out.WriteString(piece[:n])
	}
	return out.String(), nil
}

func TestChunkedBody(t *testing.T) {
	for _, tc := range []struct{ in, body string }{
		{"0\r\n\r\n", "0\r\n\r\n"},
		{"0\r\n\r\nGET", "0\r\n\r\n"},
		{"3\r\nabc\r\n0\r\n\r\nx", "3\r\nabc\r\n0\r\n\r\n"},
		{"A\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n!", "A\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"},
		{"1 ;a=\"b\"\r\nx\r\n00\r\nT: 1\r\nU: 2\r\n\r\n!", "1 ;a=\"b\"\r\nx\r\n00\r\nT: 1\r\nU: 2\r\n\r\n"},
		{"\r\n", ""}, {"g\r\n", ""}, {"1\nx\n0\n\n", ""}, {"1\r\nxy\r\n", ""}, {";\r\n", ""},
		{"100000000000000\r\n", ""}, {"0\r\n x\r\n\r\n", ""}, {"0\r\n\rx", ""}, {"1\rx", ""},
		{"1;" + strings.Repeat("e", chunkLineMax) + "\r\n", ""},
		{"0\r\n" + strings.Repeat("T: "+strings.Repeat("t", 1000)+"\r\n", 20), ""},
	} {
		for _, step := range []int{1, 2, 7, 1 << 20} {
			m := &body{state: chunkSize}
			got, err := wholeBody(m, tc.in, step)
			if bad := tc.body == ""; bad != (err != nil) || !bad && got != tc.body {
				t.Errorf("%.40q by %d: body %.40q, %v; want %.40q", tc.in, step, got, err, tc.body)
			}
			if err == nil && m.state != bodyEnd {
				t.Errorf("%.40q by %d: end not found", tc.in, step)
			}
		}
	}
}

// A broken chunk breaks the stream: the target must not take it for whole.
func TestBrokenChunkResetsTarget(t *testing.T) {
	d := &fakeDialer{target: func(c *memConn) { io.ReadAll(c) }}
	p := start(t, d, Options{})
	c := p.dial()
	defer c.Close()
	send(t, c, "POST http://a/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense")
	if got, err := io.ReadAll(c); len(got) > 0 {
		t.Errorf("client read %q, %v", got, err)
	}
	p.stop()
	if d.reset == 0 {
		t.Error("the target saw an orderly end")
	}
}

func TestErrorsWrapped(t *testing.T) {
	for _, a := range answers {
		if got := answerTo(errors.Join(errors.New("more"), a.err)); got != a.answer {
			t.Errorf("%v: answer %+v, want %+v", a.err, got, a.answer)
		}
	}
}
