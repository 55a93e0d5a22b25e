package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"net/netip"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
)

// Records of the trace hash.
const (
	traceSend byte = iota + 1
	traceDeliver
	traceDrop
	traceInject
	traceAddress
	traceCrash
	traceRestart
	traceRebind
	tracePartition
	traceHeal
	traceEvent
)

// traceHash is SHA-256 over what happened: time, addresses and size of every
// datagram sent, delivered and dropped, every fault, and the typed events that
// machines emit through Sink. It holds no content, so it is the same when
// ciphertexts differ.
type traceHash struct {
	h   hash.Hash
	buf []byte
}

// traceBuffer is how many bytes are hashed at a time.
const traceBuffer = 8192

// start does not hash the seed: another seed must show in what happens.
func (t *traceHash) start() {
	t.h = sha256.New()
	t.buf = make([]byte, 0, traceBuffer)
	t.h.Write([]byte("nyx sim trace 1"))
}

// room makes place for a record of up to 64 bytes.
func (t *traceHash) room() {
	if len(t.buf) > traceBuffer-64 {
		t.h.Write(t.buf)
		t.buf = t.buf[:0]
	}
}

func (t *traceHash) datagram(kind byte, at machine.Time, k *packet) {
	t.room()
	b := append(t.buf, kind)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = binary.BigEndian.AppendUint32(b, k.from)
	b = binary.BigEndian.AppendUint32(b, k.to)
	t.buf = binary.BigEndian.AppendUint16(b, k.size)
}

func (t *traceHash) fault(kind byte, at machine.Time, node uint32) {
	t.room()
	b := append(t.buf, kind)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	t.buf = binary.BigEndian.AppendUint32(b, node)
}

func (t *traceHash) address(id uint32, addr netip.AddrPort) {
	t.room()
	ip := addr.Addr().As16()
	b := append(t.buf, traceAddress)
	b = binary.BigEndian.AppendUint32(b, id)
	b = append(b, ip[:]...)
	t.buf = binary.BigEndian.AppendUint16(b, addr.Port())
}

func (t *traceHash) event(node uint32, e trace.Event) {
	t.room()
	b := append(t.buf, traceEvent, byte(e.Kind))
	b = binary.BigEndian.AppendUint32(b, node)
	b = binary.BigEndian.AppendUint64(b, uint64(e.At))
	b = binary.BigEndian.AppendUint64(b, e.A)
	t.buf = binary.BigEndian.AppendUint64(b, e.B)
}

// TraceHash returns the hash of all that has happened so far, in hexadecimal.
// Equal seeds, programs and load give equal hashes.
func (n *Network) TraceHash() string {
	n.trace.h.Write(n.trace.buf)
	n.trace.buf = n.trace.buf[:0]
	return hex.EncodeToString(n.trace.h.Sum(nil))
}

// Sink returns a sink that adds the events of a node's machine to the trace,
// and passes them on to next, which may be nil.
func (n *Network) Sink(nd *Node, next trace.Sink) trace.Sink {
	return func(e trace.Event) {
		n.trace.event(nd.index, e)
		if next != nil {
			next(e)
		}
	}
}
