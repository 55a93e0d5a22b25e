package daemon

import (
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/tunnel"
)

// Compressor is how an exit compresses streams that ask for it (package pack).
type Compressor interface {
	// Content returns the content of a stream that is compressed.
	Content(*tunnel.Conn) io.ReadWriter
	// Sizes are those of the compressed frames that were made, in bytes.
	Sizes() trace.Values
}

// content is what a part has measured of content. It is served only where metrics
// may tell content from cover.
type content struct {
	measured trace.Distributions
	chunks   trace.Values // compressed frames
	// Streams of a client that were opened to another end, and from which it
	// answered.
	asked, answered uint64
}

// laneNames are the lanes of trace.LatencyOf.
var laneNames = [trace.LatencyLanes]string{"normal", "high", "low", "other"}

// labelled is a distribution of times, and the label that it has in its family.
type labelled struct {
	labels []string
	which  trace.Distribution
}

// latencies are the families of times that parts have measured.
var latencies = [...]struct {
	name string
	of   []labelled
}{
	{"stream_queue_latency", []labelled{{[]string{"queue", "out"}, trace.StreamQueueOut}, {[]string{"queue", "in"}, trace.StreamQueueIn}}},
	{"mix_frame_drop_detect_latency", []labelled{{nil, trace.DropDetect}}},
	{"fec_encode_latency", []labelled{{nil, trace.FECEncode}}},
	{"mix_route_plan_latency", []labelled{{nil, trace.RoutePlanLatency}}},
	{"mix_failover_duration", []labelled{{nil, trace.PathFailover}}},
	{"route_update_latency", []labelled{{nil, trace.RouteUpdateLatency}}},
	{"stream_session_close_lag", []labelled{{nil, trace.SessionCloseLag}}},
}

// writeContent writes what parts have measured of content, by the names of the
// specification.
func writeContent(to *metric.Page, parts []part) {
	for i := range parts {
		p, n := &parts[i], &parts[i].counts
		ratio(to, "transport_retransmission_ratio", p, n[trace.Retransmitted], n[trace.SessionPacketOut])
		ratio(to, "end_to_end_success_ratio", p, p.content.answered, p.content.asked)
		ratio(to, "stream_heartbeat_queue_share", p, n[trace.HeartbeatOut], n[trace.HeartbeatOut]+n[trace.ContentOut])
		ratio(to, "fec_recovery_ratio", p, n[trace.RepairGood], n[trace.RepairGood]+n[trace.RepairShort])
		if n[trace.Rekeys] > 0 {
			to.Add("stream_rekey_latency", seconds(n[trace.RekeyLatency])/float64(n[trace.Rekeys]), "part", p.Name)
		}
		for lane, name := range laneNames {
			if v := &p.content.measured[trace.LatencyOf(uint8(lane))]; v.Count > 0 {
				to.Add("stream_latency_p95", seconds(v.Quantile(0.95)), "part", p.Name, "lane", name)
				to.Distribute("stream_latency_seconds", metric.Times(v), "part", p.Name, "lane", name)
			}
		}
		for _, f := range latencies {
			for _, l := range f.of {
				to.Distribute(f.name, metric.Times(&p.content.measured[l.which]), append([]string{"part", p.Name}, l.labels...)...)
			}
		}
		to.Distribute("obf_timing_jitter_ms", metric.Millis(&p.content.measured[trace.TimingJitter]), "part", p.Name)
		to.Distribute("stream_metadata_size", metric.Sizes(&p.content.measured[trace.MetadataSize]), "part", p.Name)
		to.Distribute("stream_compressed_frame_size", metric.Sizes(&p.content.chunks), "part", p.Name)
	}
	writeHeartbeats(to, parts)
	writePauses(to)
}

// writePauses writes for how long the garbage collector stopped the process.
func writePauses(to *metric.Page) {
	stops := debug.GCStats{PauseQuantiles: make([]time.Duration, 101)}
	debug.ReadGCStats(&stops)
	to.Distribute("stream_gc_pause_duration", metric.Summed([]float64{0.5, 0.95, 1},
		func(q float64) float64 { return stops.PauseQuantiles[int(100*q)].Seconds() }, stops.PauseTotal.Seconds(), uint64(stops.NumGC)))
}

// usage tells how much of a processor this process used since it was last asked.
type usage struct {
	mu   sync.Mutex
	at   time.Time
	user time.Duration
}

func newUsage() *usage {
	user, _ := userTime()
	return &usage{at: time.Now(), user: user}
}

// write writes the share of one processor, in hundredths.
func (u *usage) write(to *metric.Page) {
	user, ok := userTime()
	if !ok {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if since := now.Sub(u.at); since > 0 {
		to.Add("cpu_user_pct", 100*(user-u.user).Seconds()/since.Seconds())
	}
	u.at, u.user = now, user
}

// ratio writes a share of a part, if there is a whole.
func ratio(to *metric.Page, name string, p *part, some, all uint64) {
	if all > 0 {
		to.Add(name, float64(some)/float64(all), "part", p.Name)
	}
}

func seconds(micros uint64) float64 { return (time.Duration(micros) * time.Microsecond).Seconds() }

// classed is the distribution of times that are counted by class: all but the last
// have a bound.
func classed(counts []uint64, bound func(class int) time.Duration, sum time.Duration) metric.Distribution {
	d := metric.Distribution{In: append([]uint64(nil), counts...), Sum: sum.Seconds()}
	for class, in := range counts {
		d.Count += in
		if class < len(counts)-1 {
			d.Bounds = append(d.Bounds, bound(class).Seconds())
		}
	}
	return d
}

// writeHeartbeats says how evenly heartbeats lie on the Stream nodes of this
// process, if there are several: those of many processes are compared where
// nyx_stream_heartbeats_in_total of all is read.
func writeHeartbeats(to *metric.Page, parts []part) {
	var loads []uint64
	for i := range parts {
		if parts[i].sessions != nil && !parts[i].own {
			loads = append(loads, parts[i].counts[trace.HeartbeatIn])
		}
	}
	if len(loads) > 1 {
		to.Add("stream_heartbeat_distribution", trace.Gini(loads))
	}
}
