package lab

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// bare is a client that has links and nothing above them: a machine, but for what it
// does with the datagrams that come.
type bare struct {
	links  *link.Endpoint
	counts trace.Counts
	pool   wire.Pool
}

// start makes its links.
func (b *bare) start(rng prng.Source) {
	b.links = link.New(link.Config{}, rng.Child("link"), &b.pool, &b.counts)
}

// PollTransmit yields the next datagram.
func (b *bare) PollTransmit(now machine.Time, to []byte) (netip.AddrPort, int, bool) {
	return b.links.PollTransmit(now, to)
}

// HandleTimer runs the links' timers.
func (b *bare) HandleTimer(now machine.Time) { b.links.HandleTimer(now) }

// NextTimer is when HandleTimer has work.
func (b *bare) NextTimer() machine.Time { return b.links.NextTimer() }

// PollJob yields nothing.
func (b *bare) PollJob() (machine.Job, bool) { return nil, false }

// HandleJob takes back nothing.
func (b *bare) HandleJob(machine.Time, machine.Job) {}
