package daemon

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
)

// Figures of paths come and go with the paths, by themselves. A node tells
// quantiles of all sessions and no session; and nothing of either is told where
// metrics do not tell content.
func TestPathMetricsComeAndGo(t *testing.T) {
	path := func(id uint8, rtt time.Duration) stream.PathStats {
		return stream.PathStats{ID: id, RTT: rtt, Jitter: rtt / 10, Sent: 100, Lost: uint64(id)}
	}
	var sessions []stream.Stats
	served := func(own, traffic bool) string {
		w := httptest.NewRecorder()
		p := newPart("part", trace.Counts{}, nil)
		p.sessions, p.own = func() []stream.Stats { return sessions }, own
		(&source{traffic: traffic, parts: func() []part { return []part{p} }}).page().Text(w)
		return w.Body.String()
	}
	const (
		gap    = `transport_multipath_delay_gap{part="part",quantile="1"} 0.05`
		usage  = `transport_reordering_buffer_usage{part="part",quantile="0.5"} 0.25`
		second = `transport_path_round_trip{part="part",session="0",path="3"} 0.15`
	)
	for _, c := range []struct {
		sessions   []stream.Stats
		own, told  bool
		want, lack []string
	}{
		{nil, true, true, nil, []string{"transport_path_round_trip{", "transport_multipath_delay_gap{"}},
		{[]stream.Stats{{Paths: []stream.PathStats{path(0, 100*time.Millisecond)}, SessionWindow: 1 << 20, Early: 1 << 18}}, true, true,
			[]string{usage, `transport_path_packets{part="part",session="0",path="0"} 100`}, []string{"delay_gap{", second}},
		{[]stream.Stats{{Paths: []stream.PathStats{path(0, 100*time.Millisecond), path(3, 150*time.Millisecond)}}}, true, true,
			[]string{gap, second, `transport_path_lost{part="part",session="0",path="3"} 3`, `transport_path_jitter{part="part",session="0",path="3"} 0.015`}, nil},
		{[]stream.Stats{{Paths: []stream.PathStats{path(0, 100*time.Millisecond), path(3, 150*time.Millisecond)}}}, false, true,
			[]string{gap}, []string{"session=", "path="}},
		{[]stream.Stats{{Paths: []stream.PathStats{path(0, 100*time.Millisecond), path(3, 150*time.Millisecond)}}}, true, false,
			nil, []string{"transport_path", "transport_multipath", "transport_reordering", "failover"}},
	} {
		sessions = c.sessions
		page := served(c.own, c.told)
		for _, line := range c.want {
			if !strings.Contains(page, line) {
				t.Errorf("own %v: no %s in\n%s", c.own, line, page)
			}
		}
		for _, line := range c.lack {
			if strings.Contains(page, line) {
				t.Errorf("own %v, told %v: %s in\n%s", c.own, c.told, line, page)
			}
		}
	}
}
