package console

import (
	"html"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// fleetPicture has two nodes report, of which one is overloaded, and one that does not.
func fleetPicture(f *fakeNetwork) {
	f.change = func(p *telemetry.Picture) {
		p.Own, p.Level, p.Parts = nil, "", nil
		p.Fleet = &telemetry.FleetPicture{Listed: 3, Heard: 2, Overloaded: 1, Strain: 1.25, Load: 0.4, Cover: 0.5, Held: uint64(f.pictures) * 3, Lag: 120 * time.Millisecond, Safe: []string{"north"}}
		p.Nodes[0].Sessions, p.Nodes[0].Overloaded, p.Nodes[0].Strain = -1, true, 1.25
		p.Nodes = append(p.Nodes, telemetry.NodePicture{Name: "far", ID: strings.Repeat("ef", 32), Region: "north", Stream: true, Capacity: 1000, Sessions: -1, Unheard: true})
	}
}

// withFleet is a console of a network on other machines.
func withFleet(t *testing.T) *board {
	return newBoard(t, func(c *Config) {
		c.Fleet, c.Orders = true, nil
		fleetPicture(c.Network.(*fakeNetwork))
	})
}

// TestAFleetHasNoOwnPages: a control process has no client, whose pages are neither there
// nor in the menu, and no way to a node, so that nobody is offered one.
func TestAFleetHasNoOwnPages(t *testing.T) {
	b := withFleet(t)
	for _, lang := range languages {
		w := b.as(Admin)
		w.post("/looks", url.Values{"lang": {lang}, "back": {"/"}})
		for path, holds := range map[string]string{
			"/": `data-live-text="strain"`, "/map": `<rect`, "/relays": html.EscapeString(say(lang, "none.orders")), "/directory": say(lang, "directory.fleet"),
			"/configuration": say(lang, "none.settings"), "/audit": say(lang, "none.audit"), "/scenarios": "DF-001", "/planner": "400",
		} {
			r, page := w.get(path)
			want(t, path, r, http.StatusOK)
			if !strings.Contains(page, holds) || strings.Contains(page, "⟨") || strings.Contains(page, "%!") {
				t.Errorf("%s in %s lacks %q, or a word:\n%s", path, lang, holds, page)
			}
			for _, own := range []string{`href="/sessions"`, `href="/routes"`, `action="/relays/`, `data-live-text="p95"`, `data-series="own"`} {
				if strings.Contains(page, own) {
					t.Errorf("%s of a fleet has %s", path, own)
				}
			}
		}
		for _, path := range []string{"/sessions", "/routes"} {
			r, _ := w.get(path)
			want(t, path, r, http.StatusNotFound)
		}
		r, _ := w.order("/relays/drain", url.Values{"node": {"mix-0"}})
		want(t, "an order", r, http.StatusNotFound)
	}
	if len(b.network.drained) > 0 {
		t.Errorf("%v left", b.network.drained)
	}
}

// TestWhatIsNotKnownIsNoZero: of a node that tells nothing, and of what nodes do not tell,
// pages and events show no figure.
func TestWhatIsNotKnownIsNoZero(t *testing.T) {
	b := withFleet(t)
	b.live.mu.Lock()
	b.live.ring.put(b.clock().Unix()/10-1, sample{p95: -1, own: 0, carried: 3, cover: 0.5, strain: 1.25, load: 0.4})
	b.live.mu.Unlock()
	w := b.as(Viewer)
	e := w.event()
	for place, text := range map[string]string{
		"node.far.rate": "—", "node.far.share": "—", "node.far.dropped": "—", "node.far.strain": "—", "node.far.sessions": "—", "node.stream-0.sessions": "—",
		"p95": "—", "sessions": "—", "budget": "—",
		"node.stream-0.strain": "125", "strain": "125", "heard": "2", "listed": "3", "load": "40", "cover": "50", "lag": "120",
	} {
		if e.Text[place] != text {
			t.Errorf("%s is %q, not %q", place, e.Text[place], text)
		}
	}
	for place, state := range map[string]string{"node.far": "none", "node.stream-0": "warn", "node.mix-0": "ok", "strain": "bad", "heard": "warn", "cover": "warn", "load": "ok"} {
		if e.State[place] != state {
			t.Errorf("%s is %q, not %q", place, e.State[place], state)
		}
	}
	if e.Point["strain"] == nil || *e.Point["strain"] != 1.25 || e.Point["sessions"] != nil || e.Point["p95"] != nil {
		t.Errorf("charts are given %v", e.Point)
	}
	_, page := w.get("/relays")
	row := regexp.MustCompile(`(?s)<th scope="row">far.*?</tr>`).FindString(page)
	if row == "" || regexp.MustCompile(`>0<`).MatchString(row) || !strings.Contains(row, say("en", "node.unheard")) {
		t.Errorf("the row of a node that tells nothing:\n%s", row)
	}
	if _, body := w.get("/history?span=15m"); !strings.Contains(body, `"strain":[1.25`) || !strings.Contains(body, `"cover":[0.5`) || !strings.Contains(body, `"p95":[null`) {
		t.Errorf("the charts of a fleet: %s", body)
	}
}

// TestAlertsOfAFleet, of which no more are told than somebody reads.
func TestAlertsOfAFleet(t *testing.T) {
	f := &fakeNetwork{}
	fleetPicture(f)
	p := f.Picture()
	told := func() (all string, n int) {
		figures := figuresOf(&p, make([]moment, 2), sample{}, 0)
		figures.alert(&p)
		for _, a := range figures.in("en") {
			all += a.Text + "\n"
		}
		return all, len(figures.Alerts)
	}
	said, _ := told()
	for _, part := range []string{"stream-0 is overloaded", "rates are left as they are: north", "The cover ratio is 50 %"} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not told:\n%s", part, said)
		}
	}
	for range 100 {
		p.Nodes = append(p.Nodes, p.Nodes[0])
	}
	if said, n := told(); n != alertsMost+1 || !strings.Contains(said, "And 8") {
		t.Errorf("%d alerts are told:\n%s", n, said)
	}
}

// TestWhoComesWithoutALinkIsToldHow, where there are links.
func TestWhoComesWithoutALinkIsToldHow(t *testing.T) {
	for _, command := range []string{"", "nyx console --data DIR"} {
		b := newBoard(t, func(c *Config) { c.Command = command })
		_, page := b.browser().get("/sign-in")
		if told := strings.Contains(page, "<pre>"); told != (command != "") || !strings.Contains(page, command) {
			t.Errorf("with the command %q the page says:\n%s", command, page)
		}
	}
}

// TestARateIsOfWhatIsKnown: a node that was heard late has a rate over the time since, and
// none at first.
func TestARateIsOfWhatIsKnown(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	past := []moment{{at: begun}, {at: begun.Add(50 * time.Second)}, {at: begun.Add(50 * time.Second), in: map[string]uint64{"late": 1000, "old": 40}}, {at: begun.Add(60 * time.Second), in: map[string]uint64{"late": 3000, "old": 100, "new": 7}}}
	past[0].in = map[string]uint64{"old": 0, "gone": 5}
	for node, rate := range map[string]float64{"late": 200, "old": 100.0 / 60, "new": -1, "gone": -1} {
		if got := rateOf(past, node); got != rate {
			t.Errorf("%s: %v, not %v", node, got, rate)
		}
	}
}

// TestNobodyHeardCarriesNothingKnown: as long as no node reports, the network carries what
// nobody knows, and charts have a gap.
func TestNobodyHeardCarriesNothingKnown(t *testing.T) {
	f := &fakeNetwork{}
	fleetPicture(f)
	begun := time.Unix(1_700_000_000, 0)
	at := func(seconds int, heard int, in float64) (telemetry.Picture, moment) {
		p := f.Picture()
		p.Fleet.Heard, p.Fleet.In = heard, in
		for i := range p.Nodes {
			p.Nodes[i].Unheard = i >= heard
		}
		return p, momentOf(&p, begun.Add(time.Duration(seconds)*time.Second))
	}
	_, first := at(0, 0, -1)
	p, second := at(1, 0, -1)
	if s := between(&first, &second, &p); s.carried >= 0 {
		t.Errorf("of no report %v is carried", s.carried)
	}
	p, third := at(2, 2, 1e6/wire.DatagramSize*3)
	s := between(&second, &third, &p)
	if math.Abs(float64(s.carried)-3) > 1e-6 || s.own >= 0 {
		t.Errorf("of reports %v is carried, and %v for the client that it does not have", s.carried, s.own)
	}
	l := newLive(f, begun)
	l.keep(begun, unmeasured)
	l.keep(begun.Add(time.Second), s)
	if l.pending.carried != s.carried {
		t.Errorf("what was not known counts in the mean: %v", l.pending.carried)
	}
}
