package lab

import (
	"bytes"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

func bareRun(seed uint64) *Run {
	return &Run{Scenario: &Scenario{ID: "SCL-001"}, Seed: seed, Scale: 1, Protected: true, series: map[string]*series{}}
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
		w.Sim.RunFor(20 * time.Second)
		if answers != 6 {
			t.Errorf("%v: %d answers of 6", level, answers)
		}
		t.Logf("%v: %v, %+v", level, w.Sim.Now().Sub(start), w.Sim.Stats())
	}
}
