package lab

import (
	"bytes"
	"errors"
	"runtime"
	"time"

	"github.com/nyxnet/nyx/internal/fec"
	"github.com/nyxnet/nyx/internal/lab/cpu"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// encodeLoad is SCL-044: segments come to an encoder at a rate. Each waits for the
// processor, and then for the repair that covers it. A session that sends at the
// same rate tells the same of its packets, in virtual time.
func encodeLoad(r *Run) error {
	if r.Protected {
		if err := sessionRepairs(r); err != nil {
			return err
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sources, repairs := int(r.Param("repair_every")), 1
	if !r.Protected {
		sources, repairs = int(r.Param("block_segments")), int(r.Param("block_repairs"))
	}
	if sources+repairs > fec.Reach+1 {
		return errors.New("a block's last repair does not reach its first segment")
	}
	e := encoding{r: r, enc: fec.NewEncoder(wire.SymbolSize), dec: fec.NewDecoder(wire.SymbolSize),
		lostOneIn: uint64(r.Param("lost_one_in")), draw: r.Source("segments").Stream("lost")}
	arrivals, content := r.Source("segments").Stream("arrivals"), r.Source("segments").Stream("content")
	gap := time.Duration(float64(time.Minute) / r.Param("segments_per_minute"))
	end := machine.Time(0).Add(time.Duration(float64(r.Duration("seconds", time.Second)) * r.Scale))
	segment := make([]byte, wire.SymbolSize)
	segments := 0
	for at := machine.Time(0).Add(arrivals.Exp(gap)); at < end; at = at.Add(arrivals.Exp(gap)) {
		content.Read(segment)
		e.segment(at, segment)
		if segments++; segments%sources == 0 {
			e.repair(repairs, r.Protected)
		}
	}
	if e.wrong > 0 {
		r.Note("%d segments were rebuilt with other bytes than they had", e.wrong)
	}
	r.Note("%v of processor time for each segment, %.2f %% of a processor at this load; vector instructions: %s",
		e.used/time.Duration(segments), 100*e.used.Seconds()/end.Sub(0).Seconds(), cpu.Vectors())
	return nil
}

// sessionRepairs has a session send as many packets as there are segments, over a
// link of whose losses come as many repairs.
func sessionRepairs(r *Run) error {
	perSecond := r.Param("segments_per_minute") / 60
	const sessionRate = 1.4 // of its segments: with repairs, and for a sender that is not always on time
	loss := (1/r.Param("repair_every") - repairsLeast) / 2
	began := false
	var repairs, packets uint64
	p, err := r.newPair(stream.Config{Congestion: congestion.Fixed, FixedRate: uint64(sessionRate * perSecond * wire.SessionPacketSize),
		Sink: func(e trace.Event) {
			if began && e.Kind == trace.RepairSent {
				repairs++
				r.ObserveTime("fec_encode_latency", time.Duration(e.A))
			}
		}}, sim.Link{Latency: 20 * time.Millisecond, Loss: uint64(loss * 1e6)})
	if err != nil {
		return err
	}
	end := p.net.Now().Add(r.Duration("session_seconds", time.Second))
	size := int(perSecond) * wire.SessionPacketSize // a second's worth
	var next func(machine.Time, int)
	next = func(now machine.Time, _ int) {
		if now < end {
			p.net.After(0, func(machine.Time) { p.fetch(stream.PriorityNormal, size, next) })
		}
	}
	next(p.net.Now(), 0)
	next(p.net.Now(), 0)
	p.net.RunFor(time.Second) // the loss is measured
	began, packets = true, p.server.counts[trace.SessionPacketOut]
	p.net.RunUntil(end)
	packets = p.server.counts[trace.SessionPacketOut] - packets
	r.Note("a session of %.0f segments a second sent a repair for every %.1f of them", float64(packets-repairs)/(end.Sub(0)-2*time.Second).Seconds(), float64(packets-repairs)/float64(repairs))
	return nil
}

// repairsLeast is the repairs of a packet that any loss is worth; each loss is worth
// two more (docs/protocol.md, section 12.12).
const repairsLeast = 0.025

// encoding is an encoder on a processor of its own, and the decoder at the other
// end, which takes no time here.
type encoding struct {
	r         *Run
	enc       *fec.Encoder
	dec       *fec.Decoder
	next      uint64         // number of the next symbol
	free      machine.Time   // when the processor is
	used      time.Duration  // of the processor
	waiting   []machine.Time // segments without a repair, by arrival
	symbol    [wire.SymbolSize]byte
	draw      *prng.Stream
	lostOneIn uint64
	lost      map[uint64][]byte // segments that the decoder lacks
	wrong     int
}

// work runs f on the processor, no sooner than at.
func (e *encoding) work(at machine.Time, f func()) {
	begun := cpu.Thread()
	f()
	took := cpu.Thread() - begun
	e.used += took
	e.free = max(e.free, at).Add(took)
}

func (e *encoding) segment(at machine.Time, b []byte) {
	e.work(at, func() { e.enc.Source(e.next, b) })
	e.waiting = append(e.waiting, at)
	if e.draw.Uint64N(e.lostOneIn) == 0 {
		if e.lost == nil {
			e.lost = map[uint64][]byte{}
		}
		e.lost[e.next] = bytes.Clone(b)
	} else {
		e.dec.Source(e.next, b)
	}
	e.next++
}

// repair computes repairs of the segments that the window holds, or of those only
// that have none.
func (e *encoding) repair(count int, window bool) {
	first := e.next
	for range count {
		mask := uint64(0)
		for i := range min(e.next, fec.Reach) {
			n := e.next - 1 - i
			if e.enc.Has(n) && (window || n >= first-uint64(len(e.waiting)) && n < first) {
				mask |= 1 << i
			}
		}
		e.work(e.free, func() { e.enc.Repair(e.next, mask, e.symbol[:]) })
		e.dec.Repair(e.next, mask, e.symbol[:])
		e.next++
	}
	for _, at := range e.waiting {
		e.r.ObserveTime("segment_encode_latency", e.free.Sub(at))
	}
	e.waiting = e.waiting[:0]
	for n, b, ok := e.dec.Poll(); ok; n, b, ok = e.dec.Poll() {
		if !bytes.Equal(b, e.lost[n]) {
			e.wrong++
		}
		e.r.Trial("segment_rebuilt", bytes.Equal(b, e.lost[n]))
		delete(e.lost, n)
	}
	for n := range e.lost { // counts only: the order reaches nothing
		if n+fec.Keep < e.next {
			e.r.Trial("segment_rebuilt", false)
			delete(e.lost, n)
		}
	}
}
