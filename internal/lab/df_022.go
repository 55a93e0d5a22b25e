package lab

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
)

// Times of DF-022. Sessions that begin within startTime, as after the restart
// of a Stream node, have keys of one age. Around the time when these end, each
// session asks once in askEvery.
const (
	startTime = 10 * time.Second
	rekeyAt   = 10 * time.Minute // when keys end at the latest
	calmEvery = 2 * time.Minute
	askEvery  = 20 * time.Second
)

// rekeyWaves is DF-022: tens of thousands of sessions of one Stream node whose
// keys end together, and what requests that pass meanwhile wait for it.
func rekeyWaves(r *Run) error {
	var rolls [11]int // in each tenth of the last minute, and after it
	cfg := stream.Config{Sink: func(e trace.Event) {
		if e.Kind == trace.Rekeyed {
			since := time.Duration(e.At) - (rekeyAt - rekeyAt/10)
			rolls[min(max(since/(rekeyAt/100), 0), 10)]++
		}
	}}
	if !r.Protected {
		cfg.RekeyInterval = time.Hour // keys come by handshake instead
	}
	// One node bears all sessions. A run of fewer has a slower one.
	slower := func(d time.Duration) time.Duration { return time.Duration(float64(d) / r.Scale) }
	f, err := r.NewFleet(1, sim.Link{Latency: 20 * time.Millisecond},
		sim.Cost{Datagram: slower(nodeCost.Datagram), Job: slower(2 * nodeCost.Job), Workers: nodeCost.Workers},
		func(int) stream.Config { return cfg })
	if err != nil {
		return err
	}
	sessions := r.Scaled("sessions")
	callers := make([]*rekeyer, sessions)
	rng := f.Sim.Rand("requests")
	for i := range callers {
		k := &rekeyer{run: r, fleet: f, cfg: cfg}
		callers[i] = k
		f.Sim.At(machine.Time(startTime)/machine.Time(sessions)*machine.Time(i), func(machine.Time) {
			k.o = f.Call(f.Stations[0], cfg)
			k.ask()
		})
		first := machine.Time(startTime) + machine.Time(rng.Uint64N(uint64(askEvery)))
		for at := first.Add(calmEvery); at < machine.Time(rekeyAt-rekeyAt/10); at = at.Add(calmEvery) {
			f.Sim.At(at, func(machine.Time) { k.ask() })
		}
		for at := first.Add(rekeyAt - rekeyAt/10 - 3*askEvery); at < machine.Time(rekeyAt+startTime+askEvery); at = at.Add(askEvery) {
			f.Sim.At(at, func(machine.Time) { k.ask() })
		}
		if !r.Protected {
			f.Sim.At(machine.Time(rekeyAt), func(machine.Time) {
				k.o, k.renewed = f.Call(f.Stations[0], cfg), true
			})
		}
	}
	f.Sim.RunUntil(machine.Time(rekeyAt + startTime + 2*askEvery + answerWithin))
	asked, missed := 0, 0
	for _, k := range callers {
		asked, missed = asked+k.asked, missed+k.asked-k.answered
	}
	r.Tally("request_missed", uint64(missed), uint64(asked))
	r.Note("%d sessions of one Stream node; keys replaced in each tenth of the last minute, and after it: %v", sessions, rolls)
	return nil
}

// rekeyer is one session that asks.
type rekeyer struct {
	run             *Run
	fleet           *Fleet
	cfg             stream.Config
	o               *Caller
	renewed         bool // the next request is the first with new keys (control)
	asked, answered int
	usual           []time.Duration // round trips without a change of keys
}

// ask sends a request. If a key of either side is replaced while it passes,
// what it takes beyond the usual is what the change has added.
func (k *rekeyer) ask() {
	k.asked++
	renewed, before, sent := k.renewed, k.o.Core.Stats().Rekeys, k.fleet.Sim.Now()
	k.renewed = false
	o := k.o
	o.Ask(make([]byte, 2000), func(now machine.Time) {
		k.answered++
		took := now.Sub(sent)
		if !renewed && o.Core.Stats().Rekeys == before {
			k.usual = append(k.usual, took)
			return
		}
		slices.Sort(k.usual)
		k.run.ObserveTime("stream_rekey_latency", max(0, took-k.usual[len(k.usual)/2]))
	})
}
