package proxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net/netip"
	"strconv"
)

// SOCKS5: RFC 1928, with user name and password by RFC 1929.
//
//	greeting   [5][n][methods n]                    answer [5][method]
//	credentials [1][len][user][len][password]       answer [1][0]
//	request    [5][command][0][type][address][port] answer [5][reply][0][type][address][port]
//
// An address is 4 bytes (type 1), a length and a name (type 3), or 16 bytes
// (type 4).
const (
	socksVersion     = 5
	credentialsForm  = 1
	methodNone       = 0x00
	methodPassword   = 0x02
	methodNotOffered = 0xff

	commandConnect   = 1
	commandBind      = 2
	commandAssociate = 3

	addressIPv4 = 1
	addressName = 3
	addressIPv6 = 4
)

// socksRequest is a parsed request.
type socksRequest struct {
	command   byte
	host      string
	port      uint16
	byAddress bool // host is an IP address
}

// serveSOCKS serves a client that speaks SOCKS5.
func (c *client) serveSOCKS(ctx context.Context) {
	isolation, err := readGreeting(c.in, c.conn)
	if err != nil {
		c.countRead(err)
		return
	}
	req, err := readSOCKSRequest(c.in)
	if err == nil {
		switch {
		case req.command == commandAssociate:
			c.associate(ctx, isolation, req)
			return
		case req.command != commandConnect:
			err = ErrNotSupported
		case req.port == 0 || !validHost(req.host):
			err = errBadHost
		}
	}
	if err != nil {
		c.countRead(err)
		if !isTimeout(err) && err != io.EOF && err != io.ErrUnexpectedEOF {
			c.refuse(appendReply(nil, err, netip.AddrPort{}))
		}
		return
	}
	if req.byAddress {
		c.counts.ByAddress.Add(1)
	}
	t := &target{isolation: isolation, host: req.host, port: req.port}
	c.carry(ctx, t, func(err error) []byte { return appendReply(nil, err, netip.AddrPort{}) })
}

// readGreeting agrees on a method and returns the isolation key. Credentials
// are preferred when they are offered: who sends them wants isolation.
func readGreeting(in *bufio.Reader, out io.Writer) (isolation string, err error) {
	var b [255]byte
	if _, err := io.ReadFull(in, b[:2]); err != nil {
		return "", err
	}
	if b[0] != socksVersion {
		return "", errMalformed
	}
	methods := b[:b[1]]
	if _, err := io.ReadFull(in, methods); err != nil {
		return "", err
	}
	method := byte(methodNotOffered)
	for _, m := range methods {
		if m == methodPassword || m == methodNone && method != methodPassword {
			method = m
		}
	}
	if _, err := out.Write([]byte{socksVersion, method}); err != nil {
		return "", err
	}
	switch method {
	case methodNone:
		return "", nil
	case methodPassword:
		return readCredentials(in, out)
	}
	return "", errMalformed
}

func readCredentials(in *bufio.Reader, out io.Writer) (isolation string, err error) {
	version, err := in.ReadByte()
	if err != nil {
		return "", err
	}
	if version != credentialsForm {
		return "", errMalformed
	}
	user, err := readShort(in)
	if err != nil {
		return "", err
	}
	password, err := readShort(in)
	if err != nil {
		return "", err
	}
	_, err = out.Write([]byte{credentialsForm, 0})
	return isolationKey(user, password), err
}

// readShort reads a length byte and as many bytes.
func readShort(in *bufio.Reader) (string, error) {
	n, err := in.ReadByte()
	if err != nil {
		return "", err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(in, b)
	return string(b), err
}

// isolationKey is one string per pair of user name and password: the length in
// front keeps ("a", "b:c") from ("a:b", "c"). It is never "".
func isolationKey(user, password string) string {
	return strconv.Itoa(len(user)) + ":" + user + ":" + password
}

func readSOCKSRequest(in *bufio.Reader) (socksRequest, error) {
	var b [4]byte
	if _, err := io.ReadFull(in, b[:]); err != nil {
		return socksRequest{}, err
	}
	if b[0] != socksVersion || b[2] != 0 {
		return socksRequest{}, errMalformed
	}
	r := socksRequest{command: b[1]}
	var raw [258]byte // the longest address with its port
	n := 0
	switch b[3] {
	case addressIPv4:
		n = 4
	case addressIPv6:
		n = 16
	case addressName:
		length, err := in.ReadByte()
		if err != nil {
			return r, err
		}
		n = int(length)
	default:
		return r, errAddressType
	}
	if _, err := io.ReadFull(in, raw[:n+2]); err != nil {
		return r, err
	}
	r.port = binary.BigEndian.Uint16(raw[n:])
	if b[3] == addressName {
		r.host = string(raw[:n])
		_, err := netip.ParseAddr(r.host)
		r.byAddress = err == nil
		return r, nil
	}
	addr, _ := netip.AddrFromSlice(raw[:n])
	r.host, r.byAddress = addr.Unmap().String(), true
	return r, nil
}

// appendReply appends the answer to a request. The bound address is that of
// the UDP socket of an association, and zero for a stream: the address that
// the exit used is nobody's business.
func appendReply(b []byte, err error, bound netip.AddrPort) []byte {
	b = append(b, socksVersion, answerTo(err).socks, 0)
	return appendAddress(b, bound.Addr(), bound.Port())
}

// appendAddress appends type, address and port; an invalid address is 0.0.0.0.
func appendAddress(b []byte, addr netip.Addr, port uint16) []byte {
	addr = addr.Unmap()
	switch {
	case addr.Is6():
		a := addr.As16()
		b = append(append(b, addressIPv6), a[:]...)
	case addr.Is4():
		a := addr.As4()
		b = append(append(b, addressIPv4), a[:]...)
	default:
		b = append(b, addressIPv4, 0, 0, 0, 0)
	}
	return binary.BigEndian.AppendUint16(b, port)
}

// validHost reports whether a host is fit to be passed on: what a name, or an
// address without brackets, is written with. It does not resolve it; what a
// name means is the exit's matter.
func validHost(host string) bool {
	if len(host) == 0 || len(host) > 255 {
		return false
	}
	for i := range len(host) {
		switch b := host[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case b == '-', b == '.', b == '_':
		case b == ':':
			// Only in an IPv6 address, which a zone would tie to this machine.
			addr, err := netip.ParseAddr(host)
			return err == nil && addr.Zone() == ""
		default:
			return false
		}
	}
	return true
}
