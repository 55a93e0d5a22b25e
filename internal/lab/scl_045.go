package lab

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// rollingUsers each send a datagram every rollingEvery, all the time. Nothing
// repeats a datagram, so that what the mixes drop is what does not arrive.
const (
	rollingUsers = 40
	rollingEvery = 200 * time.Millisecond
	// downForRestart is how long a mix is away.
	downForRestart = 20 * time.Second
)

// rollingRestarts is SCL-045: mixes restart one after the other, of those that
// are in use. Each announces it first by a capacity of 0 in the directory, and
// takes its place again afterwards.
func rollingRestarts(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Mixes: int(r.Param("mix_nodes")), Level: wire.Fast, Hop: wan,
		Client: func(c *client.Config) { c.Ahead = -1 }})
	if err != nil {
		return err
	}
	w.AddUsers(rollingUsers)
	if err := w.WaitReadyOrOpen(60 * time.Second); err != nil {
		return err
	}
	restarts := r.Scaled("restarts_per_hour")
	gap := time.Duration(float64(time.Hour) / r.Param("restarts_per_hour"))
	senders := rollingSenders(w, w.Sim.Now().Add(time.Duration(restarts)*gap))
	w.Sim.RunFor(5 * time.Second)
	pick, drain := w.Sim.Rand("restarts"), r.Duration("drain_s", time.Second)
	capacity := w.nodes[len(w.Gateways)].node.Capacity
	for i := range restarts {
		begun := w.Sim.Now()
		place := pick.IntN(len(w.Relays))
		for w.Relays[place].Core().Table.Routes() == 0 {
			place = (place + 1) % len(w.Relays)
		}
		mix := w.Relays[place]
		var hit []*rollingSender // whose session crosses it when the restart is decided
		for _, s := range senders {
			if s.user.Core().Through(mix.ID) > 0 {
				hit = append(hit, s)
			}
		}
		if r.Protected {
			if err := w.announce(len(w.Gateways)+place, 0); err != nil {
				return err
			}
		}
		w.Sim.RunUntil(begun.Add(drain))
		r.Observe("routes_at_stop", float64(mix.Core().Table.Routes()))
		from := w.Sim.Now().Add(-time.Second)
		w.Sim.Crash(mix.Node)
		w.Sim.RunFor(downForRestart)
		w.Sim.Restart(mix.Node)
		until := w.Sim.Now()
		if r.Protected {
			if err := w.announce(len(w.Gateways)+place, capacity); err != nil {
				return err
			}
		}
		w.Sim.RunUntil(begun.Add(gap))
		for _, s := range hit {
			lost, sent := s.count(from, until)
			r.Tally("mix_packet_drop", lost, sent)
		}
		r.Progress("%d of %d restarts, %d sessions hit by the last", i+1, restarts, len(hit))
	}
	w.Sim.RunFor(5 * time.Second)
	var allLost, allSent uint64
	for _, s := range senders {
		lost, sent := s.count(0, machine.Never)
		allLost, allSent = allLost+lost, allSent+sent
	}
	if allSent == 0 {
		return errors.New("no datagram was sent")
	}
	r.Tally("mix_packet_drop_all", allLost, allSent)
	r.Note("%d restarts of mixes in use; mix_packet_drop is of the sessions that crossed the mix when its restart was decided, from a second before it stopped until it was back; mix_packet_drop_all is of all sessions all the time, what the specification's figure is read as at the least", restarts)
	return nil
}

// announce has a node's capacity known: the next document says it, and clients
// have it within a poll.
func (w *Network) announce(i int, capacity uint32) error {
	if err := w.SetCapacity(i, capacity); err != nil {
		return err
	}
	v, err := w.ViewOf(nil)
	if err != nil {
		return err
	}
	w.Distribute(v)
	return nil
}

// rollingSender is a user that sends datagrams to the service, and which arrived.
type rollingSender struct {
	user    *User
	sent    []machine.Time
	arrived map[uint32]bool
}

// rollingSenders has every user send until end.
func rollingSenders(w *Network, end machine.Time) (senders []*rollingSender) {
	for _, u := range w.Users {
		senders = append(senders, &rollingSender{user: u, arrived: map[uint32]bool{}})
	}
	for _, g := range w.Gateways {
		g.Service.Message = func(_ machine.Time, b []byte) {
			senders[binary.BigEndian.Uint32(b)].arrived[binary.BigEndian.Uint32(b[4:])] = true
		}
	}
	for i, s := range senders {
		s.user.Flow("a", func(now machine.Time, send func(machine.Time, []byte) error) {
			phase := time.Duration(i) * rollingEvery / time.Duration(len(senders))
			w.Sim.Every(now.Add(phase), rollingEvery, func(machine.Time) bool {
				w.Sim.Do(s.user.Node, func(now machine.Time) {
					serial := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(i)), uint32(len(s.sent)))
					if send(now, serial) == nil {
						s.sent = append(s.sent, w.Sim.Now())
					}
				})
				return w.Sim.Now() < end
			})
		})
	}
	return senders
}

// count is of the datagrams sent within a time.
func (s *rollingSender) count(from, until machine.Time) (lost, sent uint64) {
	for i, at := range s.sent {
		if at >= from && at < until {
			sent++
			if !s.arrived[uint32(i)] {
				lost++
			}
		}
	}
	return lost, sent
}
