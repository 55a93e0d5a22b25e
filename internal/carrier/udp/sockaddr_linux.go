package udp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// nameSize is struct sockaddr_in6, the larger of the two forms:
//
//	IPv4: [family 2][port 2, big-endian][address 4][zero 8]
//	IPv6: [family 2][port 2, big-endian][flow 4][address 16][scope 4]
const nameSize = unix.SizeofSockaddrInet6

// zones translates between the kernel's scope numbers and the zones of
// netip.Addr. It remembers the last of each: a host has its link-local peers
// on one network.
type zones struct {
	scope     uint32
	name      string
	sendName  string
	sendScope uint32
}

// putName writes the socket address of a for a socket of the given family and
// returns its length, or 0 if such a socket cannot send there.
func (z *zones) putName(b []byte, a netip.AddrPort, family int) int {
	ip := a.Addr()
	binary.BigEndian.PutUint16(b[2:], a.Port())
	if family == unix.AF_INET {
		if ip = ip.Unmap(); !ip.Is4() {
			return 0
		}
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		v4 := ip.As4()
		copy(b[4:8], v4[:])
		clear(b[8:16])
		return unix.SizeofSockaddrInet4
	}
	if !ip.IsValid() {
		return 0
	}
	binary.NativeEndian.PutUint16(b, unix.AF_INET6)
	clear(b[4:8])
	v6 := ip.As16()
	copy(b[8:24], v6[:])
	binary.NativeEndian.PutUint32(b[24:], z.scopeOf(ip))
	return unix.SizeofSockaddrInet6
}

// getName reads a socket address that the kernel wrote.
func (z *zones) getName(b []byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(b[2:])
	if binary.NativeEndian.Uint16(b) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
	}
	ip := netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	if scope := binary.NativeEndian.Uint32(b[24:]); scope != 0 {
		if scope != z.scope {
			z.scope, z.name = scope, strconv.FormatUint(uint64(scope), 10)
		}
		ip = ip.WithZone(z.name)
	}
	return netip.AddrPortFrom(ip, port)
}

func (z *zones) scopeOf(ip netip.Addr) uint32 {
	name := ip.Zone()
	if name == "" {
		return 0
	}
	if name != z.sendName {
		z.sendName, z.sendScope = name, 0
		if n, err := strconv.ParseUint(name, 10, 32); err == nil {
			z.sendScope = uint32(n)
		} else if ifc, err := net.InterfaceByName(name); err == nil {
			z.sendScope = uint32(ifc.Index)
		}
	}
	return z.sendScope
}
