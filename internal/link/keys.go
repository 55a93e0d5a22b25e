package link

import (
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// stage is how far the handshake of a keyset has come.
type stage uint8

const (
	dialling stage = iota // we sent INIT; no keys yet
	answered              // we sent RESP; keys wait for the first datagram
	live
)

// keyset is the outcome of one handshake: two keys, two indices, two counters.
type keyset struct {
	owner     *link   // nil while answered
	answer    *answer // set while answered
	local     uint32  // index in datagrams to us
	remote    uint32  // index in datagrams to the peer
	stage     stage
	initiator bool // we began the handshake
	tells     bool // the peer is a client that wants to know what does not come
	suite     seal.Suite
	beats     uint8 // frames since the last rest, up to beatFrames
	sendKey   seal.Key
	recvKey   seal.Key
	sent      uint64 // counter of the next datagram out
	next      uint64 // one above the highest counter that authenticated
	recent    Recent // of the counters below next, while hot is nil
	hot       *hot   // nil at rest
}

// hot is the state that only a link in use needs.
type hot struct {
	send, recv seal.AEAD
	window     window
	gaps       gaps
}

// beatFrames is how many frames the heartbeats of a session make: one side's and
// its answer, and the other's. Up to them a link is at rest: of a million idle
// ones many are always in the seconds after their heartbeat.
const beatFrames = 4

// rests reports whether k stays at rest with one frame more, which it counts.
func (k *keyset) rests(now machine.Time) bool {
	if k.owner != nil && now.Sub(k.owner.lastUse) >= coolAfter {
		k.beats = 0
	}
	if k.beats >= beatFrames {
		return false
	}
	k.beats++
	return true
}

// counterMax bounds the counters that are accepted. Keys are replaced at
// rekeyCount, far below; the bound keeps a hostile peer from wrapping a window.
const counterMax = 1 << 62

// register gives k a fresh random index.
func (e *Endpoint) register(k *keyset) {
	for {
		index := e.draw.index.Uint32()
		if _, taken := e.byIndex[index]; !taken && index != 0 {
			k.local = index
			e.byIndex[index] = k
			return
		}
	}
}

func (e *Endpoint) unregister(k *keyset) {
	delete(e.byIndex, k.local)
	if e.recent == k {
		e.recent = nil
	}
}

// forget takes k out of use and overwrites its keys. k may be nil.
func (e *Endpoint) forget(k *keyset) {
	if k == nil {
		return
	}
	e.unregister(k)
	k.wipe()
}

func (k *keyset) wipe() {
	k.sendKey.Clear()
	k.recvKey.Clear()
	k.cool()
}

// cool drops the cipher state and the window. From then on a datagram must be
// newer than all before it, so nothing that the window had seen comes back.
func (k *keyset) cool() {
	if k.hot != nil {
		k.hot.send.Forget()
		k.hot.recv.Forget()
		k.hot, k.recent, k.beats = nil, Rested, 0
	}
}

// warm returns the state of a link in use, made on first use.
func (k *keyset) warm() *hot {
	if k.hot == nil {
		k.hot = &hot{}
		k.hot.window.begin(k.next, k.recent)
	}
	return k.hot
}

// continuity is the secret by which a rekey proves that it continues k.
func (k *keyset) continuity() seal.Key {
	if k.initiator {
		return seal.Derive(&k.sendKey, "link rekey")
	}
	return seal.Derive(&k.recvKey, "link rekey")
}

// derive takes the traffic keys from a finished schedule, which it clears.
func (k *keyset) derive(s *seal.Schedule) {
	to, from := s.Key("link data to responder"), s.Key("link data to initiator")
	if k.initiator {
		k.sendKey, k.recvKey = to, from
	} else {
		k.sendKey, k.recvKey = from, to
	}
	to.Clear()
	from.Clear()
	s.Clear()
}

// open decrypts a datagram in place, or takes what was found before. newest
// reports that its counter is the highest so far. A datagram that fails is counted
// and leaves no trace.
func (e *Endpoint) open(now machine.Time, k *keyset, counter uint64, b []byte, o *Opened) (frame []byte, newest, ok bool) {
	newest = counter >= k.next
	h := k.hot
	if counter > counterMax || h == nil && !k.recent.Fresh(k.next, counter) || h != nil && !newest && !h.window.fresh(k.next, counter) {
		e.counts[trace.DropLinkReplay]++
		return nil, false, false
	}
	head, body := b[:wire.LinkHeaderSize], b[wire.LinkHeaderSize:wire.DatagramSize]
	if o != nil && o.keys == k {
		frame, ok = o.frame[:], o.ok
	} else if h == nil {
		frame, ok = e.once.Open(k.suite, &k.recvKey, body[:0], body, head, counter)
	} else {
		if !h.recv.Ready() {
			h.recv.Init(k.suite, &k.recvKey)
		}
		frame, ok = h.recv.Open(body[:0], body, head, counter)
	}
	if !ok {
		e.counts[trace.DropLinkAuth]++
		return nil, false, false
	}
	if newest {
		// A hostile counter tells no more than a window of losses.
		e.counts[trace.LinkMissed] += min(counter-k.next, windowSize)
	} else {
		e.counts[trace.LinkLate]++
	}
	gap := k.next
	if h == nil && (wire.FrameType(frame[0]) == wire.FramePad || counter < k.next+Near && k.rests(now)) {
		k.next = k.recent.Mark(k.next, counter)
	} else {
		k.next = k.warm().window.mark(k.next, counter)
	}
	if k.tells && k.hot != nil {
		k.hot.gaps.credit = min(k.hot.gaps.credit+1, wordsMax)
	}
	if k.tells && counter > gap {
		e.missed(now, k, gap, counter)
	}
	return frame, newest, true
}

// sealTo writes the datagram that carries frame into b.
func (e *Endpoint) sealTo(k *keyset, b, frame []byte) int {
	wire.PutLinkHeader(b, k.remote, k.sent)
	head, body := b[:wire.LinkHeaderSize], b[wire.LinkHeaderSize:wire.LinkHeaderSize]
	if h := k.hot; h == nil {
		e.once.Seal(k.suite, &k.sendKey, body, frame, head, k.sent)
	} else {
		if !h.send.Ready() {
			h.send.Init(k.suite, &k.sendKey)
		}
		h.send.Seal(body, frame, head, k.sent)
	}
	k.sent++
	return wire.DatagramSize
}

// install makes k the link's keys and keeps the old ones for a while.
func (e *Endpoint) install(now machine.Time, l *link, k *keyset) {
	e.forget(l.prev)
	e.release(l)
	l.flags &^= flagMissing
	l.prev, l.cur = l.cur, k
	l.prevUntil = machine.Never
	if l.prev != nil {
		e.counts[trace.LinkRekeys]++
		if !k.initiator {
			l.prevUntil = now.Add(prevGrace)
		}
	}
	k.owner, k.answer, k.stage = l, nil, live
	l.since, l.failures = now, 0
	l.rekeyAt = machine.Never
	if k.initiator {
		l.rekeyAt = now.Add(rekeyAfter)
	}
	e.counts[trace.HandshakesDone]++
	if l.queue.Len > 0 {
		e.ready.add(l)
	}
}
