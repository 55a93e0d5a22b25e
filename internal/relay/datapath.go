// Package relay is the Mix node: a hop and nothing else. It admits links from
// nodes of the directory only, peels or adds one layer of each cell, delays
// it, and passes it on.
package relay

// The path of a cell through a relay, in packet order:
//
//  1. HandleDatagram: the link opens the datagram (link.Endpoint.HandleDatagram).
//  2. HandleDatagram: the table opens the cell's layer into a frame for the
//     next link and queues it for its delay (mix.Table.HandleFrame).
//     In a batch whose datagrams are opened before their turn, on any number of
//     goroutines (hop.Hop.OpenAhead), HandleOpened does 1 and 2 with what was found.
//  3. PollTransmit: cells whose delay is over go to their link's queue
//     (hop.Hop.Forward).
//  4. PollTransmit: the link seals the frame into the caller's buffer
//     (link.Endpoint.PollTransmit).
//
// Set-ups take the same path with a key decapsulation, a job, between 2 and 3.

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
)

// Relay is a machine (see machine.Machine).
type Relay struct {
	*hop.Hop
}

// New returns a relay. cfg's Clients and EndOfRoute do not apply to it.
func New(cfg hop.Config, rng prng.Source) *Relay {
	cfg.Clients, cfg.EndOfRoute = false, false
	return &Relay{hop.New(cfg, rng)}
}

// HandleDatagram takes a datagram from a neighbour.
func (r *Relay) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	r.HandleOpened(now, from, b, -1)
}

// HandleOpened takes datagram i of a batch (see machine.Opener).
func (r *Relay) HandleOpened(now machine.Time, from netip.AddrPort, b []byte, i int) {
	if id, frame, cell, ok := r.Receive(now, from, b, i); ok {
		r.Table.HandlePeeled(now, id, frame, cell)
	}
}

// PollTransmit yields the next datagram.
func (r *Relay) PollTransmit(now machine.Time, b []byte) (to netip.AddrPort, n int, ok bool) {
	r.LinkEvents(now, nil)
	r.Forward(now)
	return r.Links.PollTransmit(now, b)
}

// PollJob yields a key decapsulation.
func (r *Relay) PollJob() (machine.Job, bool) { return r.Table.PollJob() }

// HandleJob takes it back.
func (r *Relay) HandleJob(now machine.Time, j machine.Job) { r.Table.HandleJob(now, j) }

// Stats returns the counters.
func (r *Relay) Stats() trace.Counts { return r.Counts }
