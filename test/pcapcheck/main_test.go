package main

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// ipv4 builds an Ethernet packet of a protocol, between two ports.
func ipv4(protocol byte, src, dst uint16, payload string) []byte {
	b := make([]byte, 14, 42)
	b[12], b[13] = 0x08, 0x00
	ip := make([]byte, 20)
	ip[0], ip[9] = 0x45, protocol
	b = append(b, ip...)
	b = binary.BigEndian.AppendUint16(b, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	return append(append(b, 0, 0, 0, 0), payload...)
}

func capture(packets ...[]byte) []byte {
	b := make([]byte, 24)
	binary.LittleEndian.PutUint32(b, 0xa1b2c3d4)
	binary.LittleEndian.PutUint32(b[20:], linkEthernet)
	for _, p := range packets {
		b = append(b, make([]byte, 8)...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// Each packet is counted as what it is: a capture with a wrong size, or with
// the marker in a datagram of Nyx, is found out.
func TestCount(t *testing.T) {
	full := strings.Repeat("x", datagramSize)
	b := capture(
		ipv4(17, 9, 4001, full),
		ipv4(17, 4001, 9, full+full),
		ipv4(17, 4001, 9, full[1:]),
		ipv4(17, 4001, 9, ""),
		ipv4(17, 4002, 9, "marker"+full[6:]),
		ipv4(17, 9, 9, "marker, of someone else"),
		ipv4(6, 4001, 9, "marker, over TCP"),
	)
	got, err := count(bytes.NewReader(b), []byte("marker"), []int{4001, 4002})
	if err != nil {
		t.Fatal(err)
	}
	if got.datagrams != 5 || got.joined != 1 || len(got.wrong) != 2 || got.marked != 1 || got.clear != 2 {
		t.Errorf("counted %+v", got)
	}
	for n := range b {
		if n != 24 && n < len(b) {
			count(bytes.NewReader(b[:n]), []byte("marker"), []int{4001}) // must not panic
		}
	}
	if _, err := count(bytes.NewReader(b[:len(b)-1]), nil, nil); err == nil {
		t.Error("a cut capture passes")
	}
}
