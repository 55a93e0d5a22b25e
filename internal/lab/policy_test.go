package lab

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// A policy of the control plane admits, asks clients for work, which they do, or
// refuses; without an answer nobody is admitted, and nobody waits for ever.
func TestTheControlPlaneDecides(t *testing.T) {
	for _, c := range []struct {
		what     string
		decision control.Decision
		answered bool
		ready    bool
	}{
		{"accepts", control.Decision{CacheFor: time.Hour}, true, true},
		{"asks for work", control.Decision{CacheFor: time.Hour, Work: 12}, true, true},
		{"refuses", control.Decision{CacheFor: time.Hour, Refused: wire.RefusedPolicy}, true, false},
		{"is gone", control.Decision{}, false, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := NewRun(&Scenario{}, 1)
			w, err := r.NewNetwork(Plan{Streams: 2, Mixes: 3, Level: wire.Fast, Gateway: func(g *gateway.Config) { g.Policy.Central = true }})
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range w.Gateways {
				if c.answered {
					w.answerChecks(g, c.decision, func() time.Duration { return time.Millisecond })
					continue
				}
				g.checks = func(now machine.Time) {
					for q, ok := g.Core().PollCheck(now); ok; q, ok = g.Core().PollCheck(now) {
						g.Core().HandleFault(now, q)
					}
				}
			}
			w.AddUsers(1)
			err = w.WaitReady(15 * time.Second)
			n := w.counts()
			if (err == nil) != c.ready || (n[trace.WorkAsked] > 0) != (c.decision.Work > 0) || (n[trace.AdmissionShed] > 0) == c.answered {
				t.Errorf("ready: %v; %d challenges, %d told that the entry is busy", err, n[trace.WorkAsked], n[trace.AdmissionShed])
			}
		})
	}
}
