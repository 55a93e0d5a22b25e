package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/wire"
)

// paced has the first user write pieces of a size on one stream of its session "a",
// one every so often until end, whether or not there is room: what there is none for
// waits for the next. came is told of each when a reader behind the exit has it, with
// all before it, and how long that took from when it was to be written.
func (w *Network) paced(size int, every time.Duration, end machine.Time, came func(now machine.Time, took time.Duration)) error {
	u := w.Users[0]
	var due []machine.Time
	read := 0
	for _, g := range w.Gateways {
		g.Service.Arrived = func(now machine.Time, body []byte, _ int) {
			for ; read < len(body)/size; read++ {
				came(now, now.Sub(due[read]))
			}
		}
	}
	var ref session.Ref
	var failed error
	w.Sim.Do(u.Node, func(now machine.Time) { ref, failed = u.Core().Open(now, "a", u.target(wire.TCP)) })
	if failed != nil {
		return failed
	}
	piece, waits := make([]byte, size), 0
	w.Sim.Every(w.Sim.Now().Add(every), every, func(now machine.Time) bool {
		due = append(due, now)
		waits += size
		w.Sim.Do(u.Node, func(now machine.Time) {
			for waits > 0 {
				n, err := u.Core().Write(now, ref, piece[:min(waits, size)])
				if waits -= n; err != nil {
					return
				}
			}
		})
		return now < end
	})
	return nil
}

// session is the session of a user that has one.
func (u *User) session() *stream.Session { return u.Core().Members()[0].Core }

// entries are the Stream nodes at which the users enter.
func (w *Network) entries() (out []*Gateway) {
	for _, g := range w.Gateways {
		if g.Core().Admitted() > 0 {
			out = append(out, g)
		}
	}
	return out
}
