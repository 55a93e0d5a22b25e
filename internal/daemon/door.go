package daemon

import (
	"net"
	"net/http"
	"sync/atomic"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/metric"
)

// door is how a server of the directory takes connections: so many in all and of one
// address, of which the oldest gives way where there is no room at all. Who asks shows
// nobody who it is, and is answered in a moment: who has been there longest has been
// answered, or has not asked. It counts who was turned away, and not whose it was.
type door struct{ full, silent atomic.Uint64 }

// turn counts, by the reasons of package front.
func (d *door) turn(why string) {
	if why == front.Silent {
		d.silent.Add(1)
	} else {
		d.full.Add(1)
	}
}

// serve serves plain HTTP until the server is closed; mirror.Serve is the same over TLS.
func (d *door) serve(s *http.Server, ln net.Listener) error {
	return s.Serve(front.Bound(s, ln, d.turn))
}

func (d *door) write(to *metric.Page, part string) {
	to.Add("directory_connections_turned_total", float64(d.full.Load()), "part", part, "reason", front.NoRoom)
	to.Add("directory_connections_turned_total", float64(d.silent.Load()), "part", part, "reason", front.Silent)
}
