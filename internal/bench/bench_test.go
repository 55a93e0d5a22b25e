package bench

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestNamesAreFound(t *testing.T) {
	for _, b := range All() {
		if got, err := Find(b.Name); err != nil || got.About == "" {
			t.Errorf("%s: %v", b.Name, err)
		}
	}
	if _, err := Find("nothing"); err == nil {
		t.Error("an unknown bench was found")
	}
}

// The relay rig must really forward: figures of cells that were dropped would
// look splendid.
func TestTheRigForwards(t *testing.T) {
	f, err := runHop(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if f[0].Value <= 0 || f[0].Ratio <= 0 || f[1].Ratio <= 0 {
		t.Errorf("figures make no sense: %+v", f)
	}
	var out bytes.Buffer
	Print(&out, f)
	if !strings.Contains(out.String(), f[0].Name) {
		t.Error("the table lacks a figure")
	}
}

// The simulated network must carry bulk, and not count cover or handshakes.
func TestTheSimulatorCarriesBulk(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a network of 170 nodes")
	}
	f, err := runSim(t.Context(), Options{Seconds: 1})
	if err != nil {
		t.Fatal(err)
	}
	if f[0].Value <= 0 || f[1].Ratio <= 0 || f[3].Value <= 0 {
		t.Errorf("figures make no sense: %+v", f)
	}
	// Per second of virtual time, so that no load of this machine counts: it is
	// a million with bulk, and some thousands without.
	if hops := f[0].Value / f[3].Value; hops < 500_000 {
		t.Errorf("%.0f datagram-hops in a second of the network's time: that is no bulk", hops)
	}
}

// An idle session takes no more than its budget (design: 4 KiB) at the node that
// is entry and exit of it.
func TestIdleSessionsAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("sets up 500 sessions")
	}
	f, err := runIdle(t.Context(), Options{Sessions: 500})
	if err != nil {
		t.Fatal(err)
	}
	const most = 4096
	if heap := f[1].Value; heap < 1000 || heap > most {
		t.Errorf("an idle session takes %.0f bytes of heap, %d allowed", heap, most)
	} else {
		t.Logf("%.0f bytes of heap a session", heap)
	}
}

func TestPercentile(t *testing.T) {
	d := []time.Duration{5, 1, 4, 2, 3}
	if percentile(d, 50) != 3 || percentile(d, 100) != 5 || percentile(nil, 50) != 0 {
		t.Error("percentiles are wrong")
	}
}
