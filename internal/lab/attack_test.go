package lab

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// correlate runs flows through a network and attacks them: at one end the user's
// link, at the other what the exit has to do with the target. The exit's side
// is seen as the requests that the service gets, which shaping does not cover.
func correlate(t *testing.T, level wire.Level, class obfs.Class, flows int, length time.Duration) Attack {
	w, err := bareRun(1).NewNetwork(Plan{Streams: 10, Mixes: 15, Level: level,
		Hop:     sim.Link{Latency: 10 * time.Millisecond, Jitter: 2 * time.Millisecond},
		Gateway: func(c *gateway.Config) { c.Class = class },
		Client:  func(c *client.Config) { c.RoutesPerSession, c.Ahead, c.Class = 1, -1, class }})
	if err != nil {
		t.Fatal(err)
	}
	w.AddUsers(flows)
	entry := make([]*sim.View, flows)
	answers := 0
	c := Correlator{Begin: machine.Time(5 * time.Second), Bin: 100 * time.Millisecond, LagMax: time.Second}
	c.End = c.Begin.Add(length)
	exit := make([][]float64, flows)
	for i, u := range w.Users {
		entry[i] = w.Sim.Tap(u.Node.Addr(), netip.AddrPort{}, sim.Departure)
		exit[i] = make([]float64, len(c.Counts()))
	}
	// The first byte of a request names its flow, for the tap behind the exit.
	for _, g := range w.Gateways {
		g.Service.Answer = func(now machine.Time, body []byte) []byte {
			if at := now.Sub(c.Begin); at >= 0 && int(at/c.Bin) < len(exit[0]) {
				exit[body[0]][at/c.Bin] += float64(1 + len(body)/wire.SessionPacketSize)
			}
			return body[:1]
		}
	}
	for i, u := range w.Users {
		u.Ask("a", []byte{byte(i)}, func(_ machine.Time, _ []byte, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		pages(w, u, i, c, &answers)
	}
	w.Sim.RunUntil(c.End.Add(5 * time.Second))
	if answers < flows*int(length/time.Second) {
		t.Fatalf("%d answers only", answers)
	}
	scores := make([][]float64, flows)
	for i := range scores {
		seen := c.Counts(entry[i])
		scores[i] = make([]float64, flows)
		for j := range scores[i] {
			scores[i][j] = c.Score(seen, exit[j])
		}
	}
	var counts trace.Counts
	for _, u := range w.Users {
		for k, n := range u.Core().Stats() {
			counts[k] += n
		}
	}
	a := Judge(scores, prng.FromUint64(1).Stream("resamples"))
	t.Logf("%v, class %d, %d real cells and %d dummies of %d users: %+v", level, class, counts[trace.RealOut], counts[trace.DummyOut], flows, a)
	return a
}

// pages is a person's traffic: now and then a few requests of several packets.
func pages(w *Network, u *User, i int, c Correlator, answers *int) {
	rng := w.Sim.Rand("page sizes/" + u.Node.Name)
	w.Sim.At(c.Begin, func(machine.Time) {
		w.Poisson("pages/"+u.Node.Name, 1, c.End, func(machine.Time, int) {
			for range 1 + rng.IntN(4) {
				body := make([]byte, 1+rng.IntN(4000))
				body[0] = byte(i)
				u.Ask("a", body, func(_ machine.Time, _ []byte, err error) {
					if err == nil {
						*answers++
					}
				})
			}
		})
	})
}

const (
	attackedFlows = 30
	attackedFor   = 12 * time.Second
	// gate is what a guess of 30 flows stays below: 0.5 and three standard
	// errors.
	gate = 0.65
)

// The gate: what tells every flow at FAST is about as good as guessing at
// STANDARD in the interactive default class, of which a person uses little.
func TestFlowCorrelation(t *testing.T) {
	control := correlate(t, wire.Fast, pinned, attackedFlows, attackedFor)
	if control.AUC < 0.99 || control.Top1 < 0.9 {
		t.Errorf("control: the attack does not find unshaped flows: %+v", control)
	}
	if a := correlate(t, wire.Standard, pinned, attackedFlows, attackedFor); a.AUC > gate || a.Top1 > 0.2 {
		t.Errorf("flows of one class are told apart: %+v", a)
	}
}

// The same load in a class that its bursts fill. Cells that wait leave at the
// times of the slots, and where these are a Poisson process their irregularity
// is the user's own: it is seen at both ends (docs/threat-model.md). The bound
// is on how bad it is known to be; FAST is at 1.00.
func TestFlowCorrelationInABusyClass(t *testing.T) {
	const known = 0.96
	a := correlate(t, wire.Standard, 20, attackedFlows, 2*attackedFor)
	if a.AUC > known {
		t.Errorf("flows of a busy class are told apart better than is known: %+v", a)
	}
	t.Logf("class 20 under load: %+v", a)
}

func TestJudgeKnowsTheExtremes(t *testing.T) {
	n := 20
	perfect, blind := make([][]float64, n), make([][]float64, n)
	for i := range n {
		perfect[i], blind[i] = make([]float64, n), make([]float64, n)
		perfect[i][i] = 1
	}
	rng := prng.FromUint64(1).Stream("test")
	if a := Judge(perfect, rng); a.AUC != 1 || math.Abs(a.Top1-1) > 1e-9 || math.Abs(a.TPR-1) > 1e-9 || a.Interval != [2]float64{1, 1} {
		t.Errorf("perfect: %+v", a)
	}
	if a := Judge(blind, rng); a.AUC != 0.5 || a.TPR != 0 || a.Interval != [2]float64{0.5, 0.5} {
		t.Errorf("blind: %+v", a)
	}
	x := []float64{1, 2, 3, 4, 0, 0}
	c := Correlator{End: machine.Time(4 * time.Second), Bin: time.Second, LagMax: 2 * time.Second}
	if s := c.Score(x, []float64{9, 0, 1, 2, 3, 4}); math.Abs(s-1) > 1e-9 {
		t.Errorf("a shifted copy scores %v", s)
	}
	if pearson([]float64{1, 1}, []float64{1, 2}) != 0 {
		t.Error("a constant correlates")
	}
}
