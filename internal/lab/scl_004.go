package lab

import (
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// flowsPerUser share a client, as the flows of one host do.
	flowsPerUser = 4
	// flowAsks is how often a flow asks for something.
	flowAsks = 2 * time.Second
	// drainFor is from when mixes say that they drain until they stop: a round, a
	// poll, the time in which routes move, and what is still on its way.
	drainFor = 40 * time.Second
	// stoppedFor is how long they are away.
	stoppedFor = 20 * time.Second
)

// reconfigure is SCL-004: flows over five paths each; in every round some mixes
// drain and stop, and what leads through them moves. Without the bulletins that
// say so, paths are built anew when they are found dead.
func reconfigure(r *Run) error {
	hit := map[int]int{} // by user: routes that are to be replaced (control)
	var stopped machine.Time
	serial := 0
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Mixes: int(r.Param("mix_nodes")), Level: wire.Fast, Hop: wan,
		Client: func(c *client.Config) {
			c.RoutesPerSession, c.Ahead = int(r.Param("paths_per_flow")), -1
			user := serial
			serial++
			c.Sink = func(e trace.Event) {
				switch {
				case e.Kind == trace.RouteMoved:
					r.ObserveTime("route_update_latency", time.Duration(e.B))
				case e.Kind == trace.RouteUp && hit[user] > 0 && !r.Protected:
					hit[user]--
					r.ObserveTime("route_update_latency", e.At.Sub(stopped))
				}
			}
		}})
	if err != nil {
		return err
	}
	flows := max(r.Scaled("flows"), flowsPerUser)
	w.AddUsers((flows + flowsPerUser - 1) / flowsPerUser)
	bulletins, err := w.NewBulletins()
	if err != nil {
		return err
	}
	failed, asked := w.askFlows(flows)
	w.Sim.RunFor(20 * time.Second)
	mixes, order := w.Relays, w.Sim.Rand("drains")
	away := int(r.Param("mixes_away"))
	for round := range int(r.Param("rounds")) {
		order.Shuffle(len(mixes), func(i, j int) { mixes[i], mixes[j] = mixes[j], mixes[i] })
		if r.Protected {
			for _, m := range mixes[:away] {
				bulletins.States[m.ID] = directory.State{Flags: directory.Draining, Score: directory.ScoreMax}
			}
		}
		w.Sim.RunFor(drainFor)
		stopped = w.Sim.Now()
		through := 0
		for i, u := range w.Users {
			hit[i] = 0
			for _, m := range mixes[:away] {
				hit[i] += u.Core().Through(m.ID)
			}
			through += hit[i]
		}
		r.Observe("routes_at_stop", float64(through))
		for _, m := range mixes[:away] {
			w.Sim.Crash(m.Node)
		}
		w.Sim.RunFor(stoppedFor)
		for _, m := range mixes[:away] {
			w.Sim.Restart(m.Node)
			delete(bulletins.States, m.ID)
		}
		for i := range w.Users {
			for ; hit[i] > 0 && !r.Protected; hit[i]-- {
				r.ObserveTime("route_update_latency", stoppedFor) // not replaced yet
			}
		}
		r.Progress("round %d, %d routes through what stopped", round+1, through)
		w.Sim.RunFor(directory.RoundLength + bulletinPoll)
	}
	r.Tally("flow_failed", uint64(*failed), uint64(*asked))
	r.Note("%d flows of %v paths; the objective is on the greatest time, from when a path's turn to move comes, drawn within 10 s of the news, until another carries on in its place", flows, r.Param("paths_per_flow"))
	return nil
}

// askFlows has every flow ask at times of its own until the end.
func (w *Network) askFlows(flows int) (failed, asked *int) {
	failed, asked = new(int), new(int)
	for i := range flows {
		u, name := w.Users[i%len(w.Users)], fmt.Sprint("flow ", i)
		phase := time.Duration(i) * flowAsks / time.Duration(flows)
		w.Sim.Every(w.Sim.Now().Add(phase), flowAsks, func(machine.Time) bool {
			*asked++
			u.Ask(name, make([]byte, 200), func(_ machine.Time, _ []byte, err error) {
				if err != nil {
					*failed++
				}
			})
			return true
		})
	}
	return failed, asked
}
