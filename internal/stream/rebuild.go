package stream

import (
	"github.com/nyxnet/nyx/internal/fec"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// The receiving half of error correction (docs/protocol.md, section 12.12). A
// symbol is part of an authentic packet: what is rebuilt from symbols is what
// the peer says it sent, and a peer that says something else misleads nobody
// but its own session. Until the peer sends a repair there is nothing here;
// then at most 256 symbols, 32 equations and the log: 0.4 MiB, until the
// session is quiet.

// rebuilding is what a receiver of repairs holds.
type rebuilding struct {
	dec *fec.Decoder
	log *rebuiltLog
	// now says that the frames at hand were rebuilt: acknowledgements among
	// them are old, and what they say has been said again.
	now bool
}

// rebuiltLog holds the packets whose content was rebuilt and which have not
// arrived, in groups of 64 numbers: their content is not taken again, and the
// peer is told of a group in repeatAcks acknowledgements after it last changed.
type rebuiltLog struct {
	groups [rebuiltGroups]rebuiltGroup
	stamp  uint32 // arrivals.stamp when a group last changed
}

type rebuiltGroup struct {
	wire.RebuiltFrame
	stamp uint32
}

// rebuiltGroups × 64 numbers are remembered; what is older is refused.
const rebuiltGroups = 64

// rebuiltFrames is how many REBUILT frames leave with one acknowledgement.
const rebuiltFrames = 4

// group returns the place of a packet's group and its bit there.
func (l *rebuiltLog) group(pn uint64) (*rebuiltGroup, uint64) {
	return &l.groups[pn/64%rebuiltGroups], 1 << (63 - pn%64)
}

// rebuilt reports whether the content of a packet was rebuilt.
func (f *rebuilding) rebuilt(pn uint64) bool {
	if f.log == nil {
		return false
	}
	g, bit := f.log.group(pn)
	return g.Last == pn|63 && g.Mask&bit != 0
}

// noteRebuilt enters a packet into the log. The group that makes room is
// refused from then on.
func (s *Session) noteRebuilt(pn uint64) {
	l := s.work.repair.log
	g, bit := l.group(pn)
	if g.Last != pn|63 {
		if g.Mask != 0 {
			s.arrived.floor = max(s.arrived.floor, g.Last+1)
		}
		*g = rebuiltGroup{RebuiltFrame: wire.RebuiltFrame{Last: pn | 63}}
	}
	g.Mask |= bit
	g.stamp, l.stamp = s.arrived.stamp, s.arrived.stamp
}

// appendRebuilt appends what was rebuilt lately, ahead of an acknowledgement.
func (s *Session) appendRebuilt(b []byte, limit int) []byte {
	if s.work == nil || s.work.repair.log == nil {
		return b
	}
	l, stamp := s.work.repair.log, s.arrived.stamp
	if stamp-l.stamp >= repeatAcks {
		return b
	}
	left := rebuiltFrames
	for i := range uint64(rebuiltGroups) {
		g := &l.groups[(s.arrived.largest/64-i)%rebuiltGroups] // newest first
		if g.Mask == 0 || stamp-g.stamp >= repeatAcks {
			continue
		}
		if left == 0 || len(b)+wire.RebuiltLen > limit {
			break
		}
		left--
		b = g.Append(b)
	}
	return b
}

// handleRepair takes a REPAIR, the payload of packet pn.
func (s *Session) handleRepair(now machine.Time, id uint8, pn uint64, payload []byte) bool {
	if !s.cfg.knows.has(wire.CapRepair) {
		return s.unknownFrame()
	}
	f, err := wire.ParseRepair(pn, payload)
	if err != nil {
		return false
	}
	s.stats.RepairsReceived++
	s.counts[trace.RepairIn]++
	r := &s.busy().repair
	if r.dec == nil {
		r.dec, r.log = fec.NewDecoder(wire.SymbolSize), &rebuiltLog{}
	}
	for i := range uint64(fec.Reach) {
		source := pn - 1 - i
		if f.Mask>>i&1 != 0 && !r.dec.Has(source) && (s.arrived.seen(source) || r.rebuilt(source)) {
			return true // it came and is held no more: the sum cannot be solved
		}
	}
	r.dec.Repair(pn, f.Mask, f.Symbol)
	return s.takeRebuilt(now, id)
}

// keep gives the content of a packet that arrived to the repairs that cover it.
func (s *Session) keep(now machine.Time, id uint8, pn uint64, payload []byte) bool {
	if s.work == nil || s.work.repair.dec == nil {
		return true
	}
	s.work.repair.dec.Source(pn, payload[:min(len(payload), wire.SymbolSize)])
	return s.takeRebuilt(now, id)
}

// takeRebuilt takes the frames of what could be rebuilt, as if it had come by
// path id. It reports false if they are malformed.
func (s *Session) takeRebuilt(now machine.Time, id uint8) bool {
	for s.work != nil && s.work.repair.dec != nil {
		r := &s.work.repair
		pn, frames, ok := r.dec.Poll()
		if !ok {
			break
		}
		if s.arrived.seen(pn) || r.rebuilt(pn) {
			continue
		}
		s.noteRebuilt(pn)
		s.stats.Rebuilt++
		s.counts[trace.Rebuilt]++
		r.now = true
		_, _, ok = s.frames(now, id, frames)
		r.now = false // the session may have dropped its work: r is what it dropped
		if !ok {
			return false
		}
		s.arrived.owe(now, s.cfg.AckEvery, s.cfg.AckDelay)
	}
	return true
}

// rebuiltNow reports whether the frames at hand were rebuilt.
func (s *Session) rebuiltNow() bool { return s.work != nil && s.work.repair.now }

// wasRebuilt reports whether a packet's content was taken before the packet.
func (s *Session) wasRebuilt(pn uint64) bool {
	return s.work != nil && s.work.repair.rebuilt(pn)
}
