package lab

import (
	"bytes"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// turnEpoch is the epoch at which a period of onion keys begins, turnLead how
	// long before it a run begins, and after it ends.
	turnEpoch = directoryEpoch + 16
	turnLead  = 35 * time.Minute
	// A session asks sessionAsks times, sessionAskEvery apart; one that waits longer
	// than sessionAskMax for an answer was affected.
	sessionAsks     = 10
	sessionAskEvery = 5 * time.Second
	sessionAskMax   = time.Second
)

// turnClocks are by how much the clocks of users are off, in turn.
var turnClocks = []time.Duration{0, -time.Hour, time.Hour}

// renewedKeys is DF-027: the onion keys of all nodes are renewed within an hour,
// since their clocks differ by as much, while users whose clocks are an hour off
// either way begin sessions.
func renewedKeys(r *Run) error {
	return r.turnKeys(r.Protected, r.Protected, func(_ time.Duration, affected bool) { r.Trial("affected_sessions", affected) })
}

// turnKeys has a network go through a turn of its onion keys, with those of the
// next and of the previous period accepted or not, and judges each session by
// the clock of its user.
func (r *Run) turnKeys(next, previous bool, judge func(clock time.Duration, affected bool)) error {
	wall := directory.Params{}.Begin(turnEpoch) - int64(turnLead/time.Second)
	added := 0
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Mixes: int(r.Param("mix_nodes")), Level: wire.Fast, Hop: wan,
		Client: func(c *client.Config) {
			c.Stream.UnixStart = wall + int64(turnClocks[added%len(turnClocks)]/time.Second)
			added++
		}})
	if err != nil {
		return err
	}
	keys, err := w.nextOnions()
	if err != nil {
		return err
	}
	before, err := w.viewAt(turnEpoch-1, wall, nil)
	if err != nil {
		return err
	}
	for range r.Scaled("users") {
		u := w.AddUser()
		w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, before) })
	}
	turn := machine.Time(turnLead)
	clocks := w.Sim.Rand("clocks of nodes")
	for i, key := range keys {
		off := time.Duration(clocks.Uint64N(uint64(time.Hour))) - 30*time.Minute
		w.turnAt(i, key, turn.Add(off), next, previous)
	}
	var failed error
	w.Sim.At(turn, func(machine.Time) {
		after, err := w.viewAt(turnEpoch, wall+int64(turnLead/time.Second), nil)
		if failed = err; err == nil {
			w.Distribute(after)
		}
	})
	end := turn.Add(turnLead)
	every := r.Duration("session_every_s", time.Second)
	for i, u := range w.Users {
		clock := turnClocks[i%len(turnClocks)]
		serial := 0
		w.Sim.Every(machine.Time(30*time.Second)+machine.Time(every)*machine.Time(i)/machine.Time(len(w.Users)), every, func(now machine.Time) bool {
			serial++
			w.sessionOf(u, fmt.Sprint("session ", serial), func(affected bool) { judge(clock, affected) })
			return now.Add(every+sessionAsks*sessionAskEvery+sessionAskMax) < end
		})
	}
	w.Sim.RunUntil(end)
	for i := range keys {
		r.Observe("mix_key_rotation_events", float64(w.table(i).Counts[trace.KeyRotations]))
	}
	n := w.counts()
	r.Note("%d nodes turned within an hour; set-ups: %d accepted, %d refused because the node did not have the key", len(keys), n[trace.SetupDone], n[trace.DropSetupAuth])
	return failed
}

// tabled is what Stream nodes and Mix nodes have in common.
type tabled struct {
	*mix.Table
	Counts *trace.Counts
}

// table is the table of routes of the i-th node, Stream nodes first.
func (w *Network) table(i int) tabled {
	if i < len(w.Gateways) {
		core := w.Gateways[i].Core()
		return tabled{core.Table, &core.Counts}
	}
	core := w.Relays[i-len(w.Gateways)].Core()
	return tabled{core.Table, &core.Counts}
}

// nextOnions makes the onion keys of the next period and has the nodes publish
// them.
func (w *Network) nextOnions() (keys []*seal.KEMPrivate, err error) {
	for i := range w.nodes {
		var seed [seal.KEMSeedSize]byte
		w.keys.Stream(fmt.Sprint("next onion ", i)).Read(seed[:])
		key, err := seal.NewKEMPrivate(&seed)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
		if err := w.describe(i, func(n *directory.Node) {
			n.Onion = append(n.Onion, directory.OnionKey{Epoch: turnEpoch, Key: key.Public().Bytes()})
		}); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// turnAt has a node use its next onion key from a time on. It accepts it from
// now on, which is within an epoch, and the one before for an epoch more.
func (w *Network) turnAt(i int, key *seal.KEMPrivate, at machine.Time, next, previous bool) {
	if next {
		w.table(i).AcceptNext(key)
	}
	w.Sim.At(at, func(now machine.Time) {
		w.table(i).RotateOnion(now, key)
		if !previous {
			w.table(i).DropPrevious()
		}
	})
	w.Sim.At(at.Add(time.Hour), func(machine.Time) { w.table(i).DropPrevious() })
}

// sessionOf begins a session, asks in it, and judges it once.
func (w *Network) sessionOf(u *User, name string, judge func(affected bool)) {
	good := 0
	for i := range sessionAsks {
		w.Sim.After(time.Duration(i)*sessionAskEvery, func(asked machine.Time) {
			body := []byte(name)
			u.Ask(name, body, func(now machine.Time, answer []byte, err error) {
				if err == nil && bytes.Equal(answer, body) && now.Sub(asked) <= sessionAskMax {
					good++
				}
			})
		})
	}
	w.Sim.After(sessionAsks*sessionAskEvery+sessionAskMax, func(machine.Time) { judge(good < sessionAsks) })
}
