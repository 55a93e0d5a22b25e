package daemon

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/stream"
)

// writePaths writes what sessions show of the paths on which they spread, as it is
// now. Of a node it is quantiles over all sessions, which name none; a client tells
// its own session by session and path by path: what there is to tell comes with a
// path's first packet and goes with the path.
func writePaths(w io.Writer, parts []part) {
	sessions := make([][]stream.Stats, len(parts))
	for i := range parts {
		if parts[i].sessions != nil {
			sessions[i] = parts[i].sessions()
		}
	}
	quantiles := func(name, help string, of func(*stream.Stats) (float64, bool)) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for i, all := range sessions {
			var values []float64
			for k := range all {
				if v, ok := of(&all[k]); ok {
					values = append(values, v)
				}
			}
			slices.Sort(values)
			for _, q := range []float64{0.5, 0.95, 1} {
				if n := len(values); n > 0 {
					fmt.Fprintf(w, "%s{part=%q,quantile=\"%g\"} %g\n", name, parts[i].Name, q, values[min(int(q*float64(n)), n-1)])
				}
			}
		}
	}
	quantiles("transport_multipath_delay_gap", "Seconds by which the round trips of a session's paths differ.", func(s *stream.Stats) (float64, bool) {
		gap, several := s.DelayGap()
		return gap.Seconds(), several
	})
	quantiles("transport_reordering_buffer_usage", "Share of a session's receive window that waits for what precedes it.", func(s *stream.Stats) (float64, bool) {
		return float64(s.Early) / float64(max(s.SessionWindow, 1)), len(s.Paths) > 0
	})
	perPath := func(name string, of func(*stream.PathStats) float64) {
		fmt.Fprintf(w, "# TYPE %s gauge\n", name)
		for i, all := range sessions {
			for k := range all {
				for p := range all[k].Paths {
					if path := &all[k].Paths[p]; parts[i].own {
						fmt.Fprintf(w, "%s{part=%q,session=\"%d\",path=\"%d\"} %g\n", name, parts[i].Name, k, path.ID, of(path))
					}
				}
			}
		}
	}
	seconds := func(of func(*stream.PathStats) time.Duration) func(*stream.PathStats) float64 {
		return func(p *stream.PathStats) float64 { return of(p).Seconds() }
	}
	perPath("transport_path_round_trip", seconds(func(p *stream.PathStats) time.Duration { return p.RTT }))
	perPath("transport_path_jitter", seconds(func(p *stream.PathStats) time.Duration { return p.Jitter }))
	perPath("transport_path_packets", func(p *stream.PathStats) float64 { return float64(p.Sent) })
	perPath("transport_path_lost", func(p *stream.PathStats) float64 { return float64(p.Lost) })
}
