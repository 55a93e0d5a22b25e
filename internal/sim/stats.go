package sim

// Stats is what a network has done so far.
type Stats struct {
	Events uint64 // everything that was handled
	Timers uint64 // HandleTimer calls
	Jobs   uint64 // jobs run

	Sent      uint64 // datagrams put on a wire
	SentBytes uint64
	Delivered uint64 // datagrams handed to a machine

	Duplicated  uint64 // copies that a link made
	Injected    uint64 // datagrams that no machine sent
	Lost        uint64 // dropped by a link's chance
	QueueFull   uint64 // dropped before a bandwidth or a processor
	Cut         uint64 // dropped by a partition
	Unreachable uint64 // nobody at the address, or its machine down
	Intercepted uint64 // dropped by the interceptor
}

// NodeStats is what one node has done so far, over all its incarnations.
type NodeStats struct {
	Sent, Received uint64 // datagrams

	// Of batches: datagrams opened before their turn; of these, open before an
	// earlier one, which they had to wait for, and the most of one batch; and
	// datagrams that were handled after one that came later.
	Opened, Corrections, HeldMost, Overtaken uint64
}

// Stats returns what the network has done so far.
func (n *Network) Stats() Stats { return n.stats }

// Dropped is the number of datagrams that reached no machine, whatever the
// reason.
func (s Stats) Dropped() uint64 {
	return s.Lost + s.QueueFull + s.Cut + s.Unreachable + s.Intercepted
}
