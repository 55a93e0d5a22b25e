package link

import (
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Opened is what Open found of one datagram. The zero Opened holds nothing.
type Opened struct {
	keys  *keyset // under which it was tried; nil: it was not
	ok    bool    // it authenticates
	nonce seal.Nonce
	frame [wire.LinkPayloadSize]byte
}

// Reset forgets what was found.
func (o *Opened) Reset() { o.keys = nil }

// Open decrypts a datagram before its turn into o, which holds nothing, and
// changes nothing else: not b, and nothing of the endpoint. Several goroutines may
// call it at once, each with its own o, while nobody calls anything else. When ok,
// id is the link that the datagram would come from, and frame, which aliases o,
// what it holds.
//
// Left for HandleOpened is what it alone can open: datagrams of handshakes, of
// links at rest, and under keys that come up meanwhile; and what costs no
// decryption because it was seen before.
func (e *Endpoint) Open(o *Opened, b []byte) (id ID, frame []byte, ok bool) {
	if len(b) != wire.DatagramSize {
		return 0, nil, false
	}
	index, counter := wire.LinkHeader(b)
	k := e.byIndex[index]
	if k == nil || k.hot == nil || !k.hot.recv.Ready() {
		return 0, nil, false
	}
	if counter > counterMax || counter < k.next && !k.hot.window.fresh(k.next, counter) {
		return 0, nil, false
	}
	o.keys = k
	_, o.ok = k.hot.recv.OpenWith(&o.nonce, o.frame[:0], b[wire.LinkHeaderSize:], b[:wire.LinkHeaderSize], counter)
	if !o.ok || k.stage != live {
		return 0, nil, false
	}
	return k.owner.id, o.frame[:], true
}
