package control

import (
	"github.com/nyxnet/nyx/internal/aggregate"
	"github.com/nyxnet/nyx/internal/wire"
)

// Figures are what the reports of a period say of all nodes, those included whose
// reports were not sent.
type Figures struct {
	Reports uint64 // that came
	// Load is that of nodes, in thousandths of their capacity, and Queue the longest
	// waits, in ms: of each node and period.
	Load, Queue aggregate.Sketch
	// Sent and Capacity are datagrams of the whole period. Capacity is as Load is:
	// what could have been sent.
	Sent, Capacity uint64
	// Came, Dropped and Refused are datagrams and sessions.
	Came, Dropped, Refused uint64
	// told is what samples said of the periods that they stood for, and counted what
	// was sent in them.
	told, counted uint64
}

// SamplingError is how far what samples said was off what they stood for, as a part
// of it: telemetry.sampling_error_rate. ok is false before the first.
func (f *Figures) SamplingError() (rate float64, ok bool) {
	if f.counted == 0 {
		return 0, false
	}
	off := max(f.told, f.counted) - min(f.told, f.counted)
	return float64(off) / float64(f.counted), true
}

// Estimator makes figures of reports that are sampled (Sampler): each counts for as
// many as it stands for. It belongs to one goroutine.
type Estimator struct {
	figures Figures
	last    map[wire.NodeID]uint64 // what the last sample of a node stands for
}

// NewEstimator returns an estimator that has heard nothing.
func NewEstimator() *Estimator { return &Estimator{last: map[wire.NodeID]uint64{}} }

// Take takes a report.
func (e *Estimator) Take(node wire.NodeID, t *wire.Telemetry) {
	f, n := &e.figures, uint64(t.StandsFor)
	f.Reports++
	f.Load.ObserveN(uint64(1000*t.Load()), n)
	f.Queue.ObserveN(uint64(t.Queue), n)
	f.Sent += n * uint64(t.Sent)
	f.Capacity += n * uint64(t.Capacity) * uint64(t.Span) / 1000
	f.Came += n * uint64(t.Came)
	f.Dropped += n * uint64(t.Dropped)
	f.Refused += n * uint64(t.Refused)
	if t.StandsFor == 1 {
		return
	}
	if told, known := e.last[node]; known && t.Before > 0 {
		f.told += told
		f.counted += uint64(t.Before)
	}
	if _, known := e.last[node]; known || len(e.last) < scheduledMax {
		e.last[node] = n * uint64(t.Sent)
	}
}

// Next ends a period: it returns its figures, and begins anew.
func (e *Estimator) Next() Figures {
	f := e.figures
	e.figures = Figures{}
	return f
}
