//go:build linux

package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

const threeRegions = `
region east 10.1.0.1 10.2.0.1   # two machines
region west 10.3.0.1
region home 10.9.0.1
between east west delay 45ms
between home east delay 10ms 2ms
between west home delay 60ms loss 1%
`

func TestRegions(t *testing.T) {
	g, err := parseRegions(strings.NewReader(threeRegions))
	if err != nil {
		t.Fatal(err)
	}
	packet := func(to string) []byte {
		p := make([]byte, 28)
		p[0], p[3] = 0x45, 28
		a := netip.MustParseAddr(to).As4()
		copy(p[16:], a[:])
		return p
	}
	for to, want := range map[string]int{"10.1.0.1": 0, "10.2.0.1": 0, "10.3.0.1": 1, "10.9.0.1": 2, "10.4.0.1": -1} {
		if got := g.to(packet(to)); got != want {
			t.Errorf("a packet to %s goes to region %d, want %d", to, got, want)
		}
	}
	six := make([]byte, 60)
	six[0] = 0x60
	for _, p := range [][]byte{nil, make([]byte, 20), packet("10.1.0.1")[:27], six} {
		if got := g.to(p); got != -1 {
			t.Errorf("%x goes to region %d", p, got)
		}
	}
	if f := g.faults[[2]int{0, 2}]; f.Delay != 10*time.Millisecond || f.Jitter != 2*time.Millisecond {
		t.Errorf("between home and east: %+v", f)
	}
}

func TestRegionsNeedEveryPair(t *testing.T) {
	for text, want := range map[string]string{
		"region a 10.1.0.1\nregion b 10.2.0.1":                         "nothing is said",
		"region a here":                                                "line 1",
		"region a 10.1.0.1\nbetween a b delay 1ms":                     "line 2",
		"region a 10.1.0.1\nregion b 10.2.0.1\nbetween a b delay long": "line 3",
		"mountain a": "line 1",
	} {
		if _, err := parseRegions(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
