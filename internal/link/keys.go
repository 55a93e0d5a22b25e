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
	suite     seal.Suite
	sendKey   seal.Key
	recvKey   seal.Key
	sent      uint64 // counter of the next datagram out
	next      uint64 // one above the highest counter that authenticated
	hot       *hot   // nil: made on first use, dropped when idle
}

// hot is the state that only a link in use needs. The first datagrams of a
// direction after a rest leave no cipher behind: those are heartbeats, often.
type hot struct {
	send, recv cipher
	window     window
}

// cipher is one direction's cipher state.
type cipher struct {
	aead  seal.AEAD
	count uint8 // datagrams since the rest, up to beatFrames
}

// beatFrames is how many datagrams the heartbeats of a session make in one
// direction: one side's, and the answer to the other's.
const beatFrames = 2

func (c *cipher) begin(s seal.Suite, key *seal.Key) *seal.AEAD {
	if !c.aead.Ready() {
		c.aead.Init(s, key)
	}
	return &c.aead
}

func (c *cipher) end() {
	if c.count < beatFrames {
		c.count++
		c.aead.Forget()
	}
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
		k.hot.send.aead.Forget()
		k.hot.recv.aead.Forget()
		k.hot = nil
	}
}

// warm returns the state of a link in use, made on first use.
func (k *keyset) warm() *hot {
	if k.hot == nil {
		k.hot = &hot{}
		k.hot.window.floor = k.next
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

// open decrypts a datagram in place. newest reports that its counter is the
// highest so far. A datagram that fails is counted and leaves no trace.
func (e *Endpoint) open(k *keyset, counter uint64, b []byte) (frame []byte, newest, ok bool) {
	newest = counter >= k.next
	if counter > counterMax {
		e.counts[trace.DropLinkReplay]++
		return nil, false, false
	}
	h := k.hot
	if h == nil {
		return e.openCold(k, counter, b, newest)
	}
	if !newest && !h.window.fresh(k.next, counter) {
		e.counts[trace.DropLinkReplay]++
		return nil, false, false
	}
	frame, ok = h.recv.begin(k.suite, &k.recvKey).Open(b[wire.LinkHeaderSize:wire.LinkHeaderSize], b[wire.LinkHeaderSize:wire.DatagramSize], b[:wire.LinkHeaderSize], counter)
	h.recv.end()
	if !ok {
		e.counts[trace.DropLinkAuth]++
		return nil, false, false
	}
	k.next = h.window.mark(k.next, counter)
	return frame, newest, true
}

// openCold opens a datagram of a keyset without cipher state. Pads, which are
// all that an idle link receives, leave none behind.
func (e *Endpoint) openCold(k *keyset, counter uint64, b []byte, newest bool) ([]byte, bool, bool) {
	if !newest {
		e.counts[trace.DropLinkReplay]++
		return nil, false, false
	}
	var once cipher
	frame, ok := once.begin(k.suite, &k.recvKey).Open(b[wire.LinkHeaderSize:wire.LinkHeaderSize], b[wire.LinkHeaderSize:wire.DatagramSize], b[:wire.LinkHeaderSize], counter)
	once.end()
	if !ok {
		e.counts[trace.DropLinkAuth]++
		return nil, false, false
	}
	if wire.FrameType(frame[0]) == wire.FramePad {
		k.next = counter + 1
	} else {
		k.next = k.warm().window.mark(k.next, counter)
	}
	return frame, true, true
}

// sealTo writes the datagram that carries frame into b.
func (k *keyset) sealTo(b, frame []byte) int {
	wire.PutLinkHeader(b, k.remote, k.sent)
	var c *cipher
	if k.hot != nil {
		c = &k.hot.send
	} else {
		c = &cipher{}
	}
	c.begin(k.suite, &k.sendKey).Seal(b[wire.LinkHeaderSize:wire.LinkHeaderSize], frame, b[:wire.LinkHeaderSize], k.sent)
	c.end()
	k.sent++
	return wire.DatagramSize
}

// install makes k the link's keys and keeps the old ones for a while.
func (e *Endpoint) install(now machine.Time, l *link, k *keyset) {
	e.forget(l.prev)
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
