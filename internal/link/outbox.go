package link

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// outboxMax bounds the answers that wait to be sent: two bursts of the
// handshake limit. What does not fit is asked for again.
const outboxMax = 2048

// parcelKind says what a parcel becomes.
type parcelKind uint8

const (
	parcelCookie parcelKind = iota
	parcelResp
	parcelClose
)

// parcel is a datagram without a link to send it, sealed when it is polled.
type parcel struct {
	kind   parcelKind
	part   uint8
	to     netip.AddrPort
	index  uint32                    // cookie, resp: the initiator's index
	nonce  [wire.LinkNonceSize]byte  // cookie, resp: the initiator's nonce
	cookie [wire.LinkCookieSize]byte // cookie
	own    uint32                    // resp: our index
	chunk  []byte                    // resp: outlives the answer that it came from
	keys   *keyset                   // close: wiped once it is sealed
}

func (e *Endpoint) sealParcel(p parcel, b []byte) int {
	body := b[wire.LinkHeaderSize:wire.LinkHeaderSize]
	switch p.kind {
	case parcelCookie:
		m := wire.LinkCookie{Cookie: p.cookie}
		return e.sealBack(b, m.Append(body), p.index, &p.nonce)
	case parcelResp:
		m := wire.LinkResp{Part: p.part, Index: p.own, Chunk: p.chunk}
		return e.sealBack(b, m.Append(body), p.index, &p.nonce)
	case parcelClose:
		m := wire.LinkBare{Type: wire.FrameClose}
		n := e.sealTo(p.keys, b, m.Append(body))
		p.keys.wipe()
		return n
	}
	panic("link: parcel of unknown kind")
}

// sealBack seals the body of a handshake datagram to an initiator in place.
func (e *Endpoint) sealBack(b, body []byte, index uint32, nonce *[wire.LinkNonceSize]byte) int {
	var once seal.AEAD
	key := backKey(nonce)
	once.Init(shapeSuite, &key)
	return e.sealShape(&once, b, body, index)
}

// sealShape gives a handshake body the shape of a data datagram.
func (e *Endpoint) sealShape(shape *seal.AEAD, b, body []byte, index uint32) int {
	counter := e.draw.index.Uint64()
	wire.PutLinkHeader(b, index, counter)
	shape.Seal(b[wire.LinkHeaderSize:wire.LinkHeaderSize], body, b[:wire.LinkHeaderSize], counter)
	return wire.DatagramSize
}

// shapeSuite seals handshake datagrams. The keys are public to whoever knows
// the node or has seen the INIT: they give shape, not secrecy.
const shapeSuite = seal.AES256GCM

func shapeKey(node wire.NodeID) seal.Key {
	key := seal.Key(seal.Hash("link handshake", node[:]))
	return seal.Derive(&key, "to responder")
}

func backKey(nonce *[wire.LinkNonceSize]byte) seal.Key {
	key := seal.Key(seal.Hash("link handshake", nonce[:]))
	return seal.Derive(&key, "to initiator")
}

// flags are the control datagrams that a link has to send.
type flags uint8

const (
	flagInit0     flags = 1 << iota // first part of INIT
	flagInit1                       // second part of INIT
	flagProbe                       // challenge to the present address: confirms keys, ends doubt
	flagChallenge                   // challenge to the candidate address
	flagResponse                    // response to a challenge
	flagMeasure                     // challenge to the present address: measures the round trip
	flagMissing                     // what the peer sent and did not come
	flagPad                         // keep-alive
)

func (e *Endpoint) flag(l *link, f flags) {
	l.flags |= f
	e.ready.add(l)
}

// sealControl writes one control datagram of l, which has a flag.
func (e *Endpoint) sealControl(now machine.Time, l *link, b []byte) (to netip.AddrPort, n int) {
	body := b[wire.LinkHeaderSize:wire.LinkHeaderSize]
	f := l.flags & -l.flags
	l.flags &^= f
	to = l.addr
	l.lastSent = now
	switch f {
	case flagInit0:
		return to, e.sealInit(l.dial, 0, b)
	case flagInit1:
		return to, e.sealInit(l.dial, 1, b)
	case flagProbe:
		m := wire.LinkPath{Type: wire.FramePathChallenge}
		e.draw.path.Read(m.Token[:])
		return to, e.sealTo(l.cur, b, m.Append(body))
	case flagMeasure:
		m := e.measure(now, l)
		return to, e.sealTo(l.cur, b, m.Append(body))
	case flagChallenge:
		m := wire.LinkPath{Type: wire.FramePathChallenge, Token: l.path.token}
		return l.path.candidate, e.sealTo(l.cur, b, m.Append(body))
	case flagResponse:
		m := wire.LinkPath{Type: wire.FramePathResponse, Token: l.path.answerToken}
		to = l.path.answerTo
		n = e.sealTo(l.cur, b, m.Append(body))
		l.settlePath()
		return to, n
	case flagMissing:
		if h := l.cur.hot; h != nil {
			if h.gaps.again {
				h.gaps.again = false
				l.flags |= flagMissing
			}
			return to, e.sealTo(l.cur, b, h.gaps.tell.Append(body))
		}
	}
	m := wire.LinkBare{Type: wire.FramePad}
	return to, e.sealTo(l.cur, b, m.Append(body))
}
