package lab

import (
	"bytes"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
	"github.com/nyxnet/nyx/scenarios"
)

func bareRun(seed uint64) *Run {
	return NewRun(&Scenario{ID: "SCL-001"}, seed)
}

func TestRequestsCrossTheNetworkAtEveryLevel(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard, wire.High, wire.Extreme} {
		w, err := bareRun(1).NewNetwork(Plan{Streams: 4, Mixes: 9, Level: level, Regions: []string{"eu", "us", "ap"},
			Hop: sim.Link{Latency: 5 * time.Millisecond}})
		if err != nil {
			t.Fatal(err)
		}
		w.AddUsers(2)
		if err := w.WaitReady(20 * time.Second); err != nil {
			t.Fatalf("%v: %v", level, err)
		}
		answers := 0
		start := w.Sim.Now()
		for i := range 6 {
			body := bytes.Repeat([]byte{byte(i)}, 100+i*3000)
			w.Users[i%2].Ask("a", body, func(now machine.Time, answer []byte, err error) {
				if err != nil || !bytes.Equal(answer, body) {
					t.Errorf("%v: answer of %d bytes, %v", level, len(answer), err)
				}
				answers++
			})
		}
		w.Sim.RunFor(8 * time.Second)
		if answers != 6 {
			t.Errorf("%v: %d answers of 6", level, answers)
		}
		t.Logf("%v: %v, %+v", level, w.Sim.Now().Sub(start), w.Sim.Stats())
	}
}

// The real cores, composed, repeat from their seed: the trace hash covers every
// datagram of every link. The keys differ between two runs (encapsulation takes
// the operating system's randomness), and nothing that a wire shows may follow
// from them.
func TestNetworkRepeatsFromItsSeed(t *testing.T) {
	hash := func(t *testing.T, level wire.Level, seed uint64) string {
		w, err := bareRun(seed).NewNetwork(Plan{Streams: 6, Mixes: 12, Level: level, Regions: []string{"eu", "us", "ap"},
			Hop: sim.Link{Latency: 5 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: 10_000}})
		if err != nil {
			t.Fatal(err)
		}
		w.AddUsers(3)
		w.Poisson("requests", 20, machine.Time(3*time.Second), func(_ machine.Time, i int) {
			w.Users[i%3].Ask("a", make([]byte, i*50), func(machine.Time, []byte, error) {})
		})
		w.Sim.At(machine.Time(1500*time.Millisecond), func(machine.Time) { w.Sim.Crash(w.Relays[0].Node) })
		w.Sim.At(machine.Time(2500*time.Millisecond), func(machine.Time) { w.Sim.Restart(w.Relays[0].Node) })
		w.Sim.RunUntil(machine.Time(4 * time.Second))
		return w.Sim.TraceHash()
	}
	for _, level := range []wire.Level{wire.Fast, wire.Standard, wire.High, wire.Extreme} {
		t.Run(level.String(), func(t *testing.T) {
			first := hash(t, level, 1)
			if again := hash(t, level, 1); first != again {
				t.Errorf("one seed gave %s and %s", first, again)
			}
			if first == hash(t, level, 2) {
				t.Error("two seeds gave one trace")
			}
		})
	}
}

// Every scenario is carried out, at a small scale and without a verdict; its
// metric moves.
func TestScenariosAreCarriedOut(t *testing.T) {
	if testing.Short() {
		t.Skip("builds networks of 150 nodes")
	}
	c, err := Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	funcs := Funcs()
	for id, scale := range map[string]float64{"DF-003": 0.01, "DF-012": 0.01, "DF-015": 0.004, "DF-045": 0.02,
		"DF-050": 0.005, "SCL-001": 0.02, "SCL-006": 0.001, "SCL-012": 0.005, "SCL-035": 0.01,
		"DF-011": 0.01, "DF-022": 0.002, "DF-032": 0.003, "DF-047": 0.05, "DF-048": 0.01, "SCL-036": 0.003, "SCL-037": 0.005, "SCL-039": 0.003,
		"DF-019": 0.05, "DF-024": 0.01, "SCL-011": 0.01, "SCL-005": 0.05, "SCL-032": 0.01} {
		t.Run(id, func(t *testing.T) {
			s, ok := c.Find(id)
			if !ok || funcs[id] == nil {
				t.Fatal("it is missing")
			}
			for _, protected := range []bool{true, false} {
				x := (&Lab{}).execute(s, funcs[id], Options{Seed: 1, Scale: scale}, protected)
				if x.Error != "" {
					t.Errorf("protected %v: %s", protected, x.Error)
				}
				t.Logf("protected %v: %.1f s, %d datagrams", protected, x.WallSeconds, x.Datagrams)
			}
		})
	}
}
