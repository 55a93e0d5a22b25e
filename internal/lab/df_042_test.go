package lab

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/stream"
)

// What counts as told is of the last looks and whole: a path that was seen once and is
// not told any more, or of which a figure is missing, is not, nor is one that came after
// the list was made; one that is told at every look is.
func TestPathCollectorWantsFreshFigures(t *testing.T) {
	const every, grace = 5 * time.Second, 15 * time.Second
	whole := stream.PathStats{RTT: 100, MinRTT: 90, Sent: 20}
	for _, c := range []struct {
		what        string
		fixed       bool
		lost        func(look int) bool
		path        func(look int) stream.PathStats
		known       func(look int) uint16
		judged, all uint64
	}{
		{what: "told at every look", judged: 9, all: 9},
		{what: "told once", lost: func(k int) bool { return k > 0 }, judged: 9, all: 1},
		{what: "lost for three looks", lost: func(k int) bool { return k >= 5 && k < 8 }, judged: 9, all: 9},
		{what: "lost for four looks", lost: func(k int) bool { return k >= 5 && k < 9 }, judged: 9, all: 8},
		{what: "without its round trip", path: func(int) stream.PathStats { return stream.PathStats{Sent: 20, MinRTT: 90} }, judged: 9},
		{what: "on the list", fixed: true, judged: 9, all: 9},
		{what: "after the list was made", fixed: true, known: func(k int) uint16 { return min(uint16(k), 1) }, judged: 8},
	} {
		t.Run(c.what, func(t *testing.T) {
			look := 0
			p := newPathCollector(grace, c.fixed, func() bool { return c.lost != nil && c.lost(look) })
			var judged, told uint64
			for ; look < 12; look++ {
				st := stream.Stats{Known: 1, Paths: []stream.PathStats{whole}}
				if c.path != nil {
					st.Paths[0] = c.path(look)
				}
				if c.known != nil {
					if st.Known = c.known(look); st.Known == 0 {
						st.Paths = []stream.PathStats{{ID: 1}}
					}
				}
				j, n := p.look(machine.Time(0).Add(time.Duration(look)*every), pathKey{}, &st)
				judged, told = judged+j, told+n
				p.looks++
			}
			if judged != c.judged || told != c.all {
				t.Errorf("%d of %d judged are told, want %d of %d", told, judged, c.all, c.judged)
			}
		})
	}
}
