package tunnel

import (
	"errors"

	"github.com/nyxnet/nyx/internal/wire"
)

// ErrTooLarge means that a UDP message does not fit DatagramPartsMax parts.
var ErrTooLarge = errors.New("tunnel: message larger than a flow carries")

// chunkMax is the data of one part: a DATAGRAM frame with its header (at most
// 11 bytes) must fit a session packet.
const chunkMax = wire.SessionPayloadSize - 11 - wire.DatagramPartHeader

// MessageMax is the greatest UDP message of a flow, its target included.
const MessageMax = wire.DatagramPartsMax * chunkMax

// Datagrams carries UDP messages, each with a target or a source, over the
// unreliable side of a stream. Send and Receive are for one goroutine each.
type Datagrams struct {
	Conn *Conn

	next    uint16
	out     []byte
	part    [wire.SessionPayloadSize]byte
	in      [wire.SessionPayloadSize]byte
	partial [partialMax]message
	oldest  int
}

// partialMax is how many messages are put together at a time. Parts of one
// message travel together; who is overtaken by 8 others has lost a part.
const partialMax = 8

// message is one UDP message being put together.
type message struct {
	id     uint16
	parts  int
	have   uint16
	chunks [wire.DatagramPartsMax][]byte
}

// NewDatagrams returns the flow of a stream.
func NewDatagrams(c *Conn) *Datagrams { return &Datagrams{Conn: c} }

// Send sends one message. As with UDP, no error does not mean it arrives.
func (d *Datagrams) Send(host string, port uint16, b []byte) error {
	d.out = append(wire.AppendDatagramTarget(d.out[:0], host, port), b...)
	if len(d.out) > MessageMax {
		return ErrTooLarge
	}
	parts := (len(d.out) + chunkMax - 1) / chunkMax
	d.next++
	for i := range parts {
		chunk := d.out[i*chunkMax : min((i+1)*chunkMax, len(d.out))]
		p := wire.AppendDatagramPart(d.part[:0], d.next, i, parts)
		if err := d.Conn.SendDatagram(append(p, chunk...)); err != nil {
			return err
		}
	}
	return nil
}

// Receive waits for the next whole message. data is valid until the next call.
func (d *Datagrams) Receive() (host string, port uint16, data []byte, err error) {
	for {
		n, err := d.Conn.ReadDatagram(d.in[:])
		if err != nil {
			return "", 0, nil, err
		}
		id, part, parts, chunk, ok := wire.ParseDatagramPart(d.in[:n])
		if !ok {
			continue
		}
		if parts > 1 {
			if chunk = d.assemble(id, part, parts, chunk); chunk == nil {
				continue
			}
		}
		if host, port, data, ok = wire.ParseDatagramTarget(chunk); ok {
			return host, port, data, nil
		}
	}
}

// assemble adds a part and returns the message when it is whole.
func (d *Datagrams) assemble(id uint16, part, parts int, chunk []byte) []byte {
	m := d.find(id, parts)
	if m.have&(1<<part) != 0 {
		return nil
	}
	m.have |= 1 << part
	m.chunks[part] = append(m.chunks[part][:0], chunk...)
	if m.have != uint16(1<<parts-1) {
		return nil
	}
	whole := make([]byte, 0, parts*chunkMax)
	for _, c := range m.chunks[:parts] {
		whole = append(whole, c...)
	}
	m.parts, m.have = 0, 0
	return whole
}

func (d *Datagrams) find(id uint16, parts int) *message {
	for i := range d.partial {
		if m := &d.partial[i]; m.parts == parts && m.id == id {
			return m
		}
	}
	m := &d.partial[d.oldest]
	d.oldest = (d.oldest + 1) % partialMax
	m.id, m.parts, m.have = id, parts, 0
	return m
}

// Close ends the flow.
func (d *Datagrams) Close() { d.Conn.Reset() }
