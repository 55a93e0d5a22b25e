package lab

import (
	"fmt"
	"math"
	"slices"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// sampledNode is a node of which one report in ten is sent. Its load is drawn: a level
// of its own, waves of minutes and of ten seconds, and noise; now and then it drops.
type sampledNode struct {
	id       wire.NodeID
	capacity uint32
	level    float64
	phase    float64
	trouble  bool // it drops in some seconds
	draw     *prng.Stream
	sampler  *control.Sampler
}

// sampledTelemetry is DF-025: what one report in ten says of a network, window by
// window, beside what all of them say.
func sampledTelemetry(r *Run) error {
	nodes, oneIn := r.Scaled("nodes"), int(r.Param("one_in"))
	src := r.Source("sampled")
	var all []*sampledNode
	for i := range nodes {
		n := &sampledNode{id: wire.NodeID{byte(i >> 8), byte(i)}, draw: src.Stream(fmt.Sprint("load ", i))}
		n.capacity = []uint32{20_000, 50_000, 100_000}[n.draw.IntN(3)]
		n.level, n.phase = 0.1+0.6*math.Pow(unit(n.draw), 2), 2*math.Pi*unit(n.draw)
		n.trouble = n.draw.Chance(100_000)
		n.sampler = control.NewSampler(src.Stream(fmt.Sprint("sampler ", i)))
		n.sampler.OneIn = oneIn
		all = append(all, n)
	}
	sampled, whole := control.NewEstimator(), control.NewEstimator()
	var body []byte
	window := int(r.Param("window_minutes")) * 60
	for second := range int(r.Param("windows")) * window {
		for i, n := range all {
			t := n.report(second)
			exact := t
			exact.StandsFor = 1
			whole.Take(n.id, &exact)
			sent := n.sampler.Take(&t)
			if !r.Protected { // a fixed tenth of the nodes, which sends everything
				sent, t.StandsFor = i < nodes/oneIn, uint8(oneIn)
			}
			if sent {
				body = t.Append(body[:0])
				told, _, err := wire.ParseTelemetry(body)
				if err != nil {
					return err
				}
				sampled.Take(n.id, &told)
			}
		}
		if second%window == window-1 {
			r.compare(sampled.Next(), whole.Next())
		}
	}
	r.Note("the loads of %d nodes are drawn, what is measured is the sampling of their reports; Sampler, encoding and Estimator are those that run", nodes)
	return nil
}

// report is that of a second.
func (n *sampledNode) report(second int) wire.Telemetry {
	at := float64(second)
	load := n.level * (1 + 0.3*math.Sin(at*2*math.Pi/600+n.phase) + 0.2*math.Sin(at*2*math.Pi/10+n.phase) + 0.2*(unit(n.draw)-0.5))
	t := wire.Telemetry{Millis: int64(second) * 1000, Span: 1000, Capacity: n.capacity, Sent: uint32(load * float64(n.capacity)),
		Queue: uint16(2 + 60*load*load*(0.5+unit(n.draw)))}
	t.Came = t.Sent
	if n.trouble && n.draw.Chance(50_000) {
		t.Dropped = t.Came/100 + 1
		t.Refused = uint32(n.draw.IntN(20))
	}
	return t
}

// unit is uniform in [0, 1).
func unit(draw *prng.Stream) float64 { return float64(draw.Uint64()>>11) / (1 << 53) }

// compare observes how far each figure of a window is off.
func (r *Run) compare(sampled, whole control.Figures) {
	off := func(name string, got, want float64) float64 {
		if want == 0 {
			return 0
		}
		e := math.Abs(got/want - 1)
		r.Observe("error_"+name, e)
		return e
	}
	share := func(f *control.Figures) float64 { return float64(f.Dropped) / float64(f.Came) }
	errs := []float64{
		off("sent", float64(sampled.Sent), float64(whole.Sent)),
		off("load", float64(sampled.Sent)/float64(sampled.Capacity), float64(whole.Sent)/float64(whole.Capacity)),
		off("load_p95", float64(sampled.Load.Quantile(0.95)), float64(whole.Load.Quantile(0.95))),
		off("queue_p95", float64(sampled.Queue.Quantile(0.95)), float64(whole.Queue.Quantile(0.95))),
		off("dropped", share(&sampled), share(&whole)),
		off("refused", float64(sampled.Refused), float64(whole.Refused)),
	}
	r.Observe("telemetry_sampling_error_rate", slices.Max(errs))
	r.Tally("reports_sent", sampled.Reports, whole.Reports)
	if self, ok := sampled.SamplingError(); ok {
		r.Observe("error_told_by_itself", self)
	}
}
