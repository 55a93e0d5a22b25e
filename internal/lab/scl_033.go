package lab

import (
	"errors"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// delayedNode is a node whose batches of telemetry are late at times. It posts one at a
// time: the next goes when the last was taken, or when it was waited for long enough.
type delayedNode struct {
	id       wire.NodeID
	reporter *telemetry.Reporter
	draw     *prng.Stream
	busy     time.Time // until then it waits for an answer
	answer   error     // that it has then
}

// lateBatch is one that is still on its way.
type lateBatch struct {
	from *delayedNode
	at   time.Time
	body []byte
}

var errLate = errors.New("no answer in time")

// delayedTelemetry is SCL-033: a part of the batches of telemetry arrives minutes late; how
// old is what the control plane knows of a node? Reporters and collector are those that
// run, time is virtual. In the control who sends a batch waits until it has arrived.
func delayedTelemetry(r *Run) error {
	w := &delayedWorld{Run: r, at: time.Unix(1_800_000_000, 0)}
	w.collector = telemetry.NewCollector(w.at, func(wire.NodeID) (string, uint32, bool) { return "eu", 100_000, true })
	w.collector.Follow(w.at, nil, []string{"eu"})
	src := r.Source("delayed")
	for i := range r.Scaled("nodes") {
		n := &delayedNode{id: wire.NodeID{byte(i >> 8), byte(i), 1}, draw: src.Stream(fmt.Sprint("delays ", i))}
		n.reporter = telemetry.NewReporter(w.at, src.Stream(fmt.Sprint("sampler ", i)), nil)
		w.nodes = append(w.nodes, n)
	}
	for second := range int(r.Duration("hours", time.Hour) / time.Second) {
		if err := w.second(second); err != nil {
			return err
		}
	}
	dropped := uint64(0)
	for _, n := range w.nodes {
		dropped += n.reporter.Dropped()
	}
	r.Tally("telemetry_batches_delayed", w.late, w.posted)
	r.Tally("telemetry_reports_lost", dropped, w.offered)
	r.Note("%d nodes on virtual time; a delay is drawn up to %v, and a batch that was given up comes all the same, when newer ones were taken", len(w.nodes), r.Duration("retry_window_min", time.Minute))
	return nil
}

type delayedWorld struct {
	*Run
	at                    time.Time
	collector             *telemetry.Collector
	nodes                 []*delayedNode
	onTheWay              []lateBatch
	posted, late, offered uint64
}

// second is one second of the network.
func (w *delayedWorld) second(n int) error {
	w.at = w.at.Add(time.Second)
	if err := w.arrive(); err != nil {
		return err
	}
	for i, node := range w.nodes {
		w.offered++
		node.reporter.Offer(wire.Telemetry{Millis: w.at.UnixMilli(), Span: 1000, Capacity: 100_000, Sent: uint32(1000 + i)})
		if err := w.post(node); err != nil {
			return err
		}
	}
	w.collector.Turn(w.at)
	if n%10 == 9 && n > 60 { // every node has been sampled by then
		w.Observe("telemetry_freshness", w.collector.Freshness(w.at).Seconds())
	}
	return nil
}

// arrive hands over what was late.
func (w *delayedWorld) arrive() error {
	still := w.onTheWay[:0]
	for _, b := range w.onTheWay {
		if b.at.After(w.at) {
			still = append(still, b)
		} else if err := w.collector.Take(w.at, b.from.id, b.body); err != nil {
			return err
		}
	}
	w.onTheWay = still
	return nil
}

// post has a node that waits for no answer post what it has.
func (w *delayedWorld) post(n *delayedNode) error {
	if !n.busy.IsZero() {
		if n.busy.After(w.at) {
			return nil
		}
		n.busy = time.Time{}
		n.reporter.Done(w.at, n.answer)
	}
	body := n.reporter.Next()
	if len(body) == 0 {
		n.reporter.Done(w.at, nil)
		return nil
	}
	w.posted++
	if !n.draw.Chance(uint64(w.Param("delayed") * 1e6)) {
		err := w.collector.Take(w.at, n.id, body)
		n.reporter.Done(w.at, nil)
		return err
	}
	w.late++
	delay := time.Duration(n.draw.IntN(int(w.Duration("retry_window_min", time.Minute)/time.Second))+1) * time.Second
	w.onTheWay = append(w.onTheWay, lateBatch{n, w.at.Add(delay), body})
	n.busy, n.answer = w.at.Add(delay), nil
	if w.Protected && delay > telemetry.PostMost {
		n.busy, n.answer = w.at.Add(telemetry.PostMost), errLate
	}
	return nil
}
