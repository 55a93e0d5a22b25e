// Package stream carries ordered, reliable byte streams, datagrams and
// heartbeats between the two ends of a session, over up to five routes that
// lose, delay and reorder packets of one size (docs/protocol.md,
// section 12).
//
// A Session is a machine. HandlePacket and HandleTimer take input; PollPacket
// and PollEvent yield output until they return false; NextTimer says when
// HandleTimer has work; the application's calls (OpenStream, Write, Read, …)
// are input as well, after which the owner polls again; getters change
// nothing. A session belongs to one goroutine at a time.
package stream

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// state is where a session stands.
type state uint8

const (
	stateHello   state = iota // client without a REPLY
	stateOpen                 // keys are there
	stateClosing              // CLOSE is being told
	stateClosed               // nothing more is sent
)

// Session is one end of a session. What only a busy session needs hangs at
// work, which is made on use and dropped when idle.
type Session struct {
	cfg    *shared
	counts *trace.Counts
	work   *work
	hs     *handshake

	state     state
	client    bool
	confirmed bool // the peer has shown the session keys
	joining   bool // the packet at hand may make a path (HandleNewPath)
	resumed   bool // it was begun by a ticket
	receiving bool // bytes came, and their end was not asked after (lullAt)
	several   bool // there has been more than one path
	suite     seal.Suite
	active    uint8 // path for data, or noPath
	// moved: the session has left a silent path, and the one that it took has not answered
	// yet; again: it left that one, too.
	moved, again bool
	pathEpoch    uint8 // of the newest track
	pending      pending
	common       capabilities // what both sides can do; none before the session is open
	activeAt     machine.Time // since when it is the path for data
	localID      uint32
	peerID       uint32
	hello        helloHash // responder: of its HELLO
	eventHead    uint32    // of events
	out          sealing
	in           opening

	paths   [MaxPaths]path
	pathSeq uint64 // of our PATH frames
	peerSeq uint64 // greatest PATH taken

	rtt     rtt           // of the path for data, while it has no track
	peerAck time.Duration // greatest delay of the peer's acknowledgements
	arrived arrivals

	streams  table
	send     sendLimits
	recv     recvLimits
	sched    schedule
	messages *messages // nil before the first

	events []Event

	lastUse   machine.Time // streams or datagrams moved
	lastSent  machine.Time
	oweSince  machine.Time // the peer owes an answer since, or 0
	beats     beats
	closing   *closing
	ticket    *Ticket // client: until it is taken
	stats     Counters
	idleSweep machine.Time // when unused memory is dropped, or 0
}

// shared is what the sessions of one acceptor at one level have in common. A
// session that was dialled has one of its own, and uses the configuration only.
type shared struct {
	Config
	once seal.Once // for sessions at rest
	// spare is the work memory of sessions that came to rest, for those that
	// wake: heartbeats of a million sessions make no garbage.
	spare []*work
}

// spareMax bounds the spare work memory: 150 KB, for heartbeats that come in the
// time of one another's round trip.
const spareMax = 64

// work is what a session needs only while packets move.
type work struct {
	sent sentLog
	// tracks are those of the paths in use; the last one is of a HELLO that
	// went with the set-up of a route, before there was a path.
	tracks [MaxPaths + 1]*track
	spare  *track // as good as new, of the session that used this memory before
	// Cipher states of the present keys. A responder at rest has none (openNow).
	sealing, opening seal.AEAD

	classOut uint64         // to be told, while pendClass
	nackOut  wire.NackFrame // to be told, while pendNack

	rings   rings
	repair  repairs
	trial   trial
	limited bool // in this span of the trial there was once nothing to send
}

// busy returns the work memory, made if need be.
func (s *Session) busy() *work {
	if s.work == nil {
		s.idleSweep = 0
		s.work = s.cfg.takeWork()
		s.work.sent.start(s.out.next)
	}
	return s.work
}

func (c *shared) takeWork() *work {
	if n := len(c.spare); n > 0 {
		w := c.spare[n-1]
		c.spare = c.spare[:n-1]
		return w
	}
	return &work{}
}

// dropWork ends the use of the work memory, the cipher states in it first. The
// round trip of the path for data is kept.
func (s *Session) dropWork() *work {
	s.rtt = *s.estimate()
	w := s.work
	s.work = nil
	if w != nil {
		w.sealing.Forget()
		w.opening.Forget()
	}
	return w
}

// giveWork takes back the work memory of a session at rest, as good as new, if
// it is small.
func (c *shared) giveWork(w *work) {
	if w == nil || len(c.spare) >= spareMax || len(w.sent.rec) > recordsMin || len(w.sent.chunks) > chunksMin || w.rings.spare != nil {
		return
	}
	for _, t := range w.tracks {
		if t != nil {
			t.ctl.OnPathChange(0)
			*t = track{ctl: t.ctl}
			w.spare = t
		}
	}
	l := sentLog{rec: w.sent.rec, open: w.sent.open, chunks: w.sent.chunks}
	clear(l.open)
	clear(l.chunks)
	*w = work{spare: w.spare, sent: l}
	c.spare = append(c.spare, w)
}

// LocalID is the connection id of packets for this session.
func (s *Session) LocalID() uint32 { return s.localID }

// Established reports whether the session keys are there.
func (s *Session) Established() bool { return s.state == stateOpen }

// TakesCompressed reports whether the peer is known to understand requests for
// compressed streams.
func (s *Session) TakesCompressed() bool { return s.common.has(wire.CapCompressed) }

// Ending reports whether the session takes no new streams: it is closing, or
// has closed.
func (s *Session) Ending() bool { return s.state >= stateClosing }

// Drained reports whether the session has ended and sends nothing more.
func (s *Session) Drained() bool { return s.state == stateClosed }

// Stats are a session's figures.
type Stats struct {
	Counters
	RTT, RTTVar, MinRTT time.Duration // of the active path
	LossDelay           time.Duration
	// Window, InFlight and PacingRate are of the congestion controllers of all
	// paths, in bytes and bytes per second; 0 while the session is idle.
	Window, InFlight int
	PacingRate       uint64
	// Backlog is the bytes that wait to be sent, for the choice of a class.
	Backlog        int
	Paths          []PathStats // of the paths in use; nil while the session is idle
	Streams        int
	HeartbeatQueue int
	SessionWindow  uint64 // receive window in bytes
	Early          uint64 // of it, bytes that wait for what precedes them
}

// DelayGap is by how much the round trips of a session's paths differ, if it has
// several.
func (st *Stats) DelayGap() (gap time.Duration, several bool) {
	if len(st.Paths) < 2 {
		return 0, false
	}
	by := func(a, b PathStats) int { return int(a.RTT - b.RTT) }
	return slices.MaxFunc(st.Paths, by).RTT - slices.MinFunc(st.Paths, by).RTT, true
}

// PathStats are the figures of one path that carries packets. They come with
// its first packet, and go with the path or when the session is idle.
type PathStats struct {
	ID                  uint8
	RTT, Jitter, MinRTT time.Duration
	Sent, Lost          uint64 // packets
	Window, InFlight    int    // bytes
}

// Carried is what a path that carries packets has shown so far, which its owner
// compares with other paths. It begins anew when the session was idle.
type Carried struct {
	Settled uint64 // packets that arrived, or were missed
	Missed  uint64 // of them, those that did not arrive while later ones did
	MinRTT  time.Duration
}

// Carried returns that of a path; false if it carries nothing. It allocates
// nothing.
func (s *Session) Carried(id uint8) (Carried, bool) {
	if id >= MaxPaths || s.work == nil || s.work.tracks[id] == nil {
		return Carried{}, false
	}
	t := s.work.tracks[id]
	return Carried{t.arrived + t.missed, t.missed, t.rtt.least}, true
}

// Counters are what a session counts from its beginning.
type Counters struct {
	PacketsSent, PacketsReceived   uint64
	BytesSent, BytesReceived       uint64 // of streams and datagrams, once each
	Lost, Retransmitted, Spurious  uint64 // packets
	RepairsSent, RepairsReceived   uint64 // packets
	Rebuilt                        uint64 // packets of the peer that were lost or late and rebuilt
	Recovered, Unrecovered         uint32 // protected packets that the peer rebuilt; that were lost and it did not
	Frames, EarlyFrames            uint64 // STREAM frames received; those that came before what precedes them
	Heartbeats, HeartbeatsReceived uint64
	DatagramsDropped               uint64 // displaced from full queues here
	MessagesSent, MessagesLost     uint64 // known to have arrived; given up
	NacksReceived                  uint64 // packets that the peer heard were dropped
	Rekeys                         uint64 // of both directions
	StreamWindow                   uint64 // receive window of the stream that moved last
}

// Stats returns the figures of this moment.
func (s *Session) Stats() Stats {
	rtt := s.estimate()
	st := Stats{
		Counters: s.stats, RTT: rtt.smooth, RTTVar: rtt.vary, MinRTT: rtt.least, LossDelay: rtt.lossDelay(),
		Backlog: int(s.send.backlog) + s.sched.datagramBytes() + s.outbox().waiting(), Streams: s.streams.n, HeartbeatQueue: int(s.beats.queued),
		SessionWindow: s.recv.win.size,
	}
	for _, open := range s.streams.slots {
		if open != nil {
			for _, e := range open.in.early {
				st.Early += e.hi - e.lo
			}
		}
	}
	if s.work != nil {
		st.Window = s.windows()
		for id, t := range s.work.tracks {
			if t != nil {
				st.PacingRate += t.ctl.PacingRate()
				st.InFlight += t.inFlight()
				st.Paths = append(st.Paths, PathStats{uint8(id), t.rtt.smooth, t.taken.jitter, t.rtt.least, t.sent, t.lost, t.ctl.Window(), t.inFlight()})
			}
		}
	}
	return st
}
