package wire

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// A stream to a target begins with a request by who opened it and a status by
// the exit; everything after is the application's (docs/protocol.md, section 10):
//
//	request  [network 1][host length 1][host][port 2]
//	status   [1]
//
// On a stream of network UDP no bytes follow: its datagrams travel as DATAGRAM
// frames, or MESSAGE frames if one does not hold them, with the stream's id as
// flow, each carrying [host length 1][host][port 2][data].
// Hosts are IP addresses as text or names, which the exit resolves; a service
// inside the network is a name under ServiceDomain.

// Network is what a stream asks for.
type Network uint8

// Networks.
const (
	TCP           Network = 1
	UDP           Network = 2
	TCPCompressed Network = 3 // TCP, and content in chunks if the answer is StatusCompressed
)

// Sealed reports whether a port is one of protocols that are encrypted from the
// first byte on: compression gains nothing there.
func Sealed(port uint16) bool {
	switch port {
	case 22, 443, 465, 563, 636, 853, 989, 990, 992, 993, 994, 995, 5061, 8443:
		return true
	}
	return false
}

// HostMax is the greatest length of a host in bytes (RFC 1035 allows 253).
const HostMax = 253

// Target is where a stream goes.
type Target struct {
	Network Network
	Host    string // IP address or name
	Port    uint16
}

// TargetSizeMax is the greatest size of an encoded target.
const TargetSizeMax = 1 + 1 + HostMax + 2

// AppendTarget appends the encoding of t, whose host has 1 to HostMax bytes.
func AppendTarget(b []byte, t Target) []byte {
	b = append(b, byte(t.Network))
	return appendHost(b, t.Host, t.Port)
}

func appendHost(b []byte, host string, port uint16) []byte {
	b = append(b, byte(len(host)))
	b = append(b, host...)
	return binary.BigEndian.AppendUint16(b, port)
}

// ParseTarget parses a request from the front of b. n is the bytes used; 0 and
// ok mean that more bytes are needed, 0 and not ok that it is malformed.
func ParseTarget(b []byte) (t Target, n int, ok bool) {
	if len(b) == 0 {
		return t, 0, true
	}
	t.Network = Network(b[0])
	if t.Network < TCP || t.Network > TCPCompressed {
		return t, 0, false
	}
	host, port, n, ok := parseHost(b[1:])
	if n == 0 || !ok {
		return t, 0, ok
	}
	t.Host, t.Port = host, port
	return t, n + 1, true
}

func parseHost(b []byte) (host string, port uint16, n int, ok bool) {
	if len(b) == 0 {
		return "", 0, 0, true
	}
	size := int(b[0])
	if size == 0 || size > HostMax {
		return "", 0, 0, false
	}
	if len(b) < 1+size+2 {
		return "", 0, 0, true
	}
	host = string(b[1 : 1+size])
	if !ValidHost(host) {
		return "", 0, 0, false
	}
	return host, binary.BigEndian.Uint16(b[1+size:]), 1 + size + 2, true
}

// ValidHost reports whether host is an IP address or a plausible name: letters,
// digits, hyphens, underscores and dots.
func ValidHost(host string) bool {
	if host == "" || len(host) > HostMax {
		return false
	}
	if strings.IndexByte(host, ':') >= 0 {
		a, err := netip.ParseAddr(host)
		return err == nil && a.Zone() == ""
	}
	for i := range len(host) {
		c := host[i]
		if c != '-' && c != '.' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// Status is the exit's answer to a request.
type Status uint8

// Statuses. 0 is not used, so that a zero byte is never an answer.
const (
	StatusOK          Status = 1
	StatusFailed      Status = 2 // any other reason
	StatusNotAllowed  Status = 3 // refused by the exit's policy
	StatusUnreachable Status = 4 // network or host unreachable
	StatusNoHost      Status = 5 // the name does not resolve
	StatusRefused     Status = 6 // connection refused by the target
	StatusTimeout     Status = 7 // the target does not answer
	StatusBusy        Status = 8 // the exit has no room for more
	StatusCompressed  Status = 9 // connected, and what follows is compressed, both ways
)

var statusNames = [...]string{"unknown status", "ok", "failed", "not allowed by the exit's policy",
	"network or host unreachable", "name does not resolve", "connection refused", "target does not answer", "exit is busy", "ok, compressed"}

// String says the status in words.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return statusNames[0]
}

// AppendDatagramTarget appends the header of a UDP message.
func AppendDatagramTarget(b []byte, host string, port uint16) []byte {
	return appendHost(b, host, port)
}

// ParseDatagramTarget parses the header of a UDP message and returns the data
// behind it, which aliases b.
func ParseDatagramTarget(b []byte) (host string, port uint16, data []byte, ok bool) {
	host, port, n, ok := parseHost(b)
	if !ok || n == 0 {
		return "", 0, nil, false
	}
	return host, port, b[n:], true
}
