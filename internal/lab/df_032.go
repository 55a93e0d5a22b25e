package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/wire"
)

// release is a version of the software, as the other side of a session sees it:
// what it can do beyond streams.
type release struct {
	kem      seal.KEM
	without  []uint16
	optional []uint16 // of a version still to come
}

// The releases of the lab: version 1 knows streams and paths, version 2 what
// this build has with the stronger KEM, version 3 what nobody knows yet.
var (
	release1 = release{kem: seal.KEM768, without: []uint16{wire.CapDatagrams, wire.CapHeartbeats, wire.CapRepair, wire.CapPriorities, wire.CapMessages}}
	release2 = release{kem: seal.KEM1024}
	release3 = release{kem: seal.KEM1024, optional: []uint16{200, 201}}
)

// config is the configuration of a side of a release. Without negotiation, a
// side requires of the other what it could offer.
func (v release) config(negotiates bool) stream.Config {
	cfg := stream.Config{KEM: v.kem, Without: v.without, Optional: v.optional, HeartbeatInterval: 2 * time.Second}
	if !negotiates {
		cfg.Required, cfg.Optional = cfg.Optional, nil
		if v.without == nil {
			cfg.Required = append(cfg.Required, wire.CapDatagrams, wire.CapHeartbeats)
		}
	}
	return cfg
}

// versionMix is DF-032: old and new SDKs call Stream nodes in the middle of a
// backwards compatible release.
func versionMix(r *Run) error {
	return r.mixVersions("stream_sdk_version_mismatch", r.Scaled("sessions"),
		func(i int) release {
			if i%10 < int(r.Param("old_share")*10) {
				return release1
			}
			return release2
		},
		func(station int) release {
			if station%2 == 0 {
				return release1
			}
			return release2
		})
}

// mixVersions runs sessions between releases and observes, for each, whether
// anything of it failed.
func (r *Run) mixVersions(series string, sessions int, clients, stations func(i int) release) error {
	f, err := r.NewFleet(10, sim.Link{Latency: 20 * time.Millisecond, JitterMean: 2 * time.Millisecond, Loss: 1000}, sim.Cost{},
		func(i int) stream.Config { return stations(i).config(true) })
	if err != nil {
		return err
	}
	passages := make([]*passage, sessions)
	const spread = 10 * time.Second // over which the sessions begin
	for i := range passages {
		f.Sim.At(machine.Time(spread)/machine.Time(sessions)*machine.Time(i), func(machine.Time) {
			v := &passage{o: f.Call(f.Stations[(i/10)%len(f.Stations)], clients(i).config(r.Protected))}
			passages[i] = v
			v.run(f)
		})
	}
	f.Sim.RunUntil(machine.Time(spread + passageTime + answerWithin))
	messages, taken := 0, 0
	codes := map[wire.Code]int{}
	for _, v := range passages {
		if v.o.Over {
			codes[v.o.Code]++
		}
		r.Trial(series, v.failed())
		messages += v.sent
	}
	for _, s := range f.Stations {
		taken += s.messages
	}
	r.Note("%d sessions with 10 Stream nodes; %d datagrams were sent, where both sides know them, %d came; %d sessions were refused with code 0x07", sessions, messages, taken, codes[wire.CodeCapability])
	return nil
}

// passage is what a session of a mix of versions does: requests, a stream that
// stays open and so brings heartbeats, datagrams where the peer takes them, and
// an end as agreed.
type passage struct {
	o               *Caller
	asked, answered int
	sent            int
	held            uint64
}

// passageTime is from the first request to the end.
const passageTime = 20 * time.Second

func (v *passage) run(f *Fleet) {
	ask := func(machine.Time) {
		v.asked++
		v.o.Ask(make([]byte, 3000), func(machine.Time) { v.answered++ })
	}
	v.o.Do(func(now machine.Time, core *stream.Session) {
		v.held, _ = core.OpenStream(now, stream.PriorityNormal)
		core.Write(now, v.held, []byte("stays open"))
	})
	ask(0)
	for at := 5 * time.Second; at < passageTime; at += 5 * time.Second {
		f.Sim.After(at, func(now machine.Time) {
			ask(now)
			v.o.Do(func(now machine.Time, core *stream.Session) {
				if core.SendDatagram(now, v.held, []byte("once")) == nil {
					v.sent++
				}
			})
		})
	}
}

// failed reports whether a request was not answered or the session has ended.
func (v *passage) failed() bool { return v.o.Over || v.answered < v.asked || v.asked == 0 }
