//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// regions are several places and what lies between them: a device each, and a
// wire for each pair and direction.
type regions struct {
	names  []string
	homes  []map[netip.Addr]bool // the addresses of a place
	faults map[[2]int]Faults     // between two places, the lower first
}

// parseRegions reads lines of these forms; # begins a comment:
//
//	region NAME ADDRESS...
//	between NAME NAME FAULT...    in netem's words
//
// Every pair of regions needs its line.
func parseRegions(r io.Reader) (g regions, err error) {
	g.faults = make(map[[2]int]Faults)
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		switch {
		case words[0] == "region" && len(words) >= 3:
			err = g.addRegion(words[1], words[2:])
		case words[0] == "between" && len(words) >= 3:
			err = g.addPair(words[1], words[2], words[3:])
		default:
			err = errors.New("the line is neither of a region (NAME and ADDRESS) nor of what lies between two (NAME, NAME and FAULT)")
		}
		if err != nil {
			return g, fmt.Errorf("line %d: %w", n, err)
		}
	}
	for i := range g.names {
		for j := range i {
			if _, ok := g.faults[[2]int{j, i}]; !ok {
				return g, fmt.Errorf("nothing is said of what lies between %s and %s", g.names[j], g.names[i])
			}
		}
	}
	return g, lines.Err()
}

func (g *regions) addRegion(name string, addresses []string) error {
	home := make(map[netip.Addr]bool)
	for _, a := range addresses {
		addr, err := netip.ParseAddr(a)
		if err != nil || !addr.Is4() {
			return fmt.Errorf("%q is no IPv4 address", a)
		}
		home[addr] = true
	}
	g.names, g.homes = append(g.names, name), append(g.homes, home)
	return nil
}

func (g *regions) addPair(a, b string, words []string) error {
	i, j := g.index(a), g.index(b)
	if i < 0 || j < 0 || i == j {
		return fmt.Errorf("%s and %s are not two regions named before", a, b)
	}
	f, err := parseFaults(words)
	g.faults[[2]int{min(i, j), max(i, j)}] = f
	return err
}

func (g *regions) index(name string) int {
	for i, n := range g.names {
		if n == name {
			return i
		}
	}
	return -1
}

// to returns the region that a packet is for; -1 for none, and for what is not
// IPv4.
func (g *regions) to(p []byte) int {
	const destination, header = 16, 20
	if len(p) < header || p[0]>>4 != 4 || int(binary.BigEndian.Uint16(p[2:])) != len(p) {
		return -1
	}
	addr := netip.AddrFrom4([4]byte(p[destination:header]))
	for i, home := range g.homes {
		if home[addr] {
			return i
		}
	}
	return -1
}
