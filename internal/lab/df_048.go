package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// missingTags is DF-048: a fault at the sender leaves packets without their
// authentication tag, before its own check or, as the control, behind it.
func missingTags(r *Run) error {
	cfg := stream.Config{}
	var spoiled, sealed uint64
	var spoil func([]byte)
	fault := func(b []byte) { spoil(b) }
	if r.Protected {
		cfg.Sealed = fault
	}
	f, err := r.NewFleet(4, sim.Link{Latency: 20 * time.Millisecond, JitterMean: time.Millisecond}, sim.Cost{},
		func(int) stream.Config { return cfg })
	if err != nil {
		return err
	}
	if !r.Protected {
		f.Crowd.spoil = fault
		for _, s := range f.Stations {
			s.spoil = fault
		}
	}
	rng := f.Sim.Rand("faults")
	spoil = func(b []byte) {
		if wire.SessionPacketKind(b) != wire.SessionData {
			return
		}
		sealed++
		if rng.Chance(uint64(r.Param("missing_share") * 1e6)) {
			spoiled++
			clear(b[len(b)-wire.TagSize:])
		}
	}
	requests := r.Scaled("requests")
	const users, perSecond = 40, 100
	answered := 0
	callers := make([]*Caller, users)
	for i := range callers {
		callers[i] = f.Call(f.Stations[i%len(f.Stations)], cfg)
	}
	end := time.Duration(requests) * time.Second / perSecond
	for i := range requests {
		f.Sim.At(machine.Time(end)/machine.Time(requests)*machine.Time(i), func(machine.Time) {
			callers[i%users].Ask(make([]byte, 20_000), func(machine.Time) { answered++ })
		})
	}
	f.Sim.RunUntil(machine.Time(end + 2*answerWithin))
	counts := f.Crowd.Counts
	for _, s := range f.Stations {
		counts.Add(&s.Counts)
	}
	failed := counts[trace.DropSessionAuth]
	r.Tally("decryption_failure", failed, failed+counts[trace.SessionPacketIn])
	r.Tally("obf_missing_auth_tags", counts[trace.MissingAuthTags], sealed)
	r.Tally("request_missed", uint64(requests-answered), uint64(requests))
	r.Note("%d of %d packets lost their tag at the sender, who found %d; %d reached a receiver", spoiled, sealed, counts[trace.MissingAuthTags], failed)
	return nil
}
