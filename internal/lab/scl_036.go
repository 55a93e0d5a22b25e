package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
)

// stageTime is how long each stage of the switch lasts.
const stageTime = 20 * time.Second

// switchKEM is SCL-036: Stream nodes and clients go from the first KEM to the
// second in stages and back, nodes first and clients first, while sessions
// begin all the time and others go on.
func switchKEM(r *Run) error {
	f, err := r.NewFleet(20, sim.Link{Latency: 20 * time.Millisecond, JitterMean: 2 * time.Millisecond, Loss: 1000},
		sim.Cost{Datagram: nodeCost.Datagram, Job: 2 * nodeCost.Job, Workers: nodeCost.Workers},
		func(int) stream.Config { return stream.Config{} })
	if err != nil {
		return err
	}
	for _, s := range f.Stations {
		s.silent = !r.Protected
	}
	// The share that has the second KEM: of nodes, of clients.
	stages := [][2]float64{{0, 0}, {0.1, 0}, {0.5, 0.1}, {1, 0.5}, {1, 1}, {0.5, 1}, {0, 0.5}, {0, 0}, {0, 0.5}, {1, 1}}
	arrivals := f.Sim.Rand("arrivals")
	perSecond := float64(r.Scaled("handshakes")) / (float64(len(stages)) * stageTime.Seconds())

	old := make([]*keeper, 100) // sessions that go on through every stage
	for i := range old {
		old[i] = &keeper{o: f.Call(f.Stations[i%len(f.Stations)], stream.Config{})}
		old[i].ask(f, machine.Time(len(stages))*machine.Time(stageTime))
	}
	begun := map[seal.KEM]int{}
	tried := 0
	for i, share := range stages {
		f.Sim.RunUntil(machine.Time(i) * machine.Time(stageTime))
		for k, s := range f.Stations {
			s.SetKEM(kemOf(float64(k) < share[0]*float64(len(f.Stations))))
		}
		end := machine.Time(i+1) * machine.Time(stageTime)
		for at := f.Sim.Now().Add(arrivals.Exp(time.Duration(float64(time.Second) / perSecond))); at < end; at = at.Add(arrivals.Exp(time.Duration(float64(time.Second) / perSecond))) {
			to, kem := f.Stations[arrivals.IntN(len(f.Stations))], kemOf(arrivals.Chance(uint64(share[1]*1e6)))
			tried++
			f.Sim.At(at, func(machine.Time) {
				o, done := f.Call(to, stream.Config{KEM: kem}), false
				begun[kem]++
				o.Ask(make([]byte, 2000), func(machine.Time) { done = true })
				f.Sim.After(answerWithin, func(machine.Time) {
					r.Trial("pq_handshake_success", done)
					o.Do(func(now machine.Time, core *stream.Session) { core.Close(now, 0, "") })
				})
			})
		}
	}
	f.Sim.RunUntil(machine.Time(len(stages))*machine.Time(stageTime) + machine.Time(answerWithin+time.Second))
	var told, finished uint64
	for _, s := range f.Stations {
		told += s.Counts[trace.HandshakesRefused]
		finished += s.Counts[trace.PQHandshakeSuccess]
	}
	missed, asked := 0, 0
	for _, k := range old {
		missed, asked = missed+k.asked-k.answered, asked+k.asked
	}
	r.Tally("standing_request_missed", uint64(missed), uint64(asked))
	r.Note("%d handshakes, %d with the second KEM at first; nodes told %d clients to come again with another KEM, and finished %d", tried, begun[seal.KEM1024], told, finished)
	return nil
}

func kemOf(second bool) seal.KEM {
	if second {
		return seal.KEM1024
	}
	return seal.KEM768
}

// keeper is a session that asks once a second for as long as the run lasts.
type keeper struct {
	o               *Caller
	asked, answered int
}

func (k *keeper) ask(f *Fleet, end machine.Time) {
	k.asked++
	k.o.Ask(make([]byte, 2000), func(machine.Time) { k.answered++ })
	if f.Sim.Now().Add(time.Second) < end {
		f.Sim.After(time.Second, func(machine.Time) { k.ask(f, end) })
	}
}
