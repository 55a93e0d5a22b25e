package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// watchFailover is how long sessions are watched after the kill: longer than
// the objective, so that missing it shows.
const watchFailover = 40 * time.Second

// killMixes is SCL-012: a tenth of the mixes die at one instant under load.
func killMixes(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Mixes: int(r.Param("mix_nodes")), Level: wire.Fast, Hop: wan,
		Client: func(c *client.Config) {
			if !r.Protected {
				c.RoutesPerSession, c.Ahead, c.Patient = 1, -1, true
			}
		}})
	if err != nil {
		return err
	}
	rate := r.Param("messages_per_minute") / 60 * r.Scale
	users := max(usersLeast, int(rate/messagesPerUser))
	w.AddUsers(users)
	if err := w.WaitReadyOrOpen(60 * time.Second); err != nil {
		return err
	}
	kill := w.Sim.Now().Add(10 * time.Second)
	end := kill.Add(watchFailover)
	// Of each session: its first message after the kill, and the first answer
	// to any message sent after the kill.
	first, back := make([]machine.Time, users), make([]machine.Time, users)
	var usual time.Duration // the longest answer before the kill
	w.Poisson("messages", rate, end, func(sent machine.Time, i int) {
		u := i % users
		if sent >= kill && first[u] == 0 {
			first[u] = sent
		}
		w.Users[u].Ask("a", make([]byte, 256), func(now machine.Time, _ []byte, err error) {
			switch {
			case err != nil:
			case now < kill:
				usual = max(usual, now.Sub(sent))
			case sent >= kill && back[u] == 0:
				back[u] = now
			}
		})
	})
	w.Sim.RunUntil(kill)
	r.Progress("%d users, longest answer %v; killing mixes", users, usual)
	dead := int(r.Param("kill_share") * float64(len(w.Relays)))
	order := w.Sim.Rand("kill")
	mixes := append([]*Relay(nil), w.Relays...)
	order.Shuffle(len(mixes), func(i, j int) { mixes[i], mixes[j] = mixes[j], mixes[i] })
	for _, m := range mixes[:dead] {
		w.Sim.Crash(m.Node)
	}
	w.Sim.RunUntil(end)
	// A session was hit if its first message after the kill took longer than
	// any before it. One that never came back counts with the whole watch.
	hit := 0
	for u := range users {
		if first[u] == 0 {
			continue
		}
		if back[u] == 0 {
			back[u] = end
		}
		if back[u].Sub(first[u]) > usual {
			hit++
			r.Observe("mix_failover_duration", back[u].Sub(kill).Seconds())
		}
	}
	r.Note("%d of %d mixes killed; %d of %d sessions hit", dead, len(mixes), hit, users)
	return nil
}

const (
	// messagesPerUser is the message rate of one session.
	messagesPerUser = 10
	// usersLeast are enough that the kill hits some at any scale.
	usersLeast = 30
)
