package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// recordRegions is how many copies of the records there are; Stream nodes are dealt
	// to them in turn.
	recordRegions = 3
	// resumedWithin is by when a session must have been resumed, its exit's death being
	// found out included.
	resumedWithin = 30 * time.Second
	// deadFor is how long a node that died is down after that: until no client has a link
	// to it any more, which its restart would make useless unseen.
	deadFor = 45 * time.Second
)

// lateRecords is DF-033: exits die, and clients resume their sessions at Stream nodes
// of other regions, whose copies of the session records lag. In the control a node
// serves a session that it resumes when its claim is in the copies of all regions.
func lateRecords(r *Run) error {
	added, gone := 0, map[int]machine.Time{} // by user, when it gave its exit up
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Mixes: int(r.Param("mix_nodes")), Level: wire.Fast, Hop: wan,
		Gateway: func(c *gateway.Config) { c.Records = true },
		Client: func(c *client.Config) {
			user := added
			added++
			c.Ahead = -1 // none waits: every session that broke is resumed by its ticket
			c.Sink = func(e trace.Event) {
				if _, known := gone[user]; e.Kind == trace.ExitGone && !known {
					gone[user] = e.At
				}
			}
		}})
	if err != nil {
		return err
	}
	c := w.copyRecords(r)
	for i, g := range w.Gateways {
		g.Service.Answer = func(machine.Time, []byte) []byte { return []byte{byte(i)} }
	}
	w.AddUsers(int(r.Param("users")))
	exits := map[int]int{} // by user
	for i, u := range w.Users {
		w.askUntil(u, func(_ machine.Time, exit int) { exits[i] = exit })
	}
	if !w.Sim.RunWhile(w.Sim.Now().Add(resumedWithin), func() bool { return len(exits) < len(w.Users) }) {
		return fmt.Errorf("%d of %d users have a session within %v", len(exits), len(w.Users), resumedWithin)
	}
	resumed, want := 0, r.Scaled("sessions")
	for turn := 0; resumed < want; turn++ {
		w.Sim.RunFor(5 * time.Second) // all routes stand, and answers were acknowledged
		victim := w.Gateways[turn%len(w.Gateways)]
		var users []int
		for i := range w.Users {
			if exits[i] == turn%len(w.Gateways) {
				users = append(users, i)
			}
		}
		clear(gone)
		w.Sim.Crash(victim.Node)
		answered := map[int]machine.Time{}
		for _, i := range users {
			w.askUntil(w.Users[i], func(now machine.Time, exit int) { answered[i], exits[i] = now, exit })
		}
		if !w.Sim.RunWhile(w.Sim.Now().Add(resumedWithin), func() bool { return len(answered) < len(users) }) {
			return fmt.Errorf("%d of %d sessions of a node that died were resumed within %v", len(answered), len(users), resumedWithin)
		}
		for _, i := range users {
			found, known := gone[i]
			if !known {
				return errors.New("a client was answered by an exit that is dead")
			}
			r.ObserveTime("session_recovery", answered[i].Sub(found))
		}
		resumed += len(users)
		r.Progress("%d of %d sessions resumed", resumed, want)
		w.Sim.RunFor(deadFor)
		w.Sim.Restart(victim.Node)
	}
	w.Sim.RunFor(2 * c.lag)
	c.compare()
	r.Tally("resumed_by_ticket", uint64(min(c.claims, resumed)), uint64(resumed))
	r.Note("%d sessions resumed, %d claims, of which %d found no record yet and %d a claimed one; %d records", resumed, c.claims, c.unknown, c.again, len(c.tokens))
	return nil
}

// askUntil asks, and again whenever the session ends first, until there is an answer:
// by which exit.
func (w *Network) askUntil(u *User, answered func(now machine.Time, exit int)) {
	var try func(machine.Time)
	try = func(machine.Time) {
		u.Ask("a", []byte("again"), func(now machine.Time, answer []byte, err error) {
			if err == nil {
				answered(now, int(answer[0]))
				return
			}
			w.Sim.At(now.Add(time.Millisecond), try)
		})
	}
	try(0)
}

// recordCopies are the session records of a fleet, a copy in each region. What a node
// does is in its region's copy at once and in the others after the lag, change by
// change.
type recordCopies struct {
	run    *Run
	net    *Network
	lag    time.Duration
	copies [recordRegions]*records.Memory
	tokens map[control.TokenHash]machine.Time // of every record, when it was changed last

	claims, unknown, again int
}

func (w *Network) copyRecords(r *Run) *recordCopies {
	c := &recordCopies{run: r, net: w, lag: r.Duration("replication_lag_ms", time.Millisecond), tokens: map[control.TokenHash]machine.Time{}}
	for i := range c.copies {
		c.copies[i] = records.NewMemory()
	}
	for i, g := range w.Gateways {
		region := i % recordRegions
		g.records = func(now machine.Time) { c.poll(now, region, g) }
		if !r.Protected {
			c.hold(g)
		}
	}
	return c
}

// hold has a node wait with a resumed session until its claim is everywhere.
func (c *recordCopies) hold(g *Gateway) {
	type resumption struct {
		node    *gateway.Gateway
		session uint32
	}
	until := map[resumption]machine.Time{}
	g.Service.hold = func(now machine.Time, ev session.Event) bool {
		m := g.Core().Get(ev.Ref.Session)
		if m == nil || !m.Core.Resumed() {
			return false
		}
		of := resumption{g.Core(), ev.Ref.Session}
		at, known := until[of]
		if !known {
			at = now.Add(c.lag)
			until[of] = at
			c.net.Sim.At(at, func(machine.Time) {
				if g.Node.Up() {
					c.net.Sim.Do(g.Node, func(now machine.Time) { g.Service.release(now, g.Core()) })
				}
			})
		}
		return now < at
	}
}

// poll takes what has become of sessions at a node.
func (c *recordCopies) poll(now machine.Time, region int, g *Gateway) {
	changes, missed := g.Core().PollRecords()
	if missed > 0 {
		panic("lab: changes of records are lost")
	}
	for _, change := range changes {
		c.tokens[change.Record.Token] = now
		switch change.Kind {
		case control.RecordCreated:
			c.spread(now, region, c.receive(now, region, change.Record))
		case control.RecordClaimed:
			c.spread(now, region, c.claim(now, region, change.Record))
		case control.RecordEnded:
			for i := range c.copies {
				c.after(now, region, i, func(machine.Time) { c.copies[i].Remove(context.Background(), []control.TokenHash{change.Record.Token}) })
			}
		}
	}
}

func (c *recordCopies) claim(now machine.Time, region int, r control.SessionRecord) control.SessionRecord {
	claim, err := records.Take(context.Background(), c.copies[region], r.Token, r.Expires, seconds(now))
	if err == nil {
		r, err = c.copies[region].Get(context.Background(), r.Token, seconds(now))
	}
	if err != nil {
		panic("lab: a claim in memory: " + err.Error())
	}
	if c.claims++; claim.Again {
		c.again++
	}
	if !claim.Known {
		c.unknown++
	}
	return r
}

func (c *recordCopies) receive(now machine.Time, region int, r control.SessionRecord) control.SessionRecord {
	r, err := records.Receive(context.Background(), c.copies[region], r, seconds(now))
	if err != nil {
		panic("lab: a record in memory: " + err.Error())
	}
	return r
}

// spread brings a record to the other regions.
func (c *recordCopies) spread(now machine.Time, from int, r control.SessionRecord) {
	for i := range c.copies {
		if i == from {
			continue
		}
		c.after(now, from, i, func(then machine.Time) {
			c.receive(then, i, r)
			c.run.ObserveTime("stream_state_replication_lag", then.Sub(now))
		})
	}
}

// after calls f when what was done in a region is known in another.
func (c *recordCopies) after(now machine.Time, from, to int, f func(machine.Time)) {
	if from == to {
		f(now)
		return
	}
	c.net.Sim.At(now.Add(c.lag), f)
}

// compare looks whether all copies have come to be equal, as far as changes have had
// the time.
func (c *recordCopies) compare() {
	now := c.net.Sim.Now()
	unix := seconds(now)
	for token, changed := range c.tokens { // counts only: the order reaches nothing
		if now.Sub(changed) <= c.lag {
			continue
		}
		first, firstErr := c.copies[0].Get(context.Background(), token, unix)
		for _, other := range c.copies[1:] {
			got, err := other.Get(context.Background(), token, unix)
			c.run.Trial("copies_differ", got != first || !errors.Is(err, firstErr))
		}
	}
}

// seconds is a unix second of the simulated network, whose clock began at 0.
func seconds(t machine.Time) int64 { return int64(t / machine.Time(time.Second)) }
