package udp

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/inbox"
)

// plainInboxMax bounds what the pump has read and the owner has not taken;
// more waits in the kernel.
const plainInboxMax = 256

// plain moves single datagrams, with what every system has. A goroutine, the
// pump, reads ahead, so that the owner can wait for a datagram, a time and a
// wake-up at once.
type plain struct {
	c    *Conn
	sock *net.UDPConn
	in   *inbox.Inbox
	pump sync.WaitGroup
}

func newPlain(c *Conn, sock *net.UDPConn) *plain {
	p := &plain{c: c, sock: sock, in: inbox.New(plainInboxMax)}
	p.pump.Go(p.run)
	return p
}

func (p *plain) run() {
	failed := 0 // reads in a row
	for {
		b := p.in.Reserve()
		if b == nil {
			return
		}
		n, from, err := p.sock.ReadFromUDPAddrPort(b)
		if err != nil && fatal(err) {
			p.in.Close(err)
			return
		}
		switch {
		case err != nil:
			p.c.count.readErrors.Add(1)
			if failed++; failed > failMax {
				time.Sleep(failPause)
			}
			n = 0
		case n == len(b):
			p.c.count.truncated.Add(1) // cut, or as long as no datagram of the network is
			failed, n = 0, 0
		default:
			p.c.count.received.Add(1)
			failed = 0
		}
		p.c.count.reads.Add(1)
		p.in.Deliver(b, n, unmap(from))
	}
}

func (p *plain) read(wait time.Duration) (int, error) { return p.in.Read(wait) }
func (p *plain) at(i int) ([]byte, netip.AddrPort)    { return p.in.At(i) }
func (p *plain) wake()                                { p.in.Wake() }

func (p *plain) close() error {
	err := p.sock.Close()
	p.in.Close(net.ErrClosed)
	p.pump.Wait()
	return err
}

// flush sends each datagram by its own system call.
func (p *plain) flush(w *writer) error {
	sent, dropped := 0, 0
	defer func() {
		p.c.count.sent.Add(uint64(sent))
		p.c.count.sendDropped.Add(uint64(dropped))
		p.c.count.writes.Add(uint64(sent + dropped))
	}()
	for i := range w.runs {
		r := &w.runs[i]
		for k := range r.count {
			off := r.off + k*r.size
			err := p.send(w.buf[off:min(off+r.size, r.end)], r.to)
			switch {
			case err == nil:
				sent++
			case fatal(err):
				return err
			default:
				dropped++
			}
		}
	}
	return nil
}

func (p *plain) send(b []byte, to netip.AddrPort) error {
	_, err := p.sock.WriteToUDPAddrPort(b, to)
	if errors.Is(err, syscall.ECONNREFUSED) {
		// The answer to an earlier datagram: this one was not tried.
		_, err = p.sock.WriteToUDPAddrPort(b, to)
	}
	return err
}
