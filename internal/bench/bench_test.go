package bench

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
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

// TestMain lets this program be the Stream node of the measurement as well.
func TestMain(m *testing.M) {
	if os.Getenv(idleNodeEnv) != "" {
		if err := serveIdleNode(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// An idle session takes no more than its budget (design: 4 KiB), heap and
// resident, at the node that is entry and exit of it. What is resident has what the
// collector happens not to have given back on top, so that the least of three counts.
func TestIdleSessionsAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("sets up 3,000 sessions")
	}
	const most = 4096
	var least []Figure
	for range 3 {
		f, err := runIdle(t.Context(), Options{Sessions: 3000})
		if err != nil {
			t.Fatal(err)
		}
		if least == nil || f[0].Value < least[0].Value {
			least = f[:2]
		}
		if least[0].Value <= most {
			break
		}
	}
	for _, f := range least {
		if f.Value > most || f.Value < 1000 && runtime.GOOS == "linux" {
			t.Errorf("%s: %.0f bytes, %d allowed", f.Name, f.Value, most)
		} else {
			t.Logf("%s: %.0f bytes", f.Name, f.Value)
		}
	}
}

func TestPercentile(t *testing.T) {
	d := []time.Duration{5, 1, 4, 2, 3}
	if percentile(d, 50) != 3 || percentile(d, 100) != 5 || percentile(nil, 50) != 0 {
		t.Error("percentiles are wrong")
	}
}
