//go:build linux

// Command slowwire is a slow wire between two network namespaces: two TUN
// devices, and every packet that enters one leaves the other after a delay.
// It stands in for netem where the kernel has none. Needs root.
//
//	slowwire -a tun0 -b tun1 -delay 50ms -ready FILE
//
// The devices belong to the process and go with it; either can be moved to
// another namespace while it runs (ip link set tun1 netns PID).
package main

import (
	"flag"
	"log"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	packetMax = 65536
	// inFlightMax is more than 100 MB/s fill in 100 ms with packets of 1308 bytes.
	inFlightMax = 16384
)

type packet struct {
	due   time.Time
	bytes []byte
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("slowwire: ")
	a := flag.String("a", "nyxa", "`name` of one device")
	b := flag.String("b", "nyxb", "`name` of the other")
	delay := flag.Duration("delay", 50*time.Millisecond, "one-way delay")
	ready := flag.String("ready", "", "make this `file` when the devices are there")
	flag.Parse()
	one, other := open(*a), open(*b)
	for _, way := range []struct{ from, to *os.File }{{one, other}, {other, one}} {
		queue := make(chan packet, inFlightMax)
		go receive(way.from, *delay, queue)
		go deliver(way.to, queue)
	}
	if *ready != "" {
		if err := os.WriteFile(*ready, nil, 0o644); err != nil {
			log.Fatal(err)
		}
	}
	select {}
}

func open(name string) *os.File {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		log.Fatalf("cannot open /dev/net/tun: %v; run as root", err)
	}
	r, err := unix.NewIfreq(name)
	if err != nil {
		log.Fatalf("device name %q: %v", name, err)
	}
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		log.Fatalf("cannot make the device %s: %v", name, err)
	}
	return os.NewFile(uintptr(fd), name)
}

// receive takes packets in; what does not fit the wire is dropped, as a
// router's queue would.
func receive(from *os.File, delay time.Duration, queue chan<- packet) {
	b := make([]byte, packetMax)
	for {
		n, err := from.Read(b)
		if err != nil {
			log.Fatal(err)
		}
		select {
		case queue <- packet{time.Now().Add(delay), append([]byte(nil), b[:n]...)}:
		default:
		}
	}
}

// deliver lets packets out in their order. A device that is not up yet refuses
// them, and they are lost.
func deliver(to *os.File, queue <-chan packet) {
	for p := range queue {
		time.Sleep(time.Until(p.due))
		to.Write(p.bytes)
	}
}
