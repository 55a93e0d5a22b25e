// Package front is what the servers of carriers show to the world: a
// certificate, an ordinary web site, and behind a path that only the directory
// tells, the carrier (docs/protocol.md, section 15).
//
// TLS is transport and appearance here. Nothing rests on its secrecy: a link's
// handshake inside authenticates and encrypts on its own. The pin keeps whoever
// stands between from looking at the path, which shows what the server is.
package front

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// ErrPin means that a server has another key than the directory says.
var ErrPin = errors.New("the server's key is not the one that the directory names")

var errVersion = errors.New("the server has no TLS 1.3")

// Path is the path of a node's carriers. Who does not know the node's id cannot
// guess it, and gets the site's answer to any other wrong path.
func Path(node wire.NodeID) string {
	h := seal.Hash("carrier path", node[:])
	return "/" + hex.EncodeToString(h[:16])
}

// Face is what a server shows.
type Face struct {
	Certificate tls.Certificate
	// Name is the server name that the node advertises; "" for none.
	Name string
	// Path leads to the carrier.
	Path string
	// Site answers everything else; nil is Welcome.
	Site http.Handler
	// Unbounded takes handshakes of one address as fast as they come; it is
	// the control of a measurement, and no server's setting.
	Unbounded bool
	// Handshakes counts those of all servers with this face.
	Handshakes Handshakes
}

// certificateLife is that of a certificate which the node issues to itself:
// one of 90 days, as common authorities issue, and long enough for a process.
const certificateLife = 90 * 24 * time.Hour

// SelfSigned makes a certificate for a server name, "" for none, with a new
// key.
func SelfSigned(name string, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return issue(key, name, now)
}

// KeySize is the size of a certificate's secret key, in bytes.
const KeySize = 32

// Issue makes a certificate for a secret key that is kept: of each of its
// certificates the pin is the same. Nearly all values are keys.
func Issue(secret *[KeySize]byte, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret[:])
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return issue(key, "", now)
}

// lastingLife is that of a certificate by which members of one cluster know each other:
// it stands in a file at all of them, which people replace.
const lastingLife = 10 * 365 * 24 * time.Hour

// Lasting makes a certificate of a server at an address, which is a client of others like
// it, for a secret key, and returns both in PEM.
func Lasting(secret *[KeySize]byte, name string, host netip.Addr, now time.Time) (certificate, key []byte, err error) {
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret[:])
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	made, err := sign(private, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{host.AsSlice()}, NotAfter: now.Add(lastingLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, now)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func issue(key *ecdsa.PrivateKey, name string, now time.Time) (tls.Certificate, error) {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: now.Add(certificateLife), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if name != "" {
		c.DNSNames = []string{name}
	}
	return sign(key, c, now)
}

// sign completes a certificate and has its own key sign it.
func sign(key *ecdsa.PrivateKey, c *x509.Certificate, now time.Time) (tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	c.SerialNumber, c.NotBefore, c.KeyUsage = serial, now.Add(-time.Hour), x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Load reads a certificate and its key from PEM files.
func Load(certificate, key string) (tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return c, fmt.Errorf("cannot load the certificate: %w", err)
	}
	return c, nil
}

// Pin is what the directory says of a certificate: the hash of its public key,
// so that a certificate renewed for the same key needs no new descriptor.
func Pin(c *tls.Certificate) (pin [seal.HashSize]byte, err error) {
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return pin, fmt.Errorf("the carrier's certificate: %w", err)
	}
	return pinOf(leaf), nil
}

func pinOf(c *x509.Certificate) [seal.HashSize]byte {
	return seal.Hash("carrier key", c.RawSubjectPublicKeyInfo)
}

// Carrier is what the descriptor says of a server with this face.
func (f *Face) Carrier(kind directory.CarrierKind, port uint16) (directory.Carrier, error) {
	pin, err := Pin(&f.Certificate)
	return directory.Carrier{Kind: kind, Port: port, Name: f.Name, Pin: pin}, err
}

// TLS is the server's configuration for the given protocols. Session tickets
// are on: crypto/tls makes their keys and replaces them daily.
func (f *Face) TLS(protocols ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{f.Certificate}, NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

// Handler sends requests that carrier takes to it, all others to the site.
func (f *Face) Handler(takes func(*http.Request) bool, carrier http.HandlerFunc) http.Handler {
	site := f.Site
	if site == nil {
		site = http.HandlerFunc(Welcome)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == f.Path && takes(r) {
			carrier(w, r)
			return
		}
		site.ServeHTTP(w, r)
	})
}

// Welcome is the page that the most common web server shows before it is given
// a site: thousands of machines have it, so that it marks none.
func Welcome(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write([]byte("<html><body><h1>It works!</h1></body></html>\n"))
}

// Door is a server as a client knows it.
type Door struct {
	Kind directory.CarrierKind
	Addr netip.AddrPort
	Name string // to ask for; "" for none
	Path string
	Pin  [seal.HashSize]byte
	// tickets are this server's: one cache for several would show by which
	// ticket is offered where that the visits are one client's.
	tickets tls.ClientSessionCache
}

// ticketsMax is how many session tickets a client keeps of one server: it
// comes back with the latest.
const ticketsMax = 1

// Doors are the servers of a node that the directory lists.
func Doors(n *directory.Node) []Door {
	doors := make([]Door, 0, len(n.Carriers))
	for _, c := range n.Carriers {
		doors = append(doors, Door{
			Kind: c.Kind, Addr: netip.AddrPortFrom(n.Addrs[0].Addr(), c.Port), Name: c.Name, Path: Path(n.ID), Pin: c.Pin,
			tickets: tls.NewLRUClientSessionCache(ticketsMax),
		})
	}
	return doors
}

// Forget drops the session ticket, so that the next handshake is a whole one.
func (d *Door) Forget() { d.tickets = tls.NewLRUClientSessionCache(ticketsMax) }

// Same reports whether two doors are one and the same.
func (d *Door) Same(e *Door) bool {
	return d.Kind == e.Kind && d.Addr == e.Addr && d.Name == e.Name && d.Path == e.Path && d.Pin == e.Pin
}

// Host is how a request names the server.
func (d *Door) Host() string {
	if d.Name != "" {
		return d.Name
	}
	return d.Addr.String()
}

// TLS is the client's configuration for the given protocols. Who issued the
// certificate is of no matter, its key is: also where a ticket resumes an
// earlier session. TLS 1.2 is offered, as every Go program does, but not taken.
func (d *Door) TLS(protocols ...string) *tls.Config {
	return &tls.Config{
		ServerName: d.Name, NextProtos: protocols, MinVersion: tls.VersionTLS12, ClientSessionCache: d.tickets,
		InsecureSkipVerify: true, // replaced by the pin
		VerifyConnection: func(s tls.ConnectionState) error {
			if s.Version != tls.VersionTLS13 {
				return errVersion
			}
			if len(s.PeerCertificates) == 0 || pinOf(s.PeerCertificates[0]) != d.Pin {
				return ErrPin
			}
			return nil
		},
	}
}

// PeerPin is the hash of the key of the certificate that the other side of a
// connection has shown; not ok without one.
func PeerPin(s *tls.ConnectionState) (pin [seal.HashSize]byte, ok bool) {
	if s == nil || len(s.PeerCertificates) == 0 {
		return pin, false
	}
	return pinOf(s.PeerCertificates[0]), true
}
