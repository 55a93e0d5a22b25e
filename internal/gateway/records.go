package gateway

import "github.com/nyxnet/nyx/internal/control"

// keepRecords has the gateway tell what becomes of session records. An entry's are of
// tokens, an exit's of tickets: nothing in them says which belong to one client.
func (g *Gateway) keepRecords() {
	g.changes = control.RecordChanges{UnixStart: g.cfg.Stream.UnixStart}
	g.admission.Changes = &g.changes
	g.acceptor.Tickets.Given = func(ticket []byte, until int64) {
		g.changes.Put(control.RecordCreated, control.SessionRecord{Token: control.HashTicket(ticket), Version: 1, Expires: until})
	}
	g.acceptor.Tickets.Taken = func(ticket []byte, until int64) {
		g.changes.Put(control.RecordClaimed, control.SessionRecord{Token: control.HashTicket(ticket), Expires: until})
	}
}

// PollRecords yields what has become of session records since it was last called, and
// how much of all there was it had no room for. The owner polls after each round.
func (g *Gateway) PollRecords() (changes []control.RecordChange, missed uint64) {
	return g.changes.Take(), g.changes.Missed
}
