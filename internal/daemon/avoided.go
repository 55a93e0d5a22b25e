package daemon

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
)

// avoided says which nodes a client leaves out of its paths, why, and for how long
// still: for the status page of a network on this machine, whose user's nodes they
// all are.
func avoided(nodes []client.Avoided) (out []string) {
	for _, a := range nodes {
		out = append(out, fmt.Sprintf("%x %v %v", a.Node[:4], a.Why, a.For.Round(time.Second)))
	}
	return out
}

// Avoids lists the nodes that the client leaves out of its paths.
func (c *Client) Avoids() (out []client.Avoided) {
	c.host.Do(func(now machine.Time) { out = c.core.Avoids(now) })
	return out
}

// tellingAvoided is a sink that tells a log, beside another sink, why nodes are left
// out. It does not name them: a log that is passed on must not tell of routes.
func tellingAvoided(to trace.Sink, log *slog.Logger) trace.Sink {
	return func(ev trace.Event) {
		if ev.Kind == trace.NodeAvoided {
			log.Info("a node is left out of paths for a while", "reason", trace.Reason(ev.A).String())
		}
		if to != nil {
			to(ev)
		}
	}
}
