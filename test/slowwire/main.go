//go:build linux

// Command slowwire is a bad wire between two network namespaces: two TUN
// devices, and what enters one leaves the other, late, or not at all. It stands
// in for netem where the kernel has none, and takes netem's words. Needs root.
//
//	slowwire -a tun0 -b tun1 -ready FILE delay 50ms 20ms loss 5% rate 100mbit limit 700
//
//	slowwire -regions FILE -ready FILE
//
// The second form makes as many devices as the file names regions, each with
// the region's name, and brings every packet to the region that has its
// destination, late as the file says (see parseRegions).
//
// Both directions have the same faults. Each line of standard input replaces
// them all while packets are under way, and has a line on standard output that
// says what became of the packets since the last, first of those from a to b.
// The devices belong to the process and
// go with it; either can be moved to another namespace while it runs (ip link
// set tun1 netns PID).
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/nyxnet/nyx/internal/prng"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("slowwire: ")
	a := flag.String("a", "nyxa", "`name` of one device")
	b := flag.String("b", "nyxb", "`name` of the other")
	ready := flag.String("ready", "", "make this `file` when the devices are there")
	seed := flag.Uint64("seed", 1, "of what is drawn: losses and jitter")
	file := flag.String("regions", "", "join the regions of this `file`, instead of two devices")
	flag.Parse()
	if *file != "" {
		join(*file, *ready, prng.FromUint64(*seed))
	}
	f, err := parseFaults(flag.Args())
	if err != nil {
		log.Fatal(err)
	}
	var faults atomic.Pointer[Faults]
	faults.Store(&f)
	one, other := open(*a), open(*b)
	draws := prng.FromUint64(*seed)
	var wires []*wire
	for _, d := range []struct {
		name     string
		from, to *os.File
	}{{"there", one, other}, {"back", other, one}} {
		w := newWire(draws.Stream(d.name), func(p []byte) { d.to.Write(p) }) // a device that is down refuses it: lost
		wires = append(wires, w)
		go w.deliver()
		go receive(d.from, w, &faults)
	}
	tell(*ready)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		f, err := parseFaults(strings.Fields(lines.Text()))
		if err != nil {
			log.Fatal(err)
		}
		faults.Store(&f)
		there, back := wires[0].take(), wires[1].take()
		fmt.Printf("there %d packets, %d lost, %d too many; back %d, %d, %d\n",
			there.in, there.lost, there.full, back.in, back.lost, back.full)
	}
	select {}
}

// join carries packets between regions for as long as the process lives.
func join(file, ready string, draws prng.Source) {
	b, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	g, err := parseRegions(bytes.NewReader(b))
	if err != nil {
		log.Fatalf("%s: %v", file, err)
	}
	var devices []*os.File
	for _, name := range g.names {
		devices = append(devices, open(name))
	}
	for i, from := range devices {
		wires := make([]*wire, len(devices))
		for j, to := range devices {
			if i != j {
				wires[j] = newWire(draws.Stream(g.names[i]+" to "+g.names[j]), func(p []byte) { to.Write(p) })
				go wires[j].deliver()
			}
		}
		go func() {
			b := make([]byte, packetMax)
			for {
				n, err := from.Read(b)
				if err != nil {
					log.Fatal(err)
				}
				if j := g.to(b[:n]); j >= 0 && j != i {
					f := g.faults[[2]int{min(i, j), max(i, j)}]
					wires[j].put(b[:n], &f)
				}
			}
		}()
	}
	tell(ready)
	select {}
}

// tell makes the file that says that the devices are there.
func tell(ready string) {
	if ready == "" {
		return
	}
	if err := os.WriteFile(ready, nil, 0o644); err != nil {
		log.Fatal(err)
	}
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

const packetMax = 65536

func receive(from *os.File, w *wire, faults *atomic.Pointer[Faults]) {
	b := make([]byte, packetMax)
	for {
		n, err := from.Read(b)
		if err != nil {
			log.Fatal(err)
		}
		w.put(b[:n], faults.Load())
	}
}
