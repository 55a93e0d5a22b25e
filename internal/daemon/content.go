package daemon

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

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

// Bounds of histograms are powers of two. Those of sizes are a byte less, so that
// they are what a value may be.
const (
	timeLeast, timeMost = 7, 26 // 128 µs to 67 s
	sizeLeast, sizeMost = 3, 16 // 7 bytes to 64 KiB
)

// labelled is a distribution of times, and the label that it has in its family.
type labelled struct {
	label string
	which trace.Distribution
}

// latencies are the families of times that parts have measured.
var latencies = [...]struct {
	name, help string
	of         []labelled
}{
	{"stream_queue_latency", "Seconds that bytes of streams waited: to be sent for the first time, and to be read.",
		[]labelled{{`,queue="out"`, trace.StreamQueueOut}, {`,queue="in"`, trace.StreamQueueIn}}},
	{"mix_frame_drop_detect_latency", "Seconds from the sending of a packet that a hop dropped until the hop's word of it came: at most this long after the drop.",
		[]labelled{{"", trace.DropDetect}}},
	{"fec_encode_latency", "Seconds from the sending of a packet until the first repair that covers it, of the oldest of each repair.",
		[]labelled{{"", trace.FECEncode}}},
	{"mix_route_plan_latency", "Seconds from when a route was wanted until a path for it was found.",
		[]labelled{{"", trace.RoutePlanLatency}}},
	{"route_update_latency", "Seconds from when a route was to leave a node until another carried on in its place.",
		[]labelled{{"", trace.RouteUpdateLatency}}},
	{"stream_session_close_lag", "Seconds from the last sign of life of a session that ended at a Stream node until it was released.",
		[]labelled{{"", trace.SessionCloseLag}}},
}

// writeContent writes what parts have measured of content, by the names of the
// specification.
func writeContent(w io.Writer, parts []part) {
	ratio(w, "transport_retransmission_ratio", "Session packets whose content was sent again, of those sent.", parts,
		func(c *trace.Counts) (part, whole uint64) { return c[trace.Retransmitted], c[trace.SessionPacketOut] })
	writeHeartbeats(w, parts)
	ratio(w, "stream_heartbeat_queue_share", "Heartbeats, of the frames sent that are heartbeats or content.", parts,
		func(c *trace.Counts) (part, whole uint64) {
			return c[trace.HeartbeatOut], c[trace.HeartbeatOut] + c[trace.ContentOut]
		})
	g := family(w, "stream_latency_p95", "gauge", "Seconds from the last byte written to a stream until the next came back, P95 since the start.")
	for i := range parts {
		for lane, name := range laneNames {
			if v := &parts[i].content.measured[trace.LatencyOf(uint8(lane))]; v.Count > 0 {
				g("{part=%q,lane=%q} %g", parts[i].Name, name, seconds(v.Quantile(0.95)))
			}
		}
	}
	h := family(w, "stream_latency_seconds", "histogram", "The same, of all.")
	for i := range parts {
		for lane, name := range laneNames {
			times(h, parts[i].Name, ",lane="+strconv.Quote(name), &parts[i].content.measured[trace.LatencyOf(uint8(lane))])
		}
	}
	for _, f := range latencies {
		h = family(w, f.name, "histogram", f.help)
		for i := range parts {
			for _, l := range f.of {
				times(h, parts[i].Name, l.label, &parts[i].content.measured[l.which])
			}
		}
	}
	writeJitter(w, parts)
	h = family(w, "stream_metadata_size", "histogram", "Bytes of received session packets that are neither content nor padding.")
	for i := range parts {
		sizes(h, parts[i].Name, &parts[i].content.measured[trace.MetadataSize])
	}
	h = family(w, "stream_compressed_frame_size", "histogram", "Bytes of the frames that compressed streams were cut into.")
	for i := range parts {
		sizes(h, parts[i].Name, &parts[i].content.chunks)
	}
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
func (u *usage) write(w io.Writer) {
	user, ok := userTime()
	if !ok {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if since := now.Sub(u.at); since > 0 {
		family(w, "cpu_user_pct", "gauge", "Processor time in this program's own code since these figures were last read, in hundredths of one processor.")(" %.4g", 100*(user-u.user).Seconds()/since.Seconds())
	}
	u.at, u.user = now, user
}

// sample writes the rest of a line of a family: labels and value.
type sample func(format string, args ...any)

// family begins the samples of one name, with the first of which its header is
// written. A histogram's sample begins with the suffix of its name.
func family(w io.Writer, name, kind, help string) sample {
	begun := false
	return func(format string, args ...any) {
		if !begun {
			begun = true
			fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		}
		fmt.Fprintf(w, name+format+"\n", args...)
	}
}

func ratio(w io.Writer, name, help string, parts []part, of func(*trace.Counts) (part, whole uint64)) {
	g := family(w, name, "gauge", help)
	for i := range parts {
		if n, whole := of(&parts[i].counts); whole > 0 {
			g("{part=%q} %g", parts[i].Name, float64(n)/float64(whole))
		}
	}
}

func seconds(micros uint64) float64 { return (time.Duration(micros) * time.Microsecond).Seconds() }

// times writes the histogram of values in µs, if there are any.
func times(h sample, part, labels string, v *trace.Values) {
	histogram(h, part, labels, v, timeLeast, timeMost, func(end uint64) float64 { return seconds(end) }, seconds(v.Sum))
}

// sizes writes the histogram of values in bytes, if there are any.
func sizes(h sample, part string, v *trace.Values) {
	histogram(h, part, "", v, sizeLeast, sizeMost, func(end uint64) float64 { return float64(end - 1) }, float64(v.Sum))
}

// classed writes a histogram of times that are counted by class: all but the last
// have a bound.
func classed(h sample, part string, counts []uint64, bound func(class int) time.Duration, sum time.Duration) {
	n := uint64(0)
	for class, in := range counts {
		n += in
		le := "+Inf"
		if class < len(counts)-1 {
			le = strconv.FormatFloat(bound(class).Seconds(), 'g', -1, 64)
		}
		h("_bucket{part=%q,le=%q} %d", part, le, n)
	}
	h("_sum{part=%q} %g", part, sum.Seconds())
	h("_count{part=%q} %d", part, n)
}

func histogram(h sample, part, labels string, v *trace.Values, least, most int, bound func(end uint64) float64, sum float64) {
	if v.Count == 0 {
		return
	}
	for power := least; power <= most; power++ {
		h("_bucket{part=%q%s,le=%q} %d", part, labels, strconv.FormatFloat(bound(1<<power), 'g', -1, 64), v.Below(power))
	}
	h("_bucket{part=%q%s,le=\"+Inf\"} %d", part, labels, v.Count)
	h("_sum{part=%q%s} %g", part, labels, sum)
	h("_count{part=%q%s} %d", part, labels, v.Count)
}

// writeHeartbeats says how evenly heartbeats lie on the Stream nodes of this
// process, if there are several: those of many processes are compared where
// nyx_stream_heartbeats_in_total of all is read.
func writeHeartbeats(w io.Writer, parts []part) {
	var loads []uint64
	for i := range parts {
		if parts[i].sessions != nil && !parts[i].own {
			loads = append(loads, parts[i].counts[trace.HeartbeatIn])
		}
	}
	if len(loads) > 1 {
		fmt.Fprintf(w, "# HELP stream_heartbeat_distribution Gini coefficient of the heartbeats that Stream nodes received.\n# TYPE stream_heartbeat_distribution gauge\nstream_heartbeat_distribution %.4f\n", trace.Gini(loads))
	}
}
