package daemon

import (
	"slices"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/stream"
)

// writePaths writes what sessions show of the paths on which they spread, as it is
// now. Of a node it is quantiles and counts over all sessions, which name none; a client
// tells its own session by session and path by path. Nothing is registered: what there is
// to tell comes with a path's first packet and goes with the path.
func writePaths(to *metric.Page, parts []part) {
	for i := range parts {
		if p := &parts[i]; p.sessions != nil && to.Traffic {
			all := p.sessions()
			spread(to, "transport_multipath_delay_gap", p.Name, all, func(s *stream.Stats) (float64, bool) {
				gap, several := s.DelayGap()
				return gap.Seconds(), several
			})
			spread(to, "transport_reordering_buffer_usage", p.Name, all, func(s *stream.Stats) (float64, bool) {
				return float64(s.Early) / float64(max(s.SessionWindow, 1)), len(s.Paths) > 0
			})
			cover := stream.Cover(all)
			to.Add("transport_paths", float64(cover.Measured), "part", p.Name, "state", "measured")
			to.Add("transport_paths", float64(cover.New), "part", p.Name, "state", "new")
			if share, ok := cover.Share(); ok {
				to.Add("transport_path_metric_coverage", share, "part", p.Name)
			}
			if p.own {
				writeOwnPaths(to, p.Name, all)
			}
		}
	}
}

// spread writes quantiles over sessions.
func spread(to *metric.Page, name, part string, all []stream.Stats, of func(*stream.Stats) (float64, bool)) {
	var values []float64
	for k := range all {
		if v, ok := of(&all[k]); ok {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	for _, q := range []float64{0.5, 0.95, 1} {
		if n := len(values); n > 0 {
			to.Add(name, values[min(int(q*float64(n)), n-1)], "part", part, "quantile", strconv.FormatFloat(q, 'g', -1, 64))
		}
	}
}

func writeOwnPaths(to *metric.Page, part string, all []stream.Stats) {
	for k := range all {
		for _, path := range all[k].Paths {
			say := func(name string, v float64) {
				to.Add(name, v, "part", part, "session", strconv.Itoa(k), "path", strconv.Itoa(int(path.ID)))
			}
			say("transport_path_round_trip", time.Duration(path.RTT).Seconds())
			say("transport_path_jitter", time.Duration(path.Jitter).Seconds())
			say("transport_path_packets", float64(path.Sent))
			say("transport_path_lost", float64(path.Lost))
		}
	}
}
