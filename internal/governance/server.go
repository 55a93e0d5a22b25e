package governance

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// requestMax is how long a client may take to send a request.
	requestMax = 10 * time.Second
	idleMax    = time.Minute
	headersMax = 16 << 10
	// connectionsMost bounds connections, each of which costs some 50 kB.
	connectionsMost = 128
)

// NewServer returns a server of the API, over TLS 1.3, on which no client can hold a
// connection for long. Client certificates are asked for; one that a CA of people has
// issued says who its holder is, any other may be what a token is bound to. people may
// be nil.
func NewServer(a *API, certificate tls.Certificate, people *x509.CertPool) *http.Server {
	s := newServer(a)
	s.TLSConfig = &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequestClientCert, ClientCAs: people,
	}
	s.Handler = verified(a, people)
	return s
}

// ReadPeople reads a PEM file of who issues certificates of people.
func ReadPeople(path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("governance: who issues certificates of people: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("governance: %s holds no certificate in PEM", path)
	}
	return pool, nil
}

func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: requestMax, ReadTimeout: requestMax, WriteTimeout: 2 * writeMax, IdleTimeout: idleMax,
		MaxHeaderBytes: headersMax, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), // it would name clients
	}
}

// verified looks for the chain of a client's certificate, which the handshake leaves
// open: a certificate that leads nowhere is still one that a token may be bound to.
func verified(h http.Handler, people *x509.CertPool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if people != nil && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			own, more := r.TLS.PeerCertificates[0], x509.NewCertPool()
			for _, c := range r.TLS.PeerCertificates[1:] {
				more.AddCert(c)
			}
			chains, err := own.Verify(x509.VerifyOptions{Roots: people, Intermediates: more, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			if err == nil {
				state := *r.TLS
				state.VerifiedChains = chains
				r = r.WithContext(r.Context())
				r.TLS = &state
			}
		}
		h.ServeHTTP(w, r)
	})
}

// Limit bounds the connections of a listener: who comes when it is full waits.
func Limit(ln net.Listener) net.Listener {
	return netutil.LimitListener(ln, connectionsMost)
}
