package lab

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/engine/otlp"
	"github.com/nyxnet/nyx/internal/engine/push"
	"github.com/nyxnet/nyx/internal/lab/servers"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/telemetry/span"
)

// traceStream is SCL-009: the exporters of many processes send the traces of probes through
// the Collector, as it is shipped, to a Tempo that keeps them in a bucket, and before which
// one write in so many is refused. In the control the Collector does not try again.
func traceStream(r *Run) (err error) {
	program, err := servers.FindCollector()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nyx-traces-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), r.Duration("minutes_at_most", time.Minute))
	defer cancel()
	end, err := openTraceEnd(ctx, dir, int(r.Param("refused_one_in")))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end.close()) }()
	over := ""
	if !r.Protected {
		over = "exporters: {otlp_http/traces: {retry_on_failure: {enabled: false}}}"
	}
	c, err := servers.StartCollector(program, dir, servers.To{Traces: end.sink.URL}, over)
	if err != nil {
		return err
	}
	defer c.Stop()
	r.Progress("spans go to the Collector")
	sent, traces, err := r.sendTraces(c.URL)
	if err != nil {
		return err
	}
	r.Progress("the Collector passes on the rest")
	accepted, err := c.Accepted(ctx, "spans")
	if err != nil {
		return err
	}
	given, err := c.AwaitPassed(ctx, "spans", accepted)
	if err != nil {
		return fmt.Errorf("the Collector still has spans: %w", err)
	}
	got, err := end.taken(ctx)
	if err != nil {
		return err
	}
	r.Tally("tempo_ingest_failures", sent-min(got, sent), sent)
	r.Note("%d spans in %d traces; %.0f came to the Collector; %d of %d writes were refused at first; it gave %.0f spans up", sent, len(traces), accepted, end.sink.refused.Load(), end.sink.requests.Load(), given)
	return r.readBack(ctx, end.tempo, traces)
}

// sendTraces has processes record the traces of probes at the load's rate, each by an
// exporter of its own, and returns how many spans were recorded, and the traces.
func (r *Run) sendTraces(url string) (spans uint64, traces []span.TraceID, err error) {
	processes := int(r.Param("processes"))
	each := int(r.Param("spans_per_minute") * r.Param("minutes") * r.Scale / float64(processes*len(probeSpans)))
	gap := time.Duration(r.Param("minutes") * r.Scale * float64(time.Minute) / float64(each))
	var mu sync.Mutex
	var sending sync.WaitGroup
	begun := time.Now()
	for p := range processes {
		e := otlp.StartSpans(push.Config{URL: url})
		draw := r.Source(fmt.Sprintf("process/%d", p)).Stream("ids")
		late := gap * time.Duration(p) / time.Duration(processes)
		sending.Go(func() {
			for i := range each {
				time.Sleep(time.Until(begun.Add(late + time.Duration(i)*gap)))
				id := recordProbe(e, draw, fmt.Sprintf("stream-%d", p))
				mu.Lock()
				traces, spans = append(traces, id), spans+uint64(len(probeSpans))
				mu.Unlock()
			}
			failed := e.Close()
			mu.Lock()
			err = errors.Join(err, failed)
			mu.Unlock()
		})
	}
	sending.Wait()
	return spans, traces, err
}

// probeSpans are those of the trace of a probe, with its root.
var probeSpans = slices.Concat([]span.Name{span.Probe}, span.Sequence)

// recordProbe records the trace of a probe.
func recordProbe(to span.Recorder, draw *prng.Stream, process string) (trace span.TraceID) {
	binary.BigEndian.PutUint64(trace[:8], draw.Uint64())
	binary.BigEndian.PutUint64(trace[8:], draw.Uint64()|1)
	at := time.Now()
	var root span.ID
	for i, name := range probeSpans {
		s := span.Span{Trace: trace, Parent: root, Name: name, Process: process, Begin: at.Add(time.Duration(i) * time.Millisecond), End: at.Add(300 * time.Millisecond),
			Attributes: span.Attributes{span.Level: "standard", span.Outcome: "ok"}}
		binary.BigEndian.PutUint64(s.ID[:], draw.Uint64()|1)
		if i == 0 {
			root = s.ID
		}
		to.Record(s)
	}
	return trace
}

// readBack asks Tempo for some traces, once it has put all into the bucket.
func (r *Run) readBack(ctx context.Context, t *servers.Tempo, traces []span.TraceID) error {
	if _, err := servers.Get(ctx, t.URL+"/flush"); err != nil {
		return err
	}
	var blocks float64
	if err := servers.Await(ctx, func() (bool, error) {
		var err error
		blocks, err = t.Sum(ctx, "tempo_ingester_blocks_flushed_total")
		return blocks > 0, err
	}); err != nil {
		return fmt.Errorf("no block comes into the bucket: %w", err)
	}
	failed, err := t.Sum(ctx, "tempo_ingester_failed_flushes_total")
	if err != nil {
		return err
	}
	looks := int(r.Param("looks"))
	for i := range looks {
		id := traces[i*len(traces)/looks]
		text, err := servers.Get(ctx, t.URL+"/api/traces/"+hex.EncodeToString(id[:]))
		if err != nil && !errors.Is(err, servers.ErrNotFound) {
			return err
		}
		r.Trial("traces_read_back", err == nil && len(text) > 2)
	}
	r.Note("%.0f blocks went to the bucket, %.0f attempts failed", blocks, failed)
	return nil
}

// traceEnd is where traces go.
type traceEnd struct {
	sink  *sink
	tempo *servers.Tempo
	stops []func() error
}

// openTraceEnd starts Tempo, with a bucket.
func openTraceEnd(ctx context.Context, dir string, oneIn int) (*traceEnd, error) {
	tempo, err := servers.Find(servers.TempoName)
	if err != nil {
		return nil, err
	}
	bucket, err := servers.Find(servers.VersityName)
	if err != nil {
		return nil, err
	}
	e := &traceEnd{}
	store, err := servers.StartS3(bucket, filepath.Join(dir, "s3"))
	if err != nil {
		return nil, err
	}
	e.stops = append(e.stops, store.Stop)
	if err := store.Make(ctx, "tempo", false); err != nil {
		return nil, errors.Join(err, e.close())
	}
	if e.tempo, err = servers.StartTempo(tempo, dir, store, "tempo"); err != nil {
		return nil, errors.Join(err, e.close())
	}
	e.stops = append(e.stops, func() error { _, err := e.tempo.Stop(); return err })
	if e.sink, err = refuseSome(e.tempo.OTLP, oneIn); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// taken is how many spans Tempo has taken and not discarded.
func (e *traceEnd) taken(ctx context.Context) (uint64, error) {
	got, err := e.tempo.Sum(ctx, "tempo_distributor_spans_received_total")
	if err != nil {
		return 0, err
	}
	discarded, err := e.tempo.Sum(ctx, "tempo_discarded_spans_total")
	return uint64(got - discarded), err
}

func (e *traceEnd) close() (err error) {
	if e.sink != nil {
		e.sink.Close()
	}
	for _, stop := range slices.Backward(e.stops) {
		err = errors.Join(err, stop())
	}
	return err
}
