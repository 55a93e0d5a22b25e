package console

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// What the service promises (the specification's objectives), by which figures are
// judged here.
const (
	p95Objective   = 350.0 // ms, at FAST and STANDARD
	failedMost     = 0.001 // share of streams that fail
	coverAlert     = 0.45  // cells without content to cells with
	coverLimit     = 0.60
	loadAlert      = 0.80 // of a node's capacity
	staleDirectory = 10 * time.Minute
)

// figures are what a page shows of a picture. Without an own client those of it are
// none.
type figures struct {
	HasOwn         bool
	P95, P99       float64 // ms, of the last minute; negative: nothing was asked
	Requests       float64 // streams asked for a second, in the last minute
	Carried        float64 // MB/s, as Own
	Own            float64
	Sessions       int // of the own client
	Streams        int
	Ending         int    // sessions that end at Stream nodes
	Asked, Failed  uint64 // in 24 hours
	Routes         int    // that stand
	Rate           int    // cells a second that they emit together; 0: as they come
	Cover          float64
	Up             time.Duration
	Loads          map[string]load // by node
	Alerts         []alert
	LatencyMatters bool   // the level has an objective for it
	Held           uint64 // sessions that a fleet refused in the last minute
}

// load is what a node does.
type load struct {
	Rate  float64 // datagrams a second that it takes in; negative: not known
	Share float64 // of its capacity, likewise
}

func momentOf(p *telemetry.Picture, now time.Time) moment {
	m := moment{at: now, in: map[string]uint64{}}
	if o := p.Own; o != nil {
		m.latency, m.asked, m.answered = o.Latency, o.Asked, o.Answered
		for i := range o.Sessions {
			m.own += o.Sessions[i].Sent + o.Sessions[i].Received
		}
	}
	if p.Fleet != nil {
		m.held = p.Fleet.Held
	}
	for i := range p.Nodes {
		if !p.Nodes[i].Unheard {
			m.in[p.Nodes[i].Name] = p.Nodes[i].DatagramsIn
		}
	}
	return m
}

// grown is by how much a count grew; one that began anew grew by nothing.
func grown(from, to uint64) uint64 { return to - min(from, to) }

// between is what happened from one moment to another.
func between(from, to *moment, p *telemetry.Picture) sample {
	s := unmeasured
	seconds := to.at.Sub(from.at).Seconds()
	if v := to.latency.Since(&from.latency); v.Count > 0 {
		s.p95 = float32(v.Quantile(0.95)) / 1000
	}
	s.asked = uint32(grown(from.asked, to.asked))
	s.failed = s.asked - uint32(min(grown(from.answered, to.answered), uint64(s.asked)))
	if p.Own != nil {
		s.sessions, s.cover = uint32(len(p.Own.Sessions)), float32(p.Own.CoverRatio)
	}
	if f := p.Fleet; f != nil {
		s.cover, s.strain, s.load = float32(f.Cover), float32(f.Strain), float32(f.Load)
	}
	if seconds <= 0 {
		return s
	}
	in := 0.0 // datagrams a second
	if p.Fleet != nil {
		in = p.Fleet.In // not all of its nodes are in the picture
	} else {
		for name, n := range to.in {
			if before, known := from.in[name]; known {
				in += float64(grown(before, n)) / seconds
			}
		}
	}
	if in >= 0 {
		s.carried = float32(in * wire.DatagramSize / 1e6)
	}
	if p.Own != nil {
		s.own = float32(float64(grown(from.own, to.own)) / 1e6 / seconds)
	}
	return s
}

// rateOf is what a node takes in a second, over as much of a window as it is known for;
// negative: it is not known for any of it.
func rateOf(past []moment, node string) float64 {
	last := &past[len(past)-1]
	now, known := last.in[node]
	for i := range past[:len(past)-1] {
		before, there := past[i].in[node]
		if seconds := last.at.Sub(past[i].at).Seconds(); known && there && seconds > 0 {
			return float64(grown(before, now)) / seconds
		}
	}
	return -1
}

// figuresOf judges a picture: s is of the last second, past the moments of the window, of
// which the picture's is the last.
func figuresOf(p *telemetry.Picture, past []moment, s sample, up time.Duration) figures {
	first, m := &past[0], &past[len(past)-1]
	f := figures{P95: -1, P99: -1, Carried: float64(s.carried), Own: -1, Cover: -1, Up: up, Loads: map[string]load{},
		LatencyMatters: p.Level == wire.Fast.String() || p.Level == wire.Standard.String()}
	if p.Own != nil {
		f.own(p.Own, first, m, s)
	}
	if p.Fleet != nil {
		f.Cover, f.Held = p.Fleet.Cover, grown(first.held, m.held)
	}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		f.Ending += max(n.Sessions, 0)
		l := load{Rate: rateOf(past, n.Name)}
		if n.Capacity > 0 {
			l.Share = l.Rate / float64(n.Capacity)
		}
		f.Loads[n.Name] = l
	}
	return f
}

// own adds the figures of the own client.
func (f *figures) own(o *telemetry.OwnPicture, first, m *moment, s sample) {
	f.HasOwn, f.Own, f.Sessions, f.Cover = true, float64(s.own), len(o.Sessions), o.CoverRatio
	v := m.latency.Since(&first.latency)
	if v.Count > 0 {
		f.P95, f.P99 = float64(v.Quantile(0.95))/1000, float64(v.Quantile(0.99))/1000
	}
	if seconds := m.at.Sub(first.at).Seconds(); seconds > 0 {
		f.Requests = float64(grown(first.asked, m.asked)) / seconds
	}
	for i := range o.Sessions {
		f.Streams += o.Sessions[i].Streams
	}
	for i := range o.Routes {
		if o.Routes[i].Ready {
			f.Routes, f.Rate = f.Routes+1, f.Rate+o.Routes[i].Rate
		}
	}
}

// ownPlaces are those of a page that show the own client.
var ownPlaces = []string{"p95", "p99", "requests", "own", "sessions", "streams", "budget", "asked", "failed", "routes", "rate"}

// Budget is the share of the error budget of 24 hours that is left; negative: it is
// overspent.
func (f *figures) Budget() float64 {
	if f.Asked == 0 {
		return 1
	}
	return 1 - float64(f.Failed)/float64(f.Asked)/failedMost
}

// texts are what pages show, by place. They are the same in every language.
func (f *figures) texts(p *telemetry.Picture) map[string]string {
	t := map[string]string{
		"p95": millis(f.P95), "p99": millis(f.P99), "requests": decimal(f.Requests), "carried": decimal(f.Carried), "own": decimal(f.Own),
		"sessions": strconv.Itoa(f.Sessions), "streams": strconv.Itoa(f.Streams), "ending": strconv.Itoa(f.Ending),
		"budget": percent(f.Budget()), "asked": grouped(f.Asked), "failed": grouped(f.Failed), "routes": strconv.Itoa(f.Routes),
		"rate": "—", "cover": "—", "up": clock(f.Up),
	}
	if f.Rate > 0 {
		t["rate"] = strconv.Itoa(f.Rate)
	}
	if f.Cover >= 0 {
		t["cover"] = percent(f.Cover)
	}
	if !f.HasOwn {
		for _, place := range ownPlaces {
			t[place] = "—"
		}
	}
	if p.Fleet != nil {
		f.fleetTexts(p.Fleet, t)
	}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		l, of := f.Loads[n.Name], "node."+n.Name
		t[of+".rate"], t[of+".share"], t[of+".dropped"], t[of+".strain"], t[of+".sessions"] = "—", "—", "—", "—", "—"
		if l.Rate >= 0 {
			t[of+".rate"], t[of+".share"] = grouped(uint64(l.Rate)), percent(l.Share)
		}
		if !n.Unheard {
			t[of+".dropped"], t[of+".strain"] = grouped(n.Dropped), percent(n.Strain)
		}
		if n.Stream && n.Sessions >= 0 {
			t[of+".sessions"] = strconv.Itoa(n.Sessions)
		}
		t[of+".revision"] = strconv.FormatUint(n.Revision, 10)
	}
	return t
}

// meters are shares of 1, by place.
func (f *figures) meters(p *telemetry.Picture) map[string]float64 {
	m := map[string]float64{}
	if f.HasOwn {
		m["budget"] = max(0, f.Budget())
	}
	for name, l := range f.Loads {
		m["node."+name] = math.Round(min(1, max(0, l.Share))*1000) / 1000
	}
	return m
}

// states are ok, warn, bad or leaving, or none where there is no figure, by place.
func (f *figures) states(p *telemetry.Picture) map[string]string {
	s := map[string]string{"p95": "ok", "budget": "ok", "cover": "ok", "rate": "ok"}
	if f.LatencyMatters && f.P95 > p95Objective {
		s["p95"] = "bad"
	}
	switch b := f.Budget(); {
	case b <= 0:
		s["budget"] = "bad"
	case b < 0.25:
		s["budget"] = "warn"
	}
	if f.Rate == 0 {
		s["rate"] = "none"
	}
	switch {
	case f.Cover < 0:
		s["cover"] = "none"
	case f.Cover > coverLimit:
		s["cover"] = "bad"
	case f.Cover > coverAlert:
		s["cover"] = "warn"
	}
	if !f.HasOwn {
		s["p95"], s["budget"] = "none", "none"
	}
	if p.Fleet != nil {
		fleetStates(p.Fleet, s)
	}
	for i := range p.Nodes {
		s["node."+p.Nodes[i].Name] = stateOf(&p.Nodes[i], f.Loads[p.Nodes[i].Name])
	}
	return s
}

func stateOf(n *telemetry.NodePicture, l load) string {
	switch {
	case n.Draining:
		return "leaving"
	case n.Trouble != "":
		return "bad"
	case l.Share > loadAlert || n.Refused != 0 || n.Overloaded || n.Alone:
		return "warn"
	case n.Unheard:
		return "none"
	}
	return "ok"
}

// point is what charts add to their ends.
func (f *figures) point(p *telemetry.Picture) map[string]*float32 {
	value := func(v float64) *float32 {
		if v < 0 {
			return nil
		}
		short := float32(v)
		return &short
	}
	sessions := float64(f.Sessions)
	if !f.HasOwn {
		sessions = -1
	}
	out := map[string]*float32{"p95": value(f.P95), "carried": value(f.Carried), "own": value(f.Own), "cover": value(f.Cover), "sessions": value(sessions)}
	if p.Fleet != nil {
		out["strain"], out["load"] = value(p.Fleet.Strain), value(p.Fleet.Load)
	}
	return out
}

func millis(v float64) string {
	switch {
	case v < 0:
		return "—"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// decimal writes a figure in three digits or so.
func decimal(v float64) string {
	switch {
	case v < 0:
		return "—"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return grouped(uint64(v))
}

// percent writes a share, with a digit after the point where it is small.
func percent(v float64) string {
	if v = 100 * v; math.Abs(v) < 10 && v != math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// grouped writes a number in groups of three digits.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// clock writes a duration as 1:02:03.
func clock(d time.Duration) string {
	s := int64(d / time.Second)
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// bytesOf writes an amount of bytes.
func bytesOf(n uint64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, u := float64(n), 0
	for v >= 1000 && u < len(units)-1 {
		v, u = v/1000, u+1
	}
	if u == 0 {
		return strconv.FormatUint(n, 10) + " B"
	}
	return decimal(v) + " " + units[u]
}
