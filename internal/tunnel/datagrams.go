package tunnel

import (
	"errors"
	"io"

	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/wire"
)

// ErrTooLarge means that a UDP message with its target is larger than a flow
// carries.
var ErrTooLarge = errors.New("tunnel: message larger than a flow carries")

// Datagrams carries UDP messages, each with a target or a source, over the
// datagrams and messages of a stream. Send and Receive are for one goroutine
// each.
type Datagrams struct {
	Conn *Conn

	out, in []byte
}

// NewDatagrams returns the flow of a stream.
func NewDatagrams(c *Conn) *Datagrams {
	return &Datagrams{Conn: c, in: make([]byte, wire.MaxDatagramSize)}
}

// Send sends one message: in one packet and once if it fits one, else in
// fragments, of which lost ones are sent again for a while. As with UDP, no
// error does not mean it arrives; what there is no room for is dropped.
func (d *Datagrams) Send(host string, port uint16, b []byte) error {
	d.out = append(wire.AppendDatagramTarget(d.out[:0], host, port), b...)
	if len(d.out) <= wire.MaxDatagramSize {
		return d.Conn.SendDatagram(d.out)
	}
	err := d.Conn.SendMessage(d.out)
	switch {
	case errors.Is(err, stream.ErrTooLarge):
		return ErrTooLarge
	case errors.Is(err, stream.ErrWouldBlock):
		return nil
	}
	return err
}

// Receive waits for the next message. data is valid until the next call.
func (d *Datagrams) Receive() (host string, port uint16, data []byte, err error) {
	for {
		n, err := d.Conn.ReadDatagram(d.in)
		if errors.Is(err, io.ErrShortBuffer) {
			d.in = make([]byte, n)
			continue
		}
		if err != nil {
			return "", 0, nil, err
		}
		if host, port, data, ok := wire.ParseDatagramTarget(d.in[:n]); ok {
			return host, port, data, nil
		}
	}
}

// Close ends the flow.
func (d *Datagrams) Close() { d.Conn.Reset() }
