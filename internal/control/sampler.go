package control

import (
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// Sampler chooses which of a node's reports are sent. Of ten that say nothing out of
// the ordinary one is, drawn anew in each ten, so that nothing in the node has its
// rhythm; whatever is important is sent at once. It belongs to one goroutine.
type Sampler struct {
	// OneIn is of how many ordinary reports one is sent, at most 255; 0 is 10, 1 sends
	// all. It may change between two reports.
	OneIn int

	draw   *prng.Stream
	flags  wire.TelemetryFlags // that were told last
	place  int                 // in the present ten
	chosen int
	sum    uint64 // sent in it so far
	before uint32 // in the last whole ten
}

// sampleOneIn is the sampling of the specification.
const sampleOneIn = 10

// NewSampler returns a sampler with a randomness of its own.
func NewSampler(draw *prng.Stream) *Sampler { return &Sampler{draw: draw} }

// Important reports whether a report is sent whatever sampling says: something was
// dropped, refused, or is not as it was.
func (s *Sampler) important(t *wire.Telemetry) bool {
	return t.Dropped > 0 || t.Refused > 0 || t.Flags != s.flags || t.Flags&wire.TelemetryOverloaded != 0
}

// Take takes the report of the next period and reports whether it is to be sent. It
// sets what the report stands for.
func (s *Sampler) Take(t *wire.Telemetry) bool {
	of := s.OneIn
	if of == 0 {
		of = sampleOneIn
	}
	if s.important(t) {
		s.flags, t.StandsFor, t.Before = t.Flags, 1, s.before
		return true
	}
	if s.place == 0 || s.place >= of {
		s.place, s.chosen, s.sum = 0, s.draw.IntN(of), 0
	}
	here := s.place == s.chosen
	t.StandsFor, t.Before = uint8(of), s.before
	s.sum += uint64(t.Sent)
	if s.place++; s.place == of {
		s.place, s.before = 0, uint32(min(s.sum, 1<<32-1))
	}
	return here
}

// Classes are what a node tells of its classes in a window: those alone that have so
// many routes that their sums hide each, coarse, and with a noise on the number of
// routes. They are made once for a window and repeated while it lasts: figures drawn
// anew each second would have a mean.
func Classes(window obfs.Report, draw *prng.Stream) (out []wire.TelemetryClass) {
	crowd := window.Crowd()
	for i := range crowd.Above {
		t := &crowd.Above[i]
		if t.All == 0 {
			continue
		}
		perRoute := uint64(obfs.Classes[i]) * uint64(obfs.ReportWindow.Seconds())
		routes := int64(t.All/perRoute) + noise(draw)
		const step = wire.TelemetryRoutesStep
		routes = min(max((routes+step/2)/step*step, step), 1<<16-step)
		const coarse = wire.TelemetryUseStep
		use := (t.Real*100/t.All + coarse/2) / coarse * coarse
		out = append(out, wire.TelemetryClass{Place: uint8(i), Routes: uint16(routes), Use: uint8(min(use, 100))})
	}
	return out
}

// noise is geometric to both sides: what one route more or less changes of the
// chance of any figure is a factor of e^(1/16) at the most.
func noise(draw *prng.Stream) (n int64) {
	const stay = 939_413 // parts in a million: e^(−1/16)
	for draw.Chance(stay) {
		n++
	}
	for draw.Chance(stay) {
		n--
	}
	return n
}
