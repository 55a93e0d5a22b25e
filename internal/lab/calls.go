package lab

import (
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/wire"
)

// Serve has a user offer a service, which others reach by meeting points. The user
// has a view of the network. It may be called once.
func (u *User) Serve(s *Service) (err error) {
	u.key, err = service.NewKey(u.net.keys.Child("service/" + u.Node.Name))
	if err != nil {
		return err
	}
	u.offers = s
	s.reset()
	u.net.Sim.Do(u.Node, func(now machine.Time) { err = u.Core().Host(now, u.key) })
	return err
}

// Call sends a request to the service of another user, as Ask does to an exit: at
// the place-th of the meeting points where it waits now, counted around, as who has
// just read its descriptor knows them.
func (u *User) Call(to *User, place int, isolation string, body []byte, done func(now machine.Time, answer []byte, err error)) {
	a := to.key.Address()
	d := &service.Descriptor{Address: a, KEM: to.key.KEM.Public(), Meetings: to.Core().Meetings(a)}
	if n := len(d.Meetings); n > 0 {
		d.Meetings = d.Meetings[place%n:][:1]
	}
	u.ask(func(now machine.Time) (session.Ref, error) {
		return u.Core().Call(now, isolation, d, wire.Target{Network: wire.TCP, Host: a.String(), Port: 80})
	}, body, done)
}
