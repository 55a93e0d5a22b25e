package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// continents are the regions of SCL-014.
var continents = []string{"eu", "us", "ap"}

// withinRegion is a link inside a region.
const withinRegion = 5 * time.Millisecond

// global is SCL-014: users of three regions send requests, whose exits are in
// their own region or in another. Clients say where they are, and enter there.
func global(r *Run) error {
	user := 0
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Mixes: int(r.Param("mix_nodes")), Level: wire.Standard, Regions: continents,
		Hop: sim.Link{Latency: withinRegion},
		Client: func(c *client.Config) {
			c.Ahead = -1
			if r.Protected {
				c.Region = continents[user%len(continents)]
			}
			user++
		}})
	if err != nil {
		return err
	}
	between := sim.Link{Latency: r.Duration("between_ms", time.Millisecond)}
	for _, from := range continents {
		for _, to := range continents {
			if from != to {
				w.Sim.SetRegionLink(from, to, between)
			}
		}
	}
	for i, g := range w.Gateways { // the first byte of an answer is the exit's region
		g.Service.Answer = func(_ machine.Time, body []byte) []byte { return append([]byte{byte(i % len(continents))}, body...) }
	}
	perRegion := r.Param("requests_per_second") * r.Scale
	users := len(continents) * max(1, int(perRegion)/requestsPerUser)
	for i := range users {
		u := w.AddUserIn(continents[i%len(continents)])
		w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, w.View) })
	}
	w.Sim.RunFor(15 * time.Second)
	end := w.Sim.Now().Add(r.Duration("seconds", time.Second))
	failed, sent := 0, 0
	w.Poisson("requests", perRegion*float64(len(continents)), end, func(asked machine.Time, i int) {
		sent++
		w.Users[i%users].Ask("", make([]byte, 64), func(now machine.Time, answer []byte, err error) {
			switch {
			case err != nil:
				failed++
			case int(answer[0]) != i%users%len(continents):
				r.ObserveTime("latency_cross_region", now.Sub(asked))
			default:
				r.ObserveTime("latency_in_region", now.Sub(asked))
			}
		})
	})
	w.Sim.RunUntil(end.Add(5 * time.Second))
	waiting := 0
	for _, u := range w.Users {
		waiting += u.Pending()
	}
	r.Tally("request_error", uint64(failed+waiting), uint64(sent))
	r.Note("%d users at STANDARD, %d requests a second each; %v between regions and %v inside them, one way", users, requestsPerUser, between.Latency, withinRegion)
	return nil
}
