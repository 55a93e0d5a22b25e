// Package drive runs protocol machines in real time: it owns the goroutines,
// the sockets, the clock and the workers that the machines must not have.
//
// Each machine has one Host, and each Host one goroutine, the loop, which
// moves everything through the machine in rounds:
//
//  1. wait for datagrams, the machine's timer, or a wake-up     (Carrier.Read)
//  2. datagrams in, up to roundMax                    (Machine.HandleDatagram);
//     where they are many, opened before on several goroutines  (Opener, ahead)
//  3. finished jobs in                                     (Machine.HandleJob)
//  4. timer, if it is due                                (Machine.HandleTimer)
//  5. functions of the application that wait for a turn             (Host.Do)
//  6. the application's hook                              (Config.AfterRound)
//  7. jobs out to the workers                                (Machine.PollJob)
//  8. datagrams out, up to a full batch                 (Machine.PollTransmit)
//  9. send the batch                                         (Carrier.Flush)
//
// Steps 2 to 8 hold the Host's lock.
package drive

import (
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Carrier moves datagrams: udp.Conn on a socket, mem.Conn in tests. All
// methods except Wake and Close belong to one goroutine.
type Carrier interface {
	// Addr is the carrier's own address.
	Addr() netip.AddrPort
	// Read takes what has arrived and returns how many datagrams that is. If
	// there are none it waits for the first: up to wait, without end if wait
	// is negative, not at all if it is zero. It returns 0 and no error when
	// the time is over or Wake was called, and may do so before; an error
	// means that the carrier is of no more use, net.ErrClosed that it was
	// closed.
	Read(wait time.Duration) (n int, err error)
	// At returns datagram i of the last Read. The reader may overwrite the
	// bytes; they are valid until the next Read.
	At(i int) (b []byte, from netip.AddrPort)
	// Wake makes a waiting Read, or else the next one that would wait, return.
	Wake()
	// Next returns room for one datagram of 1280 bytes, or nil when the batch
	// is full. Without a Commit it returns the same room again.
	Next() []byte
	// Commit adds the first n bytes of what Next returned to the batch.
	Commit(n int, to netip.AddrPort)
	// Flush sends the batch. What the network refuses is lost, as on a wire.
	Flush() error
	// Close ends Read with net.ErrClosed.
	Close() error
}

// Clock gives machines their time. Hosts that share one have comparable times.
type Clock struct{ start time.Time }

// NewClock returns a clock that starts now, at 0.
func NewClock() *Clock { return &Clock{start: time.Now()} }

// Now is the time since the clock started. It never goes back.
func (c *Clock) Now() machine.Time { return machine.Time(time.Since(c.start)) }

// At is the wall time of a machine's time, for people to read.
func (c *Clock) At(t machine.Time) time.Time { return c.start.Add(time.Duration(t)) }
