package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/trace"
)

const (
	// tick is how often the network is looked at. Figures on a page are at most this
	// and the way to the browser old: within 2 s.
	tick = time.Second
	// viewersMost bounds the streams of events at a time.
	viewersMost = 128
	// window is of what time the percentiles on a page are.
	window = 60
	// patience is how long a viewer may take for one event.
	patience = 5 * time.Second
)

// live looks at the network once for all who watch, and has what it saw written once for
// each view.
type live struct {
	network Network
	begun   time.Time

	mu      sync.Mutex
	owner   view          // of who came by a link
	others  view          // without the client of this machine
	moved   chan struct{} // closed when there are others
	ring    *ring
	watched int

	// Of the one goroutine of run.
	past    []moment // of the last window, the oldest first
	pending sample
	step    int64
}

// view is what somebody may see at a moment.
type view struct {
	picture telemetry.Picture
	figures figures
	event   []byte // of the picture, as it is sent; nil: nobody watched
}

// moment is what figures are told from that grow.
type moment struct {
	at              time.Time
	latency         trace.Values
	asked, answered uint64
	in              map[string]uint64 // datagrams, by node
	own             uint64            // bytes of content, of the sessions that there are
	held            uint64            // sessions that a fleet refused for want of room
}

func newLive(n Network, now time.Time) *live {
	return &live{network: n, begun: now, moved: make(chan struct{}), ring: &ring{}}
}

// run looks until ctx ends.
func (l *live) run(ctx context.Context, now func() time.Time) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		l.look(now())
		select {
		case <-t.C:
		case <-ctx.Done():
			l.mu.Lock()
			l.owner.event, l.others.event = nil, nil
			close(l.moved) // who waits sees that there is nothing more
			l.mu.Unlock()
			return
		}
	}
}

// look makes one picture and tells who watches. What this machine's own client does is
// its owner's to see: whom an issuer signs in is shown the network without it.
func (l *live) look(now time.Time) {
	p := l.network.Picture()
	m := momentOf(&p, now)
	last := m
	if n := len(l.past); n > 0 {
		last = l.past[n-1]
	}
	l.past = append(l.past, m)
	if len(l.past) > window+1 {
		l.past = l.past[1:]
	}
	s := between(&last, &m, &p)
	l.keep(now, s)

	l.mu.Lock()
	defer l.mu.Unlock()
	asked, failed := l.ring.asked()
	seen := func(p telemetry.Picture) view {
		f := figuresOf(&p, l.past, s, now.Sub(l.begun))
		if p.Own != nil {
			f.Asked, f.Failed = asked+uint64(l.pending.asked), failed+uint64(l.pending.failed)
		}
		f.alert(&p)
		v := view{picture: p, figures: f}
		if l.watched > 0 {
			v.event = v.written()
		}
		return v
	}
	l.owner = seen(p)
	p.Own = nil
	l.others = seen(p)
	close(l.moved)
	l.moved = make(chan struct{})
}

// of is the view of who may see the own client, or of who may not. l.mu is held.
func (l *live) of(own bool) *view {
	if own {
		return &l.owner
	}
	return &l.others
}

// keep adds a second's sample to the step that it is of, and puts that into the ring
// when it is over.
func (l *live) keep(now time.Time, s sample) {
	step := now.Unix() / int64(ringStep/time.Second)
	if step != l.step {
		if l.step != 0 {
			l.mu.Lock()
			l.ring.put(l.step, l.pending)
			l.mu.Unlock()
		}
		l.step, l.pending = step, unmeasured
	}
	n := float32(now.Unix() % int64(ringStep/time.Second))
	p := &l.pending
	p.p95, p.cover, p.sessions = max(p.p95, s.p95), s.cover, s.sessions
	p.strain, p.load = max(p.strain, s.strain), s.load
	if p.carried < 0 {
		p.carried, p.own = s.carried, s.own
	} else if s.carried >= 0 {
		p.carried += (s.carried - p.carried) / (n + 1)
		p.own += (s.own - p.own) / (n + 1)
	}
	p.asked, p.failed = p.asked+s.asked, p.failed+s.failed
}

// written is the event of a view: texts by the place on the page that shows them, and
// alerts in each language.
func (v *view) written() []byte {
	p, f := &v.picture, &v.figures
	b, err := json.Marshal(struct {
		At     int64               `json:"at"`
		Text   map[string]string   `json:"text"`
		Meter  map[string]float64  `json:"meter"`
		State  map[string]string   `json:"state"`
		Alerts map[string][]spoken `json:"alerts"`
		Point  map[string]*float32 `json:"point"`
	}{p.At.UnixMilli(), f.texts(p), f.meters(p), f.states(p), f.spoken(), f.point(p)})
	if err != nil {
		panic("console: figures that do not encode: " + err.Error())
	}
	return b
}

// now returns the newest picture and its figures, with those of the own client or
// without them.
func (l *live) now(own bool) (telemetry.Picture, figures) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.of(own)
	return v.picture, v.figures
}

// join counts a viewer; false: there are enough.
func (l *live) join() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watched >= viewersMost {
		return false
	}
	l.watched++
	return true
}

func (l *live) part() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watched--
}

// next returns the newest event, with the own client or without it, and what is closed
// when there is a newer one.
func (l *live) next(own bool) (event []byte, moved <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(own).event, l.moved
}

// serveLive sends events until the viewer leaves, signs out or does not read.
func (c *Console) serveLive(k *call) {
	done, ok := c.watch(k.visit)
	if ok {
		defer done()
		if ok = c.live.join(); ok {
			defer c.live.part()
		}
	}
	if !ok {
		k.w.Header().Set("Retry-After", "30")
		http.Error(k.w, "too many pages watch; close some", http.StatusServiceUnavailable)
		return
	}
	out := http.NewResponseController(k.w)
	out.SetReadDeadline(time.Time{}) // it has been read
	k.w.Header().Set("Content-Type", "text/event-stream")
	k.w.WriteHeader(http.StatusOK)
	out.SetWriteDeadline(time.Now().Add(patience))
	out.Flush()
	_, moved := c.live.next(k.who.Local) // the event that is there may be of before somebody watched
	for {
		select {
		case <-moved:
		case <-k.Context().Done():
			return
		}
		var event []byte
		if event, moved = c.live.next(k.who.Local); event == nil || !c.still(k.visit) {
			return
		}
		out.SetWriteDeadline(time.Now().Add(patience))
		if _, err := fmt.Fprintf(k.w, "data: %s\n\n", event); err != nil || out.Flush() != nil {
			return
		}
	}
}

// spans are the times that a chart may show.
var spans = map[string]time.Duration{"15m": 15 * time.Minute, "1h": time.Hour, "6h": 6 * time.Hour, "24h": ringLong}

// serveHistory answers with the series of a time until now.
func (c *Console) serveHistory(k *call) {
	long, ok := spans[k.URL.Query().Get("span")]
	if !ok {
		http.Error(k.w, "span is 15m, 1h, 6h or 24h", http.StatusBadRequest)
		return
	}
	c.live.mu.Lock()
	s := c.live.ring.last(long)
	c.live.mu.Unlock()
	if cover := s.Cover; c.cfg.Fleet {
		s = s.withoutOwn()
		s.Cover = cover // of all, as nodes report it
	} else if !k.who.Local {
		s = s.withoutOwn()
	}
	k.w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(k.w).Encode(s)
}
