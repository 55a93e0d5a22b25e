package mirror

import (
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/seal"
)

// Replicas speak HTTP/2 over TLS 1.3, and both sides show a certificate of their
// own making. The replica's is told by the hash of its key, which stands in the
// network file; a client's key is new with each process, and is asked for so that
// a replica can tell the requests of one process from those of others, not to
// admit anybody: what is served is public and signed.

// ServerTLS is the configuration of a replica's server.
func ServerTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAnyClientCert,
	}
}

// NewServer returns a replica's server, on which no client can hold a connection
// for long. It logs nothing: it would name clients.
func NewServer(h http.Handler) *http.Server {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: requestMax, ReadTimeout: requestMax, WriteTimeout: 2 * requestMax, IdleTimeout: idleMax,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Protocols: &http.Protocols{},
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streamsMost, MaxReceiveBufferPerConnection: unreadMost, MaxReceiveBufferPerStream: unreadMost},
	}
	s.Protocols.SetHTTP2(true)
	return s
}

// Serve serves a listener with a certificate for a key, until the server is closed.
// Connections are bounded, in all and of one address (package front), and where there is
// no room the oldest yields that has not shown whose it is; turned is told
// why one was turned away, and not whose it was. nil: nobody is told.
func Serve(s *http.Server, ln net.Listener, key *[front.KeySize]byte, turned func(why string)) error {
	cert, err := front.Issue(key, time.Now())
	if err != nil {
		return err
	}
	s.TLSConfig = ServerTLS(cert)
	return s.ServeTLS(front.Bound(s, ln, turned), "", "")
}

// Server is where to ask.
type Server struct {
	// URL is http://host:port or https://host:port.
	URL string
	// Pin is the hash of the key of an https server.
	Pin     [seal.HashSize]byte
	Replica bool
}

// ParseServer reads a URL; that of a replica ends with # and the pin in hex.
func ParseServer(s string) (Server, error) {
	url, pin, pinned := strings.Cut(s, "#")
	out := Server{URL: strings.TrimRight(url, "/"), Replica: pinned}
	switch {
	case pinned != strings.HasPrefix(url, "https://"):
		return out, errors.New("an https URL of a directory ends with # and the hash of its key; an http URL has none")
	case pinned:
		b, err := hex.DecodeString(pin)
		if err != nil || len(b) != len(out.Pin) {
			return out, fmt.Errorf("the hash of the key is not %d hexadecimal digits", 2*len(out.Pin))
		}
		out.Pin = [seal.HashSize]byte(b)
	}
	return out, nil
}

// String is the URL that ParseServer reads.
func (s Server) String() string {
	if !s.Replica {
		return s.URL
	}
	return s.URL + "#" + hex.EncodeToString(s.Pin[:])
}

const (
	// requestMax bounds one request, in whatever time the first byte comes.
	requestMax = 20 * time.Second
	idleMax    = time.Minute
	// streamsMost bounds the requests of one connection at a time, and unreadMost the
	// bytes of their bodies that wait to be read: the greatest body is 256 KiB.
	streamsMost = 100
	unreadMost  = 256 << 10
)

// Clients returns an HTTP client for each server. All show one certificate, with
// a new key.
func Clients(servers []Server) ([]*http.Client, error) {
	out, _, err := Guests(servers)
	return out, err
}

// Guests is Clients, and the hash of the certificate's key besides.
func Guests(servers []Server) (out []*http.Client, pin [seal.HashSize]byte, err error) {
	own, err := front.SelfSigned("", time.Now())
	if err == nil {
		pin, err = front.Pin(&own)
	}
	if err != nil {
		return nil, pin, err
	}
	for _, s := range servers {
		out = append(out, s.Client(own))
	}
	return out, pin, nil
}

// Client returns an HTTP client for a server. It goes there directly: a proxy
// named in the environment is for other programs, and may well be this one.
func (s Server) Client(own tls.Certificate) *http.Client {
	t := &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 1, IdleConnTimeout: idleMax}
	if s.Replica {
		door := front.Door{Pin: s.Pin}
		t.TLSClientConfig = door.TLS("h2")
		t.TLSClientConfig.MinVersion = tls.VersionTLS13
		t.TLSClientConfig.Certificates = []tls.Certificate{own}
		t.ForceAttemptHTTP2 = true
	}
	return &http.Client{Timeout: requestMax, Transport: t}
}
