package link

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// FuzzHandleDatagram feeds a node and a client bytes of every kind that an
// adversary can make: noise, frames of an authentic but hostile peer, and
// handshake bodies in their right shape. Nothing may panic, no queue may pass
// its bound, and noise never yields a frame.
func FuzzHandleDatagram(f *testing.F) {
	f.Add(byte(0), []byte("noise"))
	f.Add(byte(1), []byte{byte(wire.FrameForward), 1, 2, 3})
	f.Add(byte(1), []byte{byte(wire.FramePathChallenge), 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(byte(1), []byte{byte(wire.FrameClose)})
	f.Add(byte(2), []byte{byte(wire.LinkMessageInit), wire.LinkVersion, 0, 1, 2, 3, 4})
	f.Add(byte(3), []byte{byte(wire.LinkMessageInit), wire.LinkVersion, 1, 1, 2, 3, 4})
	f.Add(byte(4), []byte{byte(wire.LinkMessageResp), wire.LinkVersion, 1, 1, 2, 3, 4})
	f.Add(byte(4), []byte{byte(wire.LinkMessageCookie), wire.LinkVersion, 1, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, mode byte, data []byte) {
		w, c, n, ic, in := pair(t)
		third := w.node(3)
		dialling := c.links[c.dial(third)]
		c.drain()
		w.wires = nil
		var frame wire.Frame
		copy(frame.B[:], data)
		b := make([]byte, wire.DatagramSize)
		switch mode % 5 {
		case 0:
			copy(b, data)
			if _, _, ok := n.HandleDatagram(w.now, c.addr, b); ok {
				t.Fatal("noise was taken for a frame")
			}
		case 1:
			c.sealTo(c.links[ic].cur, b, frame.B[:])
			n.HandleDatagram(w.now, c.addr, append([]byte(nil), b...))
			if _, _, ok := n.HandleDatagram(w.now, c.addr, b); ok {
				t.Fatal("a replay was taken for a frame")
			}
		case 2, 3:
			m, _, err := wire.ParseLinkInit(frame.B[:])
			if err != nil {
				return
			}
			n.cookies.rotate(w.now, n.draw.cookie)
			key := shapeKey(n.node)
			shape := seal.NewAEAD(shapeSuite, &key)
			for part := range uint8(2) {
				m.Part = part
				if mode%5 == 3 {
					m.Cookie = n.cookies.of(c.addr)
				}
				n.sealShape(shape, b, m.Append(b[wire.LinkHeaderSize:wire.LinkHeaderSize]), 77)
				n.HandleDatagram(w.now, c.addr, b)
			}
		case 4:
			d := dialling.dial
			for part := range byte(2) {
				if frame.B[0] == byte(wire.LinkMessageResp) {
					frame.B[2] = part
				}
				n.sealShape(&d.back, b, append(b[wire.LinkHeaderSize:wire.LinkHeaderSize], frame.B[:]...), d.keys.local)
				c.HandleDatagram(w.now, third.addr, b)
			}
			if dialling.cur != nil {
				t.Fatal("a forged RESP was accepted")
			}
		}
		if n.outbox.n > outboxMax || len(n.links) > 2 {
			t.Fatal("a bound was passed")
		}
		n.push(in, "still there")
		w.run(50 * time.Millisecond)
	})
}
