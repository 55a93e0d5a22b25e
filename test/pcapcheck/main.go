// Command pcapcheck judges a capture of the loopback interface: every UDP
// payload from or to the ports of Nyx has 1280 bytes, and none holds the
// planted marker, which the same capture holds in clear outside of Nyx. If it
// does not, the capture shows nothing, and that is a failure too.
//
//	pcapcheck -marker TEXT -ports 4001,4002 FILE
//
// With -spans it compares the timing within spans of the capture instead, idle
// against busy: the gaps between the datagrams of one port, each direction
// apart. SPANS has lines "LABEL FROM TO", in seconds since 1970.
//
//	pcapcheck -ports 4001 -spans SPANS FILE
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	datagramSize = 1280
	recordMax    = 1 << 20 // a captured packet is far smaller
	linkEthernet = 1
)

// tally is what a capture held.
type tally struct {
	datagrams int // UDP payloads of Nyx
	joined    int // of these, several datagrams that the kernel had not segmented yet
	wrong     []int
	marked    int // payloads of Nyx with the marker
	clear     int // other packets with the marker
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("pcapcheck: ")
	marker := flag.String("marker", "", "`text` that must not be in a datagram")
	list := flag.String("ports", "", "UDP `ports` of Nyx, with commas")
	spans := flag.String("spans", "", "compare the timing within the spans of this `file`")
	flag.Parse()
	var ports []int
	for p := range strings.SplitSeq(*list, ",") {
		n, err := strconv.Atoi(p)
		if err != nil {
			log.Fatalf("-ports: %q is not a port", p)
		}
		ports = append(ports, n)
	}
	if *spans != "" {
		if err := compareSpans(flag.Arg(0), *spans, ports); err != nil {
			log.Fatal(err)
		}
		return
	}
	f, err := os.Open(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	t, err := count(bufio.NewReaderSize(f, 1<<20), []byte(*marker), ports)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d UDP payloads of Nyx, %d of them several datagrams joined, %d not of %d bytes, %d with the marker; %d packets outside with it\n",
		t.datagrams, t.joined, len(t.wrong), datagramSize, t.marked, t.clear)
	if t.datagrams == 0 || t.clear == 0 {
		log.Fatal("the capture did not see the transfer")
	}
	if len(t.wrong) > 0 || t.marked > 0 {
		log.Fatalf("sizes %v", t.wrong[:min(10, len(t.wrong))])
	}
}

// count tallies a capture.
func count(r io.Reader, marker []byte, ports []int) (t tally, err error) {
	err = packets(r, func(_ time.Duration, packet []byte) { t.add(packet, marker, ports) })
	return t, err
}

// packets reads a pcap file (little-endian, microseconds or nanoseconds).
func packets(r io.Reader, each func(at time.Duration, packet []byte)) error {
	var head [24]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	magic := binary.LittleEndian.Uint32(head[:])
	if magic != 0xa1b2c3d4 && magic != 0xa1b23c4d || binary.LittleEndian.Uint32(head[20:]) != linkEthernet {
		return errors.New("not a pcap file of Ethernet packets")
	}
	unit := time.Microsecond
	if magic == 0xa1b23c4d {
		unit = time.Nanosecond
	}
	for {
		var record [16]byte
		if _, err := io.ReadFull(r, record[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		n := binary.LittleEndian.Uint32(record[8:])
		if n > recordMax || n != binary.LittleEndian.Uint32(record[12:]) {
			return errors.New("a packet is cut off; capture with -s 0")
		}
		packet := make([]byte, n)
		if _, err := io.ReadFull(r, packet); err != nil {
			return err
		}
		at := time.Duration(binary.LittleEndian.Uint32(record[:]))*time.Second + time.Duration(binary.LittleEndian.Uint32(record[4:]))*unit
		each(at, packet)
	}
}

func (t *tally) add(packet, marker []byte, ports []int) {
	has := bytes.Contains(packet, marker)
	payload, src, dst, ok := udpPayload(packet)
	if !ok || !slices.Contains(ports, src) && !slices.Contains(ports, dst) {
		if has {
			t.clear++
		}
		return
	}
	t.datagrams++
	if has {
		t.marked++
	}
	switch {
	case len(payload) == 0 || len(payload)%datagramSize != 0:
		t.wrong = append(t.wrong, len(payload))
	case len(payload) > datagramSize:
		t.joined++
	}
}

// udpPayload returns the payload and the ports of a UDP packet.
func udpPayload(b []byte) (payload []byte, src, dst int, ok bool) {
	if len(b) < 14 {
		return nil, 0, 0, false
	}
	kind, b := binary.BigEndian.Uint16(b[12:]), b[14:]
	const udp = 17
	switch {
	case kind == 0x0800 && len(b) >= 20 && b[9] == udp:
		b = b[min(len(b), int(b[0]&15)*4):]
	case kind == 0x86dd && len(b) >= 40 && b[6] == udp:
		b = b[40:]
	default:
		return nil, 0, 0, false
	}
	if len(b) < 8 {
		return nil, 0, 0, false
	}
	return b[8:], int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:])), true
}
