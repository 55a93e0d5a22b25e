package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// HTTP proxying: CONNECT (RFC 9110, section 9.3.6), and requests in absolute
// form (RFC 9112, section 3.2.2) for http:// targets. The latter are carried
// as a stream of their own each: the request is rewritten to origin form with
// "Connection: close", its body is passed on, and whatever the client sends
// after it is not, since it might be meant for another target. Nothing that
// names a proxy or the client is added.

const (
	// headerMax bounds a whole header: what common servers accept.
	headerMax = 16 << 10
	// headerLines bounds the number of its fields.
	headerLines = 128
)

// httpRequest is a parsed request header.
type httpRequest struct {
	connect   bool
	isolation string
	host      string
	port      uint16
	head      []byte // for the target; nil for CONNECT
	body      *body  // nil for CONNECT
}

// serveHTTP serves a client that speaks HTTP.
func (c *client) serveHTTP(ctx context.Context) {
	req, err := readHTTPRequest(c.in)
	if err != nil {
		c.countRead(err)
		if err != io.EOF && err != io.ErrUnexpectedEOF {
			a := answerTo(err)
			if isTimeout(err) {
				a.status, a.text = "408 Request Timeout", "The request header did not arrive in time."
			}
			c.refuse(appendHTTPError(nil, a))
		}
		return
	}
	if _, err := netip.ParseAddr(req.host); err == nil {
		c.counts.ByAddress.Add(1)
	}
	t := &target{isolation: req.isolation, host: req.host, port: req.port, head: req.head, body: req.body}
	c.carry(ctx, t, func(err error) []byte {
		switch {
		case err != nil:
			return appendHTTPError(nil, answerTo(err))
		case req.connect:
			return []byte("HTTP/1.1 " + answerTo(nil).status + "\r\n\r\n")
		}
		return nil // the target's own answer follows
	})
}

// appendHTTPError appends a whole answer that says what was wrong.
func appendHTTPError(b []byte, a answer) []byte {
	b = append(b, "HTTP/1.1 "+a.status+"\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(a.text)+len("nyx: \n")), 10)
	b = append(b, "\r\n\r\nnyx: "...)
	return append(append(b, a.text...), '\n')
}

// field is one header field; its parts alias the header that was read.
type field struct{ name, value string }

// readHTTPRequest reads and checks one request header.
func readHTTPRequest(in *bufio.Reader) (*httpRequest, error) {
	left := headerMax
	line, err := readLine(in, &left)
	if err != nil {
		return nil, err
	}
	method, rest, ok1 := strings.Cut(line, " ")
	uri, version, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !isToken(method) || version != "HTTP/1.1" && version != "HTTP/1.0" {
		return nil, errMalformed
	}
	fields, err := readFields(in, &left)
	if err != nil {
		return nil, err
	}
	req := &httpRequest{connect: method == "CONNECT"}
	if req.isolation, err = basicCredentials(fields); err != nil {
		return nil, err
	}
	if req.connect {
		req.host, req.port, err = splitAuthority(uri, 0)
		return req, err
	}
	authority, path, err := splitAbsolute(uri)
	if err != nil {
		return nil, err
	}
	if req.host, req.port, err = splitAuthority(authority, 80); err != nil {
		return nil, err
	}
	if req.body, err = bodyOf(fields); err != nil {
		return nil, err
	}
	req.head, err = appendOrigin(nil, method, path, version, authority, fields)
	return req, err
}

// readLine returns one line without its end, CRLF or LF. It takes its length
// from left, and fails when that is used up.
func readLine(in *bufio.Reader, left *int) (string, error) {
	b, err := in.ReadSlice('\n')
	if *left -= len(b); *left < 0 || err == bufio.ErrBufferFull {
		return "", errTooLarge
	}
	if err != nil {
		return "", err
	}
	b = bytes.TrimSuffix(b[:len(b)-1], []byte{'\r'})
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return "", errMalformed
		}
	}
	return string(b), nil
}

// readFields reads the header fields and the empty line after them.
func readFields(in *bufio.Reader, left *int) ([]field, error) {
	var fields []field
	for {
		line, err := readLine(in, left)
		if err != nil {
			return nil, err
		}
		if line == "" {
			return fields, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) {
			return nil, errMalformed
		}
		if len(fields) == headerLines {
			return nil, errTooLarge
		}
		fields = append(fields, field{name, strings.Trim(value, " \t")})
	}
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		switch b := s[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// basicCredentials returns the isolation key of a Proxy-Authorization field.
func basicCredentials(fields []field) (string, error) {
	for _, f := range fields {
		if !strings.EqualFold(f.name, "Proxy-Authorization") {
			continue
		}
		scheme, coded, _ := strings.Cut(f.value, " ")
		if !strings.EqualFold(scheme, "Basic") {
			return "", errMalformed
		}
		plain, err := base64.StdEncoding.DecodeString(strings.TrimLeft(coded, " "))
		if err != nil {
			return "", errMalformed
		}
		user, password, ok := strings.Cut(string(plain), ":")
		if !ok {
			return "", errMalformed
		}
		return isolationKey(user, password), nil
	}
	return "", nil
}

// splitAbsolute splits an http:// URI into its authority and the rest.
func splitAbsolute(uri string) (authority, path string, err error) {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return "", "", errNotProxying
	}
	if !strings.EqualFold(scheme, "http") {
		return "", "", ErrNotSupported
	}
	if strings.ContainsAny(uri, "#\t") {
		return "", "", errMalformed
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		return rest, "/", nil
	}
	authority, path = rest[:end], rest[end:]
	if path[0] == '?' {
		path = "/" + path
	}
	return authority, path, nil
}

// splitAuthority splits host:port or [address]:port. A missing port is the
// default; with no default (0) it must be there.
func splitAuthority(s string, defaultPort uint16) (host string, port uint16, err error) {
	var digits string
	hasPort := false
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 || strings.IndexByte(s[:end], ':') < 0 {
			return "", 0, errBadHost
		}
		host, digits = s[1:end], s[end+1:]
		if digits != "" && digits[0] != ':' {
			return "", 0, errBadHost
		}
		digits, hasPort = strings.CutPrefix(digits, ":")
	} else {
		host, digits, hasPort = strings.Cut(s, ":")
	}
	if !validHost(host) {
		return "", 0, errBadHost
	}
	if !hasPort || digits == "" && defaultPort != 0 {
		if defaultPort == 0 {
			return "", 0, errBadHost
		}
		return host, defaultPort, nil
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errBadHost
	}
	return host, uint16(n), nil
}

// appendOrigin appends the request as its target is to see it.
func appendOrigin(b []byte, method, path, version, authority string, fields []field) ([]byte, error) {
	var named []string // fields that Connection declares to be of this hop
	for _, f := range fields {
		if strings.EqualFold(f.name, "Connection") {
			for name := range strings.SplitSeq(f.value, ",") {
				named = append(named, strings.Trim(name, " \t"))
			}
		}
	}
	b = append(b, method+" "+path+" "+version+"\r\nHost: "+authority+"\r\n"...)
	for _, f := range fields {
		framing := strings.EqualFold(f.name, "Content-Length") || strings.EqualFold(f.name, "Transfer-Encoding")
		listed := false
		for _, name := range named {
			listed = listed || strings.EqualFold(name, f.name)
		}
		if framing && listed {
			return nil, errMalformed // would change where the body ends
		}
		if listed || ofThisHop(f.name) {
			continue
		}
		b = append(b, f.name+": "+f.value+"\r\n"...)
	}
	return append(b, "Connection: close\r\n\r\n"...), nil
}

// ofThisHop reports whether a field ends at this proxy.
func ofThisHop(name string) bool {
	for _, n := range [...]string{"Connection", "Keep-Alive", "Host", "TE", "Upgrade", "Forwarded", "Via"} {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return len(name) >= 6 && strings.EqualFold(name[:6], "Proxy-")
}
